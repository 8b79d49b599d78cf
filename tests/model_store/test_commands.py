"""`python -m model_store` as a person calls it."""

import pytest

from model_store import ModelVersion, Store
from model_store.__main__ import main

from .test_verify import flip_byte


def run(store: Store, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and what was printed."""
    status = main([*arguments, "--store", str(store.root)])
    return status, capsys.readouterr().out


def test_list_shows_a_row_for_each_version(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, shapes, size and score at a glance."""
    status, text = run(store, "list", capsys=capsys)

    assert status == 0
    assert all(word in text for word in ("grey@1", "colour@1", "1×8×8", "2×4×4", "-91.5"))


def test_show_prints_the_card_and_the_protocol_of_each_number(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """A number without its protocol means nothing."""
    status, text = run(store, "show", "grey", capsys=capsys)

    assert status == 0
    assert all(word in text for word in ("grey@1", "elbo_nats", "none, the weights are random"))


def test_verify_passes_a_sound_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Every version is read as the service would read it."""
    status, text = run(store, "verify", capsys=capsys)

    assert (status, "2 of 2 versions are sound." in text) == (0, True)


def test_verify_names_the_broken_version(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are still checked, and the exit status says that something is wrong."""
    flip_byte(store.folder(ModelVersion("colour", 1)) / "weights.safetensors")

    status, text = run(store, "verify", capsys=capsys)

    assert status == 1
    assert "✗ colour@1" in text
    assert "✓ grey@1" in text
    assert "1 of 2 versions are sound." in text


def test_broken_card_is_shown_in_the_list(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """One bad card does not hide the others."""
    card = store.folder(ModelVersion("colour", 1)) / "card.json"
    card.chmod(0o644)
    card.write_text("{}")

    status, text = run(store, "list", capsys=capsys)

    assert status == 0
    assert "broken" in text
    assert "grey@1" in text


def test_unknown_model_is_an_error_in_one_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """What there is stands in it."""
    status, text = run(store, "show", "blue", capsys=capsys)

    assert status == 1
    assert text.strip() == "No model blue; there is colour@1, grey@1."


def test_missing_store_is_an_error_in_one_line(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback."""
    status, text = run(Store(store.root / "nowhere"), "list", capsys=capsys)

    assert status == 1
    assert text.count("\n") == 1
