"""Repositories of Hugging Face, served on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from model_store import CannotImport, MissingExtra, Store
from model_store.importing.candidate import Candidate, Wishes
from model_store.importing.hub import names_repository
from model_store.importing.sources import read_source

from ..library_models import library_model
from .conftest import Run
from .hub_server import COMMIT, Hub, serve_hub

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A repository of a pipeline: an autoencoder in `vae`, and large files that an import does not need."""
    folder = tmp_path / "repository"
    library_model("AutoencoderKL").save_pretrained(folder / "vae")
    library_model("AutoencoderKL").half().save_pretrained(folder / "vae", variant="fp16")
    (folder / "unet").mkdir()
    (folder / "unet" / WEIGHTS).write_bytes(bytes(1000))
    (folder / "README.md").write_text("text")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve_hub(folder) as served:
        template = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served


def read(source: str = "owner/name") -> Candidate:
    """The candidate that a repository gives."""
    return read_source(source, Wishes("new"))


def test_only_the_needed_files_are_downloaded(hub: Hub) -> None:
    """The configuration and the weights in full precision."""
    candidate = read()

    assert [name for name, _ in hub.sent] == ["vae/config.json", f"vae/{WEIGHTS}"]
    assert (candidate.source.kind, candidate.source.place) == ("hugging face", f"owner/name:vae@{COMMIT}")
    assert [file.name for file in candidate.source.files] == ["config.json", WEIGHTS]
    assert candidate.source.licence == "mit"


@pytest.mark.parametrize("source", ["owner/name:vae", "owner/name@main", "owner/name:vae@main"])
def test_subfolder_and_revision_can_be_named(hub: Hub, source: str) -> None:
    """The card has the commit in every case."""
    assert read(source).source.place == f"owner/name:vae@{COMMIT}"


def test_second_import_downloads_nothing(hub: Hub) -> None:
    """The library's cache has the files."""
    read()
    hub.sent.clear()
    read()

    assert hub.sent == []


def test_download_that_was_cut_goes_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks for the rest of the file, and the bytes are counted once."""
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.cut[f"vae/{WEIGHTS}"] = 50_000
    told: list[tuple[int, int]] = []

    read_source("owner/name", Wishes("new"), lambda there, total: told.append((there, total)))

    size = (hub.folder / "vae" / WEIGHTS).stat().st_size
    assert [span for name, span in hub.sent if name.endswith(WEIGHTS)] == [None, "bytes=50000-"]
    assert told[-1] == (size, size)


def test_shards_are_downloaded(hub: Hub) -> None:
    """An index names the files of a large model."""
    library_model("AutoencoderKL").save_pretrained(hub.folder / "large", max_shard_size="30KB")

    files = [file.name for file in read("owner/name:large").source.files]

    assert files[:2] == ["config.json", f"{WEIGHTS}.index.json"]
    assert len(files) > 4


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("owner/other", "404"),
        ("owner/name@other", "404"),
        ("owner/name:unet", "it has no unet/config.json"),
    ],
)
def test_repository_that_does_not_fit_is_refused(hub: Hub, source: str, reason: str) -> None:
    """The error names the fault."""
    with pytest.raises(CannotImport, match=reason):
        read(source)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_files_that_claim_too_much_are_not_downloaded(hub: Hub, name: str) -> None:
    """The sizes in the listing are compared with the network before the weights are downloaded."""
    hub.claimed[f"vae/{name}"] = 100_000_000_000

    with pytest.raises(CannotImport, match="100,000,000,000 bytes"):
        read()

    assert f"vae/{name}" not in dict(hub.sent)


def test_repository_of_pickles_is_refused_before_a_download(hub: Hub) -> None:
    """The error says how to convert it."""
    for file in (hub.folder / "vae").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))

    with pytest.raises(CannotImport, match="safe_serialization=True"):
        read()

    assert [name for name, _ in hub.sent] == ["vae/config.json"]


def test_index_that_names_files_outside_is_refused(hub: Hub) -> None:
    """A name such as ../x is not a file of the folder."""
    (hub.folder / "vae" / WEIGHTS).unlink()
    (hub.folder / "vae" / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))

    with pytest.raises(CannotImport, match="which is not a"):
        read()


def test_server_that_is_away_is_told_in_one_line(
    tmp_path: Path, run_import: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a network gets the remedy."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")

    status, text = run_import("owner/name")

    assert (status, text.count("\n")) == (1, 1)
    assert text.startswith("Cannot import owner/name: ")
    assert not (tmp_path / "store").exists()


def test_missing_library_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is an extra."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    with pytest.raises(MissingExtra, match=r"pip install 'latentd\[hub\]'"):
        read()


@pytest.mark.parametrize(
    "source", ["owner", "/owner/name", "./owner/name", "owner/name/more", "owner/../x", "o/n:../x"]
)
def test_other_texts_are_not_repositories(source: str) -> None:
    """A path that does not exist is not looked for in the network."""
    assert not names_repository(source)


def test_command_reads_the_address_from_the_environment(hub: Hub, pictures: Path, tmp_path: Path) -> None:
    """`HF_ENDPOINT` and `HF_HOME` are the library's own variables."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    store = Store(tmp_path / "store")
    command = ["import", "owner/name", "--name", "new", "--store", str(store.root), "--pictures", str(pictures)]

    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "model_store", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert store.load(store.resolve("new")).card.source is not None
