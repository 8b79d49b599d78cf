"""Images from IDX files, arrays and folders, and the messages about files that cannot be read."""

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, JpegImagePlugin

from model_store.pictures import picture_to_pixels
from training.errors import BadData, DataNotFound
from training.recipe import DataRecipe
from training.sources import arrays, folder, idx, read

from ..conftest import bars, idx_bytes

SHAPE = (1, 8, 8)

SPLITS = {"train": 10, "valid": 4, "test": 6}


def test_idx_files_are_read_plain_and_packed(idx_folder: Path) -> None:
    """All values agree, and the test set is kept."""
    splits = read(idx_folder, SHAPE, DataRecipe(), strict=False)

    assert torch.equal(splits.train, bars(400))
    assert splits.test is not None
    assert torch.equal(splits.test, bars(40))


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
    """The message has the length by the header and the length of the file."""
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)

    with pytest.raises(BadData, match=message):
        idx.read_images(path)


def test_packed_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    """A file that was cut off does not unpack."""
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(bars(2)))[:-9])

    with pytest.raises(BadData, match="does not unpack"):
        idx.read_images(path)


def test_npy_holds_training_images(tmp_path: Path) -> None:
    """An array (N, H, W) holds grey images."""
    np.save(tmp_path / "bars.npy", bars(10)[:, 0].numpy())

    splits = read(tmp_path / "bars.npy", SHAPE, DataRecipe(), strict=False)

    assert torch.equal(splits.train, bars(10))
    assert splits.test is None


@pytest.mark.parametrize("names", [("train", "test"), ("x_train", "x_test")], ids="-".join)
def test_npz_holds_both_sets(tmp_path: Path, names: tuple[str, str]) -> None:
    """Both usual pairs of names are known; channels come last."""
    path = tmp_path / "bars.npz"
    npz(path, **{names[0]: bars(10).permute(0, 2, 3, 1).numpy(), names[1]: bars(4)[:, 0].numpy()})

    splits = arrays.read_arrays(path, (1, 8, 8))

    assert torch.equal(splits.train, bars(10))
    assert splits.test is not None
    assert torch.equal(splits.test, bars(4))


def test_packed_bits_are_black_and_white_images(tmp_path: Path) -> None:
    """A row of bits is an image; the images of `valid` choose the weights."""
    path = tmp_path / "static.npz"
    packed = {name: np.packbits(bars(count).flatten(1).numpy() > 0, axis=1) for name, count in SPLITS.items()}
    npz(path, **packed)

    splits = arrays.read_arrays(path, (1, 8, 8))

    assert splits.validation is not None
    assert splits.test is not None
    assert torch.equal(splits.train, bars(10))
    assert torch.equal(splits.validation, bars(4))
    assert torch.equal(splits.test, bars(6))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        pytest.param(np.ones((2, 8, 8), np.int64), r"int64 \(2, 8, 8\): .* which of them is white", id="type"),
        pytest.param(np.full((2, 8, 8), 255.0), r"float64 \(2, 8, 8\): .* scale them to \[0, 1\]", id="range"),
        pytest.param(np.zeros((2, 8, 8, 5), np.uint8), r"uint8 \(2, 8, 8, 5\)", id="channels"),
        pytest.param(np.zeros((0, 8, 8), np.uint8), r"uint8 \(0, 8, 8\)", id="empty"),
        pytest.param(np.array([None]), "NumPy cannot read it .it holds Python objects", id="pickled"),
    ],
)
def test_array_that_is_no_images_is_named(tmp_path: Path, array: np.ndarray, message: str) -> None:
    """The message has its type and shape; nothing is ever unpickled."""
    path = tmp_path / "array.npy"
    np.save(path, array, allow_pickle=True)

    with pytest.raises(BadData, match=message):
        arrays.read_arrays(path, (1, 8, 8))


