"""Images from IDX files, arrays and folders; and what is said of those that cannot be read."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.errors import BadData, DataNotFound
from training.sources import arrays, folder, idx, read

from .conftest import bars, idx_bytes

SHAPE = (1, 8, 8)

SPLITS = {"train": 10, "valid": 4, "test": 6}


def test_idx_files_are_read_plain_and_packed(idx_folder: Path) -> None:
    """Value for value, with a test set of their own."""
    train, test = read(idx_folder, SHAPE, "none", strict=False)

    assert torch.equal(train, bars(400))
    assert test is not None
    assert torch.equal(test, bars(40))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "fewer than the 16 of an IDX header", id="empty"),
        pytest.param(b"\x00\x00\x08\x01" + bytes(12), "it begins with 0x00000801", id="labels"),
        pytest.param(idx_bytes(bars(2))[:-1], "make 144 bytes, but it has 143", id="cut-off"),
        pytest.param(idx_bytes(bars(2)) + b"x", "make 144 bytes, but it has 145", id="too-long"),
        pytest.param(b"\x00\x00\x08\x03" + bytes(12), "0 images", id="no-images"),
    ],
)
def test_file_that_is_no_idx_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """With what its header says and what it has."""
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)

    with pytest.raises(BadData, match=message):
        idx.read_images(path)


def test_packed_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    """An interrupted copy is no data."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(bars(2)))[:-9])

    with pytest.raises(BadData, match="does not unpack"):
        idx.read_images(path)


def test_npy_holds_training_images(tmp_path: Path) -> None:
    """(N, H, W) means grey."""
    np.save(tmp_path / "bars.npy", bars(10)[:, 0].numpy())

    train, test = read(tmp_path / "bars.npy", SHAPE, "none", strict=False)

    assert torch.equal(train, bars(10))
    assert test is None


@pytest.mark.parametrize("names", [("train", "test"), ("x_train", "x_test")], ids="-".join)
def test_npz_holds_both_sets(tmp_path: Path, names: tuple[str, str]) -> None:
    """Under either of the usual pairs of names, channels last."""
    path = tmp_path / "bars.npz"
    np.savez(path, **{names[0]: bars(10).permute(0, 2, 3, 1).numpy(), names[1]: bars(4)[:, 0].numpy()})

    train, test = arrays.read_arrays(path, (1, 8, 8))

    assert torch.equal(train, bars(10))
    assert test is not None
    assert torch.equal(test, bars(4))


def test_packed_bits_are_black_and_white_images(tmp_path: Path) -> None:
    """A row of bits is an image; those of `valid` join those to train on."""
    path = tmp_path / "static.npz"
    packed = {name: np.packbits(bars(count).flatten(1).numpy() > 0, axis=1) for name, count in SPLITS.items()}
    np.savez(path, **packed)

    train, test = arrays.read_arrays(path, (1, 8, 8))

    assert torch.equal(train, torch.cat([bars(10), bars(4)]))
    assert test is not None
    assert torch.equal(test, bars(6))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        pytest.param(np.zeros((2, 8, 8), np.float32), r"float32 \(2, 8, 8\); expected uint8", id="type"),
        pytest.param(np.zeros((2, 8, 8, 4), np.uint8), r"uint8 \(2, 8, 8, 4\)", id="channels"),
        pytest.param(np.zeros((0, 8, 8), np.uint8), r"uint8 \(0, 8, 8\)", id="empty"),
        pytest.param(np.array([None]), "NumPy cannot read it", id="pickled"),
    ],
)
def test_array_that_is_no_images_is_named(tmp_path: Path, array: np.ndarray, message: str) -> None:
    """With its type and shape; and nothing is ever unpickled."""
    path = tmp_path / "array.npy"
    np.save(path, array, allow_pickle=True)

    with pytest.raises(BadData, match=message):
        arrays.read_arrays(path, (1, 8, 8))


def test_npz_without_images_lists_what_it_has(tmp_path: Path) -> None:
    """And what was expected."""
    path = tmp_path / "labels.npz"
    np.savez(path, labels=np.zeros(3))

    with pytest.raises(BadData, match="it holds labels; expected images, train and test"):
        arrays.read_arrays(path, (1, 8, 8))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with pictures of several kinds and sizes, at several depths, and a text."""
    root = tmp_path / "pictures"
    (root / "deep" / "deeper").mkdir(parents=True)
    Image.new("L", (8, 8), 10).save(root / "a.png")
    Image.new("RGB", (16, 8), "white").save(root / "deep" / "b.jpg")
    Image.new("RGBA", (20, 30), "white").save(root / "deep" / "deeper" / "c.webp")
    (root / "notes.txt").write_text("no picture")
    return root


def test_folder_is_read_to_any_depth_in_order(pictures: Path) -> None:
    """Every picture, brought to size by the recipe's rule."""
    train, test = folder.read_folder(pictures, SHAPE, "stretch", strict=True)

    assert train.shape == (3, 1, 8, 8)
    assert train[:, 0, 0, 0].tolist() == [10, 255, 255]
    assert test is None


def test_broken_picture_is_named_counted_and_skipped(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are used."""
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    train, _ = folder.read_folder(pictures, SHAPE, "cover", strict=False)
    said = capsys.readouterr().out

    assert len(train) == 3
    assert "broken.png" in said
    assert "Skipped 1 of 4 pictures" in said


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's word for it
def test_broken_exif_does_not_stop_a_run(pictures: Path) -> None:
    """The pixels are good; nobody needs the rest."""
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x02\x00\x00\xff\xff\xff\xff"
    Image.new("L", (8, 8)).save(pictures / "camera.jpg", exif=exif)

    train, _ = folder.read_folder(pictures, SHAPE, "cover", strict=True)

    assert len(train) == 4


def test_broken_picture_is_an_error_when_strict(pictures: Path) -> None:
    """By its name."""
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    with pytest.raises(BadData, match=r"broken\.png"):
        folder.read_folder(pictures, SHAPE, "cover", strict=True)


def test_picture_of_another_size_needs_a_rule(pictures: Path) -> None:
    """The remedy is in the message."""
    with pytest.raises(BadData, match=r"it is 8×16, the recipe takes 8×8; set data\.resize"):
        folder.read_folder(pictures, SHAPE, "none", strict=True)


def test_folders_train_and_test_divide_the_data(pictures: Path) -> None:
    """As people lay them out."""
    (pictures / "deep").rename(pictures / "train")
    (pictures / "test").mkdir()
    (pictures / "a.png").rename(pictures / "test" / "a.png")

    train, test = folder.read_folder(pictures, SHAPE, "stretch", strict=True)

    assert len(train) == 2
    assert test is not None
    assert len(test) == 1


@pytest.mark.parametrize("place", ["empty", "nowhere"])
def test_place_without_images_is_an_error(tmp_path: Path, place: str) -> None:
    """Whether it is empty or not there."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataNotFound, match=place):
        read(tmp_path / place, SHAPE, "none", strict=False)
