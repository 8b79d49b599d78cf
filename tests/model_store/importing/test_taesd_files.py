"""Pairs of `.pth` files: a tiny autoencoder becomes a model of the store with the same weights."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model_store import CannotImport, Store
from model_store.importing.candidate import Candidate, Wishes
from model_store.importing.sources import read_source

from .conftest import Run, save_pair, sparse, tiny

SHARED = Path("/work/shared/data/taef2")


def read(path: Path, name: str = "new", latent_space: str | None = None) -> Candidate:
    """The candidate that a path gives."""
    return read_source(str(path), Wishes(name, latent_space))


def test_pair_becomes_the_same_network(pair: Path) -> None:
    """The latents and images are the original's, bit for bit, and so is the precision."""
    original, images = tiny().float(), torch.rand(2, 3, 16, 24)
    candidate = read(pair)

    assert {tensor.dtype for tensor in candidate.model.state_dict().values()} == {torch.float16}
    found = candidate.model.float()
    latents = found.encode(images).mean
    assert torch.equal(latents, original.encode(images).mean)
    assert torch.equal(found.decode(latents).mean, original.decode(latents).mean)


@pytest.mark.parametrize(("channels", "has_middle_norm"), [(4, False), (16, False), (32, True)])
def test_channels_and_norms_are_found_from_the_tensors(tmp_path: Path, channels: int, has_middle_norm: bool) -> None:
    """The file says nothing about the network but its tensors."""
    config = read(save_pair(tmp_path, tiny(channels, has_middle_norm=has_middle_norm))).model.config

    assert config.model_dump()["latent_shape"] == (channels, None, None)
    assert config.model_dump()["has_middle_norm"] == has_middle_norm


@pytest.mark.parametrize(
    ("stem", "space"),
    [("taesd", "sd1"), ("taesdxl", "sdxl"), ("taesd3", "sd3"), ("taef1", "flux1"), ("taef2", "flux2"), ("own", "new")],
)
def test_name_of_the_files_tells_the_latent_space(tmp_path: Path, stem: str, space: str) -> None:
    """Unknown files get the name of the model as the name of their space."""
    assert read(save_pair(tmp_path, tiny(), stem)).model.config.model_dump()["latent_space"] == space


def test_latent_space_can_be_given(pair: Path) -> None:
    """The person knows better than the name of a file."""
    assert read(pair, latent_space="other").model.config.model_dump()["latent_space"] == "other"


def test_one_of_the_two_files_is_enough(tmp_path: Path) -> None:
    """In a folder with several pairs the file says which pair is meant."""
    save_pair(tmp_path, tiny(seed=1), "taesd")
    save_pair(tmp_path, tiny(seed=2), "taesdxl")

    candidate = read(tmp_path / "taesdxl_decoder.pth")

    assert [file.name for file in candidate.source.files] == ["taesdxl_encoder.pth", "taesdxl_decoder.pth", "LICENSE"]
    with pytest.raises(CannotImport, match=r"has taesd_encoder\.pth and taesd_decoder\.pth; taesdxl_encoder\.pth"):
        read(tmp_path)


def test_card_says_where_the_weights_come_from(pair: Path, run_import: Run, tmp_path: Path) -> None:
    """Origin, hashes and licence stay with the weights."""
    assert run_import(pair)[0] == 0

    store = Store(tmp_path / "store")
    source = store.card(store.resolve("new")).source

    assert source is not None
    assert (source.kind, source.place) == ("taesd files", "weights")
    assert source.licence == "MIT License\n\nPermission is granted\n"
    assert [file.bytes for file in source.files[:1]] == [(pair / "taesd_encoder.pth").stat().st_size]


def test_published_weights_of_taef2_can_be_imported(run_import: Run) -> None:
    """The weights as their author publishes them."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not on this machine")

    status, text = run_import(SHARED, name="taef2")

    assert (status, "latent space flux2" in text) == (0, True)


class Code:
    """An object that runs a command when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


def half_of(folder: Path) -> Path:
    """The file of the encoder."""
    return folder / "taesd_encoder.pth"


def test_code_in_a_pickle_does_not_run(pair: Path, tmp_path: Path) -> None:
    """`weights_only` refuses everything but tensors."""
    torch.save({"0.weight": Code(tmp_path / "proof")}, half_of(pair))

    with pytest.raises(CannotImport, match="which could run code when it is read"):
        read(pair)

    assert not (tmp_path / "proof").exists()


def test_old_pickles_are_refused_unread(pair: Path) -> None:
    """A file without the zip around it claims sizes that nothing bounds."""
    half_of(pair).write_bytes(pickle.dumps({"0.weight": 1}))

    with pytest.raises(CannotImport, match=r"is not a file of torch\.save of PyTorch 1\.6 or later"):
        read(pair)


def test_file_that_unpacks_to_much_is_refused(pair: Path) -> None:
    """A zip of 40 kB can unpack to 40 MB."""
    with zipfile.ZipFile(half_of(pair), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(40_000_000))

    with pytest.raises(CannotImport, match="unpacks to 40,000,000 bytes"):
        read(pair)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ([1, 2], "holds something else than named tensors"),
        ({"0.weight": 1}, "holds something else than named tensors"),
        ({"0.bias": torch.zeros(3)}, "does not begin and end with a convolution"),
        ({"0.weight": torch.zeros(64, 3, 3, 3)}, r"missing encoder\.0\.bias, .* and 62 more"),
        ({"0.weight": torch.zeros(64, 9, 3, 3)}, "image_shape"),
    ],
)
def test_pickle_of_something_else_is_refused(pair: Path, state: object, reason: str) -> None:
    """The reason names at most a few tensors."""
    torch.save(state, half_of(pair))

    with pytest.raises(CannotImport, match=reason):
        read(pair)


def test_tensor_that_claims_more_values_than_it_has_is_refused(pair: Path) -> None:
    """A stride of zero lets a small file describe a tensor of any size."""
    state = torch.load(half_of(pair), weights_only=True)
    torch.save({**state, "0.bias": torch.zeros(1).expand(10**12)}, half_of(pair))

    with pytest.raises(CannotImport, match=r"encoder\.0\.bias is \(1000000000000,\), expected \(64,\)"):
        read(pair)


def test_cut_file_is_refused(pair: Path) -> None:
    """A download may have ended early."""
    half_of(pair).write_bytes(half_of(pair).read_bytes()[:-100])

    with pytest.raises(CannotImport, match="Copy the files again"):
        read(pair)


def test_damaged_pickle_inside_the_zip_is_refused(pair: Path) -> None:
    """The zip is sound, and the pickle in it is not."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80")
    half_of(pair).write_bytes(content.getvalue())

    with pytest.raises(CannotImport, match="Copy the files again"):
        read(pair)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is not a regular file"),
        (Path.mkdir, "it is not a regular file"),
        (lambda path: path.symlink_to("/etc/passwd"), "it leads out of the folder"),
        (lambda path: path.symlink_to("/dev/zero"), "it leads out of the folder"),
        (sparse, "it is larger than 33554432 bytes"),
    ],
)
def test_hostile_file_is_refused_unread(pair: Path, make: Callable[[Path], object], reason: str) -> None:
    """A pipe would keep the command waiting, and a device has no end."""
    half_of(pair).unlink()
    make(half_of(pair))

    with pytest.raises(CannotImport, match=rf"taesd_encoder\.pth cannot be read: {reason}"):
        read(pair)


def test_half_without_its_other_half_is_refused(pair: Path) -> None:
    """The error says what a folder must hold."""
    half_of(pair).unlink()

    with pytest.raises(CannotImport, match="no encoder with its decoder"):
        read(pair)