def damaged(content: bytes) -> bytes:
    """A file with one byte of its middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def npz(path: Path, **named: np.ndarray) -> bytes:
    """The bytes of a compressed archive of arrays."""
    np.savez_compressed(path, allow_pickle=True, **named)  # said, so that mypy takes no array for it
    return path.read_bytes()


@pytest.mark.parametrize(
    "case", ["empty.npy", "empty.npz", "cut.npy", "cut.npz", "member.npz", "objects.npz", "text.npy"]
)
def test_array_file_that_cannot_be_read_is_one_line(tmp_path: Path, case: str) -> None:
    """The message has the file and the reason, for each way in which NumPy fails."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (50, 8, 8), np.uint8)
    np.save(tmp_path / "whole.npy", images)
    archive = npz(tmp_path / "whole.npz", images=images)
    contents = {
        "empty.npy": b"",
        "empty.npz": b"",
        "cut.npy": (tmp_path / "whole.npy").read_bytes()[:-9],
        "cut.npz": archive[:-9],
        "member.npz": damaged(archive),
        "objects.npz": npz(tmp_path / "pickled.npz", images=np.array([{}], object)),
        "text.npy": b"no array",
    }
    (tmp_path / case).write_bytes(contents[case])

    with pytest.raises(BadData, match=rf"^Cannot use \S+{case}: NumPy cannot read it \(.+\)\.$") as found:
        read(tmp_path / case, SHAPE, DataRecipe(), strict=False)
    assert "\n" not in str(found.value)


def test_float_array_is_scaled(tmp_path: Path) -> None:
    """Many libraries hold images as floats in [0, 1]."""
    np.save(tmp_path / "bars.npy", bars(4)[:, 0].numpy() / np.float32(255))

    assert torch.equal(read(tmp_path / "bars.npy", SHAPE, DataRecipe(), strict=False).train, bars(4))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_of_an_array_is_composited_on_black(tmp_path: Path, mode: str) -> None:
    """An array has the same pixels as the pictures in it."""
    values = np.random.default_rng(0).integers(0, 256, (3, 8, 6, len(mode)), dtype=np.uint8)
    shape = (len(mode) - 1, 8, 6)
    np.save(tmp_path / "array.npy", values)

    images = arrays.read_arrays(tmp_path / "array.npy", shape).train

    pictures = [picture_to_pixels(Image.fromarray(image), shape, "none") for image in values]
    assert np.array_equal(images.numpy(), np.stack(pictures))


def test_arrays_that_are_left_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels are not images."""
    npz(tmp_path / "bars.npz", x_train=bars(4)[:, 0].numpy(), x_val=bars(2)[:, 0].numpy(), y_train=np.zeros(4))

    splits = read(tmp_path / "bars.npz", SHAPE, DataRecipe(), strict=False)

    assert splits.validation is not None
    assert len(splits.validation) == 2
    assert "bars.npz: the arrays y_train." in capsys.readouterr().out


def test_npz_without_images_lists_what_it_has(tmp_path: Path) -> None:
    """The message also lists the expected names."""
    path = tmp_path / "labels.npz"
    np.savez(path, labels=np.zeros(3))

    with pytest.raises(BadData, match="it holds labels; expected images, train and test"):
        arrays.read_arrays(path, (1, 8, 8))


def test_file_without_arrays_or_values_says_so(tmp_path: Path) -> None:
    """A list of no names, or the expected shape beside one that fits it, would not help."""
    np.savez(tmp_path / "none.npz")
    np.save(tmp_path / "none.npy", np.zeros((0, 8, 8), np.uint8))

    with pytest.raises(BadData, match="it holds no arrays; expected images"):
        arrays.read_arrays(tmp_path / "none.npz", (1, 8, 8))
    with pytest.raises(BadData, match=r"an array is uint8 \(0, 8, 8\), which holds no values"):
        arrays.read_arrays(tmp_path / "none.npy", (1, 8, 8))


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
    """Every picture is resized by the recipe's rule."""
    splits = folder.read_folder(pictures, SHAPE, DataRecipe(resize="stretch"), strict=True)

    assert splits.train.shape == (3, 1, 8, 8)
    assert splits.train[:, 0, 0, 0].tolist() == [10, 255, 255]
    assert splits.test is None


