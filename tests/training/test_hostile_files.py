"""Files of strangers: pipes are not waited for, and sizes are compared with the memory before anything is read."""

import gzip
import io
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model_store import free_memory
from training import checkpoint
from training.errors import BadData, BadRecipe, RunNotFound
from training.loop import start
from training.recipe import DataRecipe, Recipe, read_recipe
from training.sources import arrays, folder, idx, read

from .conftest import bars, idx_bytes

CPU = torch.device("cpu")


def make_socket(path: Path) -> None:
    """Bind a socket to a path; it stays there when the socket is closed."""
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))


# what can be in a file's place; to open the first two could take an endless time, or could have an effect
OTHER_KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "socket": make_socket,
    "folder": os.mkdir,
    "loop": lambda path: path.symlink_to(path),
    "nowhere": lambda path: path.symlink_to("nowhere"),
}


def read_picture(path: Path) -> None:
    """Read a picture, and raise the reason why it cannot be read."""
    result = folder.read_picture(path, (1, 8, 8), DataRecipe())
    assert isinstance(result, BadData)
    raise result


READERS: dict[str, Callable[[Path], object]] = {
    "recipe.toml": lambda path: read_recipe(str(path)),
    "run.json": lambda path: checkpoint.describe(path.parent),
    "checkpoint.pt": lambda path: checkpoint.load(path.parent, CPU),
    "train-images-idx3-ubyte": idx.read_images,
    "train-images-idx3-ubyte.gz": idx.read_images,
    "images.npy": lambda path: arrays.read_arrays(path, (1, 8, 8)),
    "images.npz": lambda path: arrays.read_arrays(path, (1, 8, 8)),
    "picture.png": read_picture,
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("name", READERS)
def test_only_a_regular_file_is_read(tmp_path: Path, name: str, kind: str) -> None:
    """Everything else has an error that names it, at once."""
    path = tmp_path / name
    OTHER_KINDS[kind](path)

    with pytest.raises((BadData, BadRecipe, RunNotFound), match=str(tmp_path)):
        READERS[name](path)


@pytest.fixture
def mib_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one MiB of free memory."""
    (tmp_path / "meminfo").write_text("MemAvailable: 1024 kB\n")
    monkeypatch.setattr(free_memory, "MACHINE", tmp_path / "meminfo")


def sparse(path: Path, header: bytes, size: int) -> None:
    """Write a file that has a header, then zeros that take no space on the disk."""
    path.write_bytes(header)
    os.truncate(path, size)


@pytest.mark.usefixtures("mib_free")
def test_idx_file_that_does_not_fit_into_the_memory_is_not_read(tmp_path: Path) -> None:
    """Its header tells the truth."""
    path = tmp_path / "train-images-idx3-ubyte"
    sparse(path, struct.pack(">4I", 0x803, 5, 2**15, 2**15), 16 + 5 * 2**30)

    with pytest.raises(BadData, match=r"takes 10,737,418,272 bytes of memory, but only 1,048,576 are free"):
        idx.read_images(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("sides", [(2**32 - 1,) * 3, (1, 2**16, 2**16)], ids=["largest", "large"])
def test_idx_header_that_lies_takes_no_memory(tmp_path: Path, suffix: str, sides: tuple[int, int, int]) -> None:
    """The file could not unpack to that size."""
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    content = struct.pack(">4I", 0x803, *sides) + bytes(100)
    path.write_bytes(gzip.compress(content) if suffix else content)

    with pytest.raises(BadData, match="bytes, but it has "):
        idx.read_images(path)


def test_packed_idx_file_that_goes_on_is_not_unpacked_to_its_end(tmp_path: Path) -> None:
    """The header says 2 images; 64 MiB of zeros follow them."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(idx_bytes(bars(2)))
        file.write(bytes(2**26))

    with pytest.raises(BadData, match="make 144 bytes, but it has more"):
        idx.read_images(path)


@pytest.mark.usefixtures("mib_free")
@pytest.mark.parametrize("name", ["images.npy", "images.npz"])
def test_array_file_that_does_not_fit_into_the_memory_is_not_read(tmp_path: Path, name: str) -> None:
    """A sparse file, and an archive of 4 MiB of zeros in 4 kB."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (64, 256, 256)})
    sparse(tmp_path / "images.npy", header.getvalue(), len(header.getvalue()) + 2**22)
    np.savez_compressed(tmp_path / "images.npz", images=np.zeros((64, 256, 256), np.uint8))

    with pytest.raises(BadData, match="bytes of memory, but only 1,048,576 are free; name fewer images"):
        arrays.read_arrays(tmp_path / name, (1, 256, 256))


def test_archive_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    """The list of the archive says 100 bytes for an array of a MiB."""
    path = tmp_path / "images.npz"
    np.savez_compressed(path, images=np.zeros((16, 256, 256), np.uint8))
    with zipfile.ZipFile(path) as archive:
        (member,) = archive.infolist()
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", member.file_size), struct.pack("<I", 100)))

    with pytest.raises(BadData, match="NumPy cannot read it"):
        arrays.read_arrays(path, (1, 256, 256))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a." * 20_000 + "a = 1", "nested too deeply|a is not known"),
        ("#" * (2**20 + 1), "larger than 1048576 bytes"),
        ("\0", "at line 1, column 1"),
    ],
    ids=["arrays", "tables", "large", "binary"],
)
def test_recipe_that_is_not_one_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    """Its depth and its size have bounds."""
    (tmp_path / "recipe.toml").write_text(text)

    with pytest.raises(BadRecipe, match=reason):
        read_recipe(str(tmp_path / "recipe.toml"))


@pytest.mark.parametrize("content", [b"[" * 100_000, b" " * (2**20 + 1), b"\xff", b"[]"])
def test_description_of_a_run_that_is_not_one_is_one_line(tmp_path: Path, content: bytes) -> None:
    """Its depth and its size have bounds."""
    (tmp_path / "run.json").write_bytes(content)

    with pytest.raises(RunNotFound, match=r"run\.json"):
        checkpoint.describe(tmp_path)


def test_checkpoint_that_unpacks_to_more_than_its_file_is_not_read(tmp_path: Path) -> None:
    """A file of torch is an archive that packs nothing; packed zeros could take any memory."""
    torch.save({"model": torch.zeros(2**20)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "checkpoint.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))

    with pytest.raises(RunNotFound, match=r"checkpoint\.pt cannot be read \(its parts are compressed"):
        checkpoint.load(tmp_path, CPU)


@pytest.mark.parametrize("part", ["model", "average", "optimiser", "best_weights", "best_epoch", "history"])
@pytest.mark.parametrize("value", [None, "text", [7], {"a": 7}, {"a": torch.zeros(1)}], ids=repr)
def test_checkpoint_with_other_parts_is_refused_before_the_run(recipe: Recipe, part: str, value: object) -> None:
    """A part that fails later would end the run with a traceback."""
    run = start(recipe, CPU)

    with pytest.raises((AttributeError, KeyError, RuntimeError, TypeError, ValueError)):
        run.restore({**run.state(), part: value})


@pytest.mark.usefixtures("mib_free")
def test_checkpoint_that_does_not_fit_into_the_memory_is_not_read(tmp_path: Path) -> None:
    """Its zeros take no space on a disk that supports sparse files."""
    torch.save({"model": torch.zeros(2**18)}, tmp_path / "checkpoint.pt")

    with pytest.raises(RunNotFound, match=r"bytes of memory, but only 1,048,576 are free"):
        checkpoint.load(tmp_path, CPU)


@pytest.mark.usefixtures("mib_free")
def test_network_that_does_not_fit_into_the_memory_is_an_error(recipe: Recipe) -> None:
    """A recipe of a stranger may name the largest network."""
    network = recipe.model.network.model_copy(update={"hidden": (8192,) * 16})
    large = recipe.model_copy(update={"model": recipe.model.model_copy(update={"network": network})})

    with pytest.raises(BadRecipe, match=r"to train its network takes .* bytes of memory, but only 1,048,576 are free"):
        start(large, CPU)


@pytest.mark.usefixtures("mib_free")
def test_picture_that_does_not_fit_into_the_memory_is_skipped(tmp_path: Path) -> None:
    """A picture of one colour is a small file, and has any number of pixels."""
    Image.new("1", (2**12, 2**12)).save(tmp_path / "picture.png")

    with pytest.raises(BadData, match=r"picture\.png: to read its images takes 402,653,184 bytes of memory"):
        read_picture(tmp_path / "picture.png")


@pytest.mark.usefixtures("mib_free")
def test_images_that_fit_only_before_they_are_unpacked_or_resized_are_refused(tmp_path: Path) -> None:
    """Packed bits become 8 times, and small images as large as the recipe says."""
    np.save(tmp_path / "bits.npy", np.zeros((50_000, 8), np.uint8))
    np.save(tmp_path / "small.npy", np.zeros((2, 1, 1), np.uint8))

    with pytest.raises(BadData, match="takes 6,400,000 bytes"):
        arrays.read_arrays(tmp_path / "bits.npy", (1, 8, 8))
    with pytest.raises(BadData, match="takes 4,194,304 bytes"):
        read(tmp_path / "small.npy", (1, 1024, 1024), DataRecipe(resize="stretch"), strict=False)


@pytest.mark.usefixtures("mib_free")
def test_pictures_that_do_not_fit_into_the_memory_together_are_kept_in_the_cache(tmp_path: Path) -> None:
    """The number of files and the shape of the recipe say how much they take."""
    for number in range(3):
        Image.new("L", (8, 8), 77).save(tmp_path / f"{number}.png")
    shape, cache = (1, 1024, 1024), tmp_path / ".cache"

    train = read(tmp_path, shape, DataRecipe(resize="stretch"), strict=False, cache=cache).train

    assert (train.shape, train.unique().tolist()) == ((3, *shape), [77])
    assert [path.stat().st_size for path in cache.rglob("*.bin")] == [3 * 2**20]
