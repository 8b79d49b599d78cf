"""`python -m model_store import` as a person calls it."""

import signal
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from model_store import Store
from model_store.__main__ import main
from model_store.importing import command

from ...signalled import signalled
from .conftest import Run, published


def test_import_publishes_and_shows_what_was_measured(pair: Path, run_import: Run, tmp_path: Path) -> None:
    """The numbers that a person sees are in the card, each with its protocol."""
    status, text = run_import(pair)

    store = Store(tmp_path / "store")
    card = store.card(store.resolve("new"))
    assert status == 0
    assert "new@1  latent space sd1" in text
    assert "curl --data-binary @photo.png" in text
    assert {"psnr_float32_db", "psnr_bfloat16_db", "encode_agreement_db", "decode_agreement_db"} <= {
        metric.name for metric in card.metrics
    }
    assert all("1 picture cropped to 40×32: small.png" in metric.protocol for metric in card.metrics)


def test_generated_picture_is_not_called_a_photograph(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without pictures the card says honestly what its numbers were measured on."""
    monkeypatch.setattr("model_store.importing.trial_pictures.GENERATED_SIDE", 16)

    status = main(["import", str(pair), "--name", "new", "--store", str(tmp_path / "store")])

    assert status == 0
    assert (
        "on 1 thread of a CPU on one generated picture of 3×16×16, which is not a photograph."
        in capsys.readouterr().out
    )


def test_licence_can_be_given(pair: Path, run_import: Run, tmp_path: Path) -> None:
    """The text of the option replaces the file."""
    run_import(pair, "--licence", "CC0")

    store = Store(tmp_path / "store")
    source = store.card(store.resolve("new")).source
    assert source is not None
    assert source.licence == "CC0"


def test_imported_model_is_shown_and_verified(pair: Path, run_import: Run, tmp_path: Path) -> None:
    """The other commands know the model like every other."""
    run_import(pair)
    store = Store(tmp_path / "store")

    assert store.load(store.resolve("new")).card.model.model_dump()["family"] == "taesd"


@pytest.mark.parametrize("name", ["../evil", "", "a b"])
def test_bad_name_is_refused_before_anything_is_read(name: str, run_import: Run, tmp_path: Path) -> None:
    """The source does not exist, but the name is refused first."""
    status, text = run_import(tmp_path / "nowhere", name=name)

    assert (status, "is not the name of a model" in text) == (1, True)


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_source_of_no_known_kind_is_refused(kind: str, run_import: Run, tmp_path: Path) -> None:
    """The error lists the kinds of sources."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")

    status, text = run_import(tmp_path / kind)

    assert status == 1
    assert text.startswith(f"Cannot import {tmp_path / kind}: there is no model of a known kind")
    assert not (tmp_path / "store").exists()


def test_weights_that_are_not_numbers_are_refused(pair: Path, run_import: Run, tmp_path: Path) -> None:
    """A tensor with NaN is named, and nothing is in the store."""
    state = torch.load(pair / "taesd_decoder.pth", weights_only=True)
    state["19.bias"][0] = float("nan")
    torch.save(state, pair / "taesd_decoder.pth")

    status, text = run_import(pair)

    assert (status, "decoder.19.bias has values that are not finite" in text) == (1, True)
    assert not (tmp_path / "store").exists()


def test_latents_that_overflow_are_refused(pair: Path, run_import: Run, tmp_path: Path) -> None:
    """Each weight is finite, but their products are not."""
    state = torch.load(pair / "taesd_encoder.pth", weights_only=True)
    torch.save({name: tensor.float().sign() * 3e38 for name, tensor in state.items()}, pair / "taesd_encoder.pth")
    state = torch.load(pair / "taesd_decoder.pth", weights_only=True)
    torch.save({name: tensor.float() for name, tensor in state.items()}, pair / "taesd_decoder.pth")

    status, text = run_import(pair)

    assert (status, "its latents or images are not finite in float32" in text) == (1, True)
    assert published(tmp_path / "store") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_nothing_in_the_store(
    number: signal.Signals, pair: Path, run_import: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the new version is read back removes the unfinished folder; the status is that of the signal."""
    monkeypatch.setattr("model_store.store._read", lambda *_: signal.raise_signal(number))

    status, text = run_import(pair)

    assert status == 128 + number
    assert text == "Stopped.\n"
    assert published(tmp_path / "store") == []


def test_signal_before_the_command_ends_it(store: Store, pair: Path, tmp_path: Path) -> None:
    """The imports take seconds."""
    arguments = ["import", str(pair), "--name", "new", "--store", str(store.root)]
    result = signalled([sys.executable, "-m", "model_store", *arguments], signal.SIGINT, tmp_path)

    assert (result.returncode, result.stderr) == (130, "")
    assert not (store.root / "new").exists()


def test_card_without_a_source_keeps_its_text(store: Store) -> None:
    """Cards of models that were trained here are written as before."""
    text = (store.folder(store.resolve("grey")) / "card.json").read_text()

    assert '"source"' not in text
    assert store.card(store.resolve("grey")).to_json() == text


def test_show_names_source_and_licence(
    pair: Path, run_import: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line of the licence is enough there."""
    run_import(pair)

    main(["show", "new", "--store", str(tmp_path / "store")])

    text = capsys.readouterr().out
    assert "taesd files weights, read on " in text
    assert "taesd_decoder.pth; sha256 " in text
    assert "MIT License" in text
    assert "Permission is granted" not in text


@pytest.mark.parametrize("text", ["", "x" * 60_000])
def test_licence_that_no_card_can_hold_is_refused(
    pair: Path, run_import: Run, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong call has the exit status 2."""
    with pytest.raises(SystemExit) as caught:
        run_import(pair, "--licence", text)

    assert caught.value.code == 2
    assert "it must have 1 to 50,000 characters" in capsys.readouterr().err


@pytest.mark.parametrize("space", ["Capital", "a b", " ", "x" * 65])
def test_latent_space_that_no_card_can_hold_is_refused(pair: Path, run_import: Run, space: str) -> None:
    """A name has small letters, digits, '.', '_' and '-'."""
    status, text = run_import(pair, "--latent-space", space)

    assert (status, "latent_space must match" in text) == (1, True)


def test_progress_is_not_written_into_a_file() -> None:
    """A log would hold the bar."""
    assert command._progress(Console(force_terminal=False)).disable