def test_broken_picture_is_named_counted_and_skipped(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other pictures are used."""
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    train = folder.read_folder(pictures, SHAPE, DataRecipe(resize="cover"), strict=False).train
    said = capsys.readouterr().out

    assert len(train) == 3
    assert "broken.png" in said
    # `python -m training.evaluate` reads pictures too, and has no flag --strict
    assert "Skipped 1 of 4 pictures; python -m training --strict stops at the first instead." in " ".join(said.split())


def test_broken_exif_does_not_stop_a_run(pictures: Path) -> None:
    """The pixels are good, and metadata is not used."""
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x02\x00\x00\xff\xff\xff\xff"
    Image.new("L", (8, 8)).save(pictures / "camera.jpg", exif=exif)

    train = folder.read_folder(pictures, SHAPE, DataRecipe(resize="cover"), strict=True).train

    assert len(train) == 4


def test_broken_picture_is_an_error_when_strict(pictures: Path) -> None:
    """The error names the picture."""
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    with pytest.raises(BadData, match=r"broken\.png"):
        folder.read_folder(pictures, SHAPE, DataRecipe(resize="cover"), strict=True)


def test_picture_of_another_size_needs_a_rule(pictures: Path) -> None:
    """The remedy is in the message."""
    with pytest.raises(
        BadData, match=r"size than the recipe's 8×8 .* 1 of 8×16, such as \S+b\.jpg; .* set data\.resize"
    ):
        folder.read_folder(pictures, SHAPE, DataRecipe(), strict=True)


def filled(folder: Path, count: int) -> None:
    """A new folder with grey pictures of 8×8 pixels."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("L", (8, 8), number).save(folder / f"{number:05}.png")


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_folders_of_splits_divide_the_data(tmp_path: Path, validation: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The usual names of subfolders are known; a warning names the files outside them."""
    for name, count in {"train": 5, validation: 3, "test": 2, "extra": 1}.items():
        filled(tmp_path / "data" / name, count)

    splits = folder.read_folder(tmp_path / "data", SHAPE, DataRecipe(), strict=True)

    assert splits.validation is not None
    assert splits.test is not None
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [5, 3, 2]
    said = capsys.readouterr().out
    assert "because it is outside" in said
    assert said.endswith(": extra.\n")


def test_folder_without_test_pictures_may_have_a_validation_split(tmp_path: Path) -> None:
    """ImageNet has `train` and `val`."""
    filled(tmp_path / "data" / "train", 5)
    filled(tmp_path / "data" / "val", 3)

    splits = folder.read_folder(tmp_path / "data", SHAPE, DataRecipe(), strict=True)

    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation), splits.test) == (5, 3, None)


def test_two_folders_of_one_split_are_an_error(tmp_path: Path) -> None:
    """The user must decide which folder is meant."""
    for name in ("train", "val", "valid"):
        filled(tmp_path / "data" / name, 1)

    with pytest.raises(BadData, match="val and valid are the same split"):
        folder.read_folder(tmp_path / "data", SHAPE, DataRecipe(), strict=True)


def test_linked_folders_are_followed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link to a folder above itself is a loop, which is not followed."""
    filled(tmp_path / "elsewhere", 2)
    filled(tmp_path / "data" / "deep", 1)
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "deep" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "deep" / "above").symlink_to(tmp_path)

    splits = folder.read_folder(tmp_path / "data", SHAPE, DataRecipe(), strict=True)

    assert len(splits.train) == 3
    assert "2 folders that a link leads to a second time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "picture_format"),
    [("a.jfif", "JPEG"), ("a.avif", "AVIF"), ("a.tif", "TIFF"), ("a.bmp", "BMP"), ("a.gif", "GIF"), ("A.PGM", "PPM")],
)
def test_formats_that_pillow_reads_are_read(tmp_path: Path, name: str, picture_format: str) -> None:
    """All usual suffixes of a format are known, in upper and lower case."""
    Image.new("L", (8, 8), 77).save(tmp_path / name, picture_format)

    assert len(folder.read_folder(tmp_path, SHAPE, DataRecipe(), strict=True).train) == 1


def test_format_that_is_not_named_is_never_opened(tmp_path: Path) -> None:
    """An EPS would start Ghostscript, under any suffix."""
    Image.new("L", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")

    with pytest.raises(BadData, match="not a picture of a format that can be read"):
        folder.read_folder(tmp_path, SHAPE, DataRecipe(), strict=True)


def test_files_that_are_left_out_are_counted_by_suffix(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """HEIC is a picture, but Pillow cannot read it."""
    for number in range(3):
        (pictures / "deep" / f"{number}.HEIC").write_bytes(b"heic")
    (pictures / "README").write_text("no suffix")

    folder.read_folder(pictures, SHAPE, DataRecipe(resize="stretch"), strict=True)

    assert "5 files without the suffix of a picture that can be read: 3 .heic, " in capsys.readouterr().out


def test_hidden_and_generated_files_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Thumbnails and resource forks are not data."""
    filled(tmp_path / "data", 2)
    filled(tmp_path / "data" / ".thumbnails", 1)
    filled(tmp_path / "data" / "@eaDir", 1)
    (tmp_path / "data" / "._00000.png").write_bytes(b"fork")

    splits = folder.read_folder(tmp_path / "data", SHAPE, DataRecipe(), strict=True)

    assert len(splits.train) == 2
    assert "3 hidden or generated: ._00000.png, .thumbnails, @eaDir" in capsys.readouterr().out


def test_picture_of_too_many_pixels_is_named_in_our_words(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pillow's own words speak of an attack; the trainer must know only the limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    with pytest.raises(DataNotFound):
        folder.read_folder(pictures, SHAPE, DataRecipe(resize="cover"), strict=False)

    said = " ".join(capsys.readouterr().out.split())
    assert "it has more than 178,956,970 pixels; save it smaller" in said
    assert "attack" not in said


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_animation_is_named_and_skipped(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first frame of an animation may be empty."""
    filled(tmp_path / "data", 1)
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
    frames[0].save(tmp_path / "data" / f"moving.{suffix}", save_all=True, append_images=frames[1:])

    splits = folder.read_folder(tmp_path / "data", SHAPE, DataRecipe(), strict=False)

    assert len(splits.train) == 1
    assert f"moving.{suffix}: it has several frames" in capsys.readouterr().out


def test_lab_picture_is_named_counted_and_skipped(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pillow opens it, but cannot convert it."""
    Image.new("LAB", (8, 8)).save(pictures / "lab.tif")

    train = folder.read_folder(pictures, SHAPE, DataRecipe(resize="cover"), strict=False).train
    said = capsys.readouterr().out

    assert len(train) == 3
    assert "lab.tif: its colours are LAB" in said
    assert "Skipped 1 of 4 pictures" in said


@pytest.mark.parametrize(
    "error",
    [
        OSError("broken"),
        SyntaxError("broken"),
        ValueError("broken"),
        struct.error("broken"),
        zlib.error("broken"),
        Image.DecompressionBombError("broken"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("where", ["load", "convert"])
def test_every_error_of_pillow_skips_its_picture(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other pictures are used, whichever step fails."""

    def fail(picture: Image.Image, *_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, where, fail)

    train = folder.read_folder(pictures, SHAPE, DataRecipe(resize="cover"), strict=False).train

    said = capsys.readouterr().out

    assert len(train) == 2
    assert "b.jpg: " in said
    assert "Skipped 1 of 3 pictures" in said


def test_pictures_of_another_size_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message has their count, their size and the remedy."""
    filled(tmp_path / "data", 300)

    with pytest.raises(BadData, match=r"300 of 300 pictures .* 16×16 .* 300 of 8×8, .* set data\.resize to contain"):
        folder.read_folder(tmp_path / "data", (1, 16, 16), DataRecipe(), strict=False)
    assert capsys.readouterr().out == ""


def test_many_broken_pictures_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the first twenty."""
    filled(tmp_path / "data", 1)
    for number in range(300):
        (tmp_path / "data" / f"broken-{number}.png").write_bytes(b"")

    folder.read_folder(tmp_path / "data", SHAPE, DataRecipe(), strict=False)
    said = capsys.readouterr().out

    assert len(said.splitlines()) == 21
    assert "Skipped 300 of 301 pictures, 280 more than are named here" in said


def test_picture_that_is_not_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken link, and a pipe that would never end."""
    filled(tmp_path / "data", 1)
    (tmp_path / "data" / "broken.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "data" / "pipe.png")

    folder.read_folder(tmp_path / "data", SHAPE, DataRecipe(), strict=False)
    said = capsys.readouterr().out

    assert "broken.png: it is not a file, or is a link that leads nowhere" in said
    assert "pipe.png: it is not a file" in said


def test_file_names_outside_utf8_are_read_and_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name in Latin-1 is printed with escapes."""
    filled(tmp_path / "data", 1)
    Path(os.fsdecode(bytes(tmp_path / "data") + b"/\xe9t\xe9.png")).write_bytes(b"broken")

    folder.read_folder(tmp_path / "data", SHAPE, DataRecipe(), strict=False)

    assert r"\udce9t\udce9.png" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["empty", "nowhere"])
def test_place_without_images_is_an_error(tmp_path: Path, place: str) -> None:
    """The folder may be empty or missing."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataNotFound, match=f"{place}: it (does not exist|has no pictures)"):
        read(tmp_path / place, SHAPE, DataRecipe(), strict=False)
