"""Pictures to pixels: upright, on black, in the model's channels and size."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from model_store.pictures import (
    Resize,
    UnusablePicture,
    columns_of_grid,
    contact_sheet,
    picture_to_pixels,
    pixels_to_picture,
    to_uint8,
)


def striped(width: int, height: int) -> Image.Image:
    """A grey picture with a white left half."""
    values = np.zeros((height, width), np.uint8)
    values[:, : width // 2] = 255
    return Image.fromarray(values)


def test_grey_picture_is_taken_as_it_is() -> None:
    """The pixels are (1, H, W), with the same values."""
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)

    assert np.array_equal(picture_to_pixels(Image.fromarray(values), (1, 3, 4), "none"), values[None])


def test_colour_picture_has_channels_first() -> None:
    """The pixels are (3, H, W)."""
    pixels = picture_to_pixels(Image.new("RGB", (4, 3), (10, 20, 30)), (3, 3, 4), "none")

    assert pixels.shape == (3, 3, 4)
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_becomes_the_models_channels(mode: str) -> None:
    """A white picture is white in grey and in colour, in every mode that it was saved in."""
    white = Image.new("RGB", (4, 4), "white").convert(mode)

    assert picture_to_pixels(white, (1, 4, 4), "none").tolist() == [[[255] * 4] * 4]
    assert picture_to_pixels(white, (3, 4, 4), "none").tolist() == [[[255] * 4] * 4] * 3


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_black(mode: str) -> None:
    """Half transparent white is half grey, as over a black ground."""
    white = Image.new("RGBA", (1, 1), (255, 255, 255, 128)).convert(mode)

    assert picture_to_pixels(white, (1, 1, 1), "none").item() == 128


def test_transparent_palette_is_black() -> None:
    """A palette may have a transparent entry."""
    picture = Image.new("P", (1, 1), 0)
    picture.putpalette([255, 255, 255])
    picture.info["transparency"] = 0

    assert picture_to_pixels(picture, (1, 1, 1), "none").item() == 0


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    """The range 0 … 65535 becomes 0 … 255."""
    values = np.array([[0, 257, 32896, 65535]], np.uint16)

    assert picture_to_pixels(Image.fromarray(values), (1, 1, 4), "none").flatten().tolist() == [0, 1, 128, 255]


def reread(picture: Image.Image, picture_format: str) -> Image.Image:
    """A picture that was saved and opened again."""
    file = io.BytesIO()
    picture.save(file, picture_format)
    return Image.open(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("picture_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_files_are_scaled(picture_format: str) -> None:
    """Pillow opens each of these formats in a mode of its own."""
    picture = reread(Image.fromarray(np.array([[0, 32896, 65535]], np.uint16)), picture_format)

    assert picture_to_pixels(picture, (1, 1, 3), "none").flatten().tolist() == [0, 128, 255]


def test_twelve_bit_file_is_scaled_by_its_own_maximum() -> None:
    """A PGM names its maximum, so the brightest value is white."""
    picture = Image.open(io.BytesIO(b"P5 2 1 4095\n" + np.array([0, 4095], ">u2").tobytes()))

    assert picture_to_pixels(picture, (1, 1, 2), "none").flatten().tolist() == [0, 255]


def test_float_picture_is_scaled_from_zero_and_one() -> None:
    """A float TIFF is not black."""
    picture = reread(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF")

    assert picture_to_pixels(picture, (1, 1, 3), "none").flatten().tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(np.array([[0, 200]], np.float32), r"floats from 0 to 200; scale them to \[0, 1\]", id="floats"),
        pytest.param(np.array([[0, np.nan]], np.float32), "some of its values are NaN", id="not-a-number"),
        pytest.param(np.array([[0, 200]], np.int32), "int32, and which of them is white is not known", id="int32"),
        pytest.param(np.array([[0, 4095]], np.uint16), "its brightest value is 4095 of 65535", id="12-bits-in-16"),
    ],
)
def test_values_without_a_known_white_are_refused(values: np.ndarray, message: str) -> None:
    """The error names the values; the picture never turns black in silence."""
    with pytest.raises(UnusablePicture, match=message):
        picture_to_pixels(reread(Image.fromarray(values), "TIFF"), (1, 1, 2), "none")


def test_black_sixteen_bit_picture_is_black() -> None:
    """A picture can be dark on purpose."""
    assert picture_to_pixels(Image.fromarray(np.zeros((1, 2), np.uint16)), (1, 1, 2), "none").max() == 0


def test_colours_that_pillow_cannot_convert_are_refused() -> None:
    """Pillow opens a Lab TIFF and then cannot convert it."""
    picture = reread(Image.new("LAB", (2, 1)), "TIFF")

    with pytest.raises(UnusablePicture, match="its colours are LAB; save it as RGB"):
        picture_to_pixels(picture, (1, 1, 2), "none")


@pytest.mark.parametrize("big_endian", [False, True])
def test_arrays_are_scaled_as_pictures_are(big_endian: bool) -> None:
    """Booleans, floats and both byte orders of uint16."""
    order = ">" if big_endian else "<"

    assert to_uint8(np.array([0, 257, 65535], f"{order}u2")).tolist() == [0, 1, 255]
    assert to_uint8(np.array([0, 0.5, 1], f"{order}f8")).tolist() == [0, 128, 255]
    assert to_uint8(np.array([False, True])).tolist() == [0, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture_is_turned_upright(orientation: int) -> None:
    """Each orientation of EXIF gives the picture that Pillow's own function gives."""
    picture = Image.linear_gradient("L").resize((4, 2))
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.info["exif"] = exif.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(picture))

    pixels = picture_to_pixels(picture, (1, *upright.shape), "none")

    assert np.array_equal(pixels[0], upright)


def test_broken_exif_leaves_the_picture_as_it_is() -> None:
    """The pixels of a picture with broken EXIF data can be used."""
    picture = striped(4, 2)
    picture.info["exif"] = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x02\x00\x00\xff\xff\xff\xff"

    assert picture_to_pixels(picture, (1, 2, 4), "none").shape == (1, 2, 4)


@pytest.mark.parametrize(
    ("resize", "corners"),
    [
        pytest.param("contain", (0, 0), id="contain-pads-with-black"),
        pytest.param("cover", (255, 0), id="cover-crops"),
        pytest.param("stretch", (255, 0), id="stretch-distorts"),
    ],
)
def test_other_sizes_are_brought_to_the_models(resize: Resize, corners: tuple[int, int]) -> None:
    """Twice as wide as high, made square: the top corners tell how."""
    pixels = picture_to_pixels(striped(64, 32), (1, 16, 16), resize)

    assert pixels.shape == (1, 16, 16)
    assert (pixels[0, 0, 0].item(), pixels[0, 0, -1].item()) == corners


@pytest.mark.parametrize("resize", ["contain", "cover", "stretch"])
@pytest.mark.parametrize("size", [(1, 57), (57, 1)], ids=str)
def test_long_thin_picture_keeps_a_pixel_of_each_side(size: tuple[int, int], resize: Resize) -> None:
    """A white line does not become a black square."""
    pixels = picture_to_pixels(Image.new("L", size, "white"), (1, 16, 16), resize)

    assert pixels.shape == (1, 16, 16)
    assert pixels.max() == 255


def test_size_stays_where_it_is_not_asked_for() -> None:
    """The function returns the size as it is, and the caller compares it."""
    assert picture_to_pixels(striped(6, 4), (1, 16, 16), "none").shape == (1, 4, 6)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive_the_way_to_a_picture_and_back(channels: int) -> None:
    """Grey and colour pixels survive the way to a picture and back."""
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 5, 7), dtype=np.uint8)

    assert np.array_equal(picture_to_pixels(pixels_to_picture(pixels), (channels, 5, 7), "none"), pixels)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (16, 4), (17, 5)])
def test_grid_is_as_square_as_it_can_be(count: int, columns: int) -> None:
    """The number of columns is the side of the smallest square that holds the pictures."""
    assert columns_of_grid(count) == columns


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_is_laid_row_by_row_with_grey_between_and_at_the_end(channels: int) -> None:
    """The third of three pictures begins the second row; the empty tile beside it does not look like a picture."""
    pictures = np.broadcast_to(np.array([0, 20, 255], np.uint8)[:, None, None, None], (3, channels, 2, 2))
    expected = [
        [0, 0, 128, 20, 20],
        [0, 0, 128, 20, 20],
        [128, 128, 128, 128, 128],
        [255, 255, 128, 128, 128],
        [255, 255, 128, 128, 128],
    ]

    assert contact_sheet(pictures).tolist() == [expected] * channels


def test_grid_of_one_row_has_lines_between_its_pictures_alone() -> None:
    """Lines part the pictures, and no line surrounds them."""
    pictures = np.array([0, 255, 0], np.uint8).reshape(3, 1, 1, 1)

    assert contact_sheet(pictures, columns=3).tolist() == [[[0, 128, 255, 128, 0]]]


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (7, 50), (16, 12)])
def test_cover_is_what_pillow_calls_fit(size: tuple[int, int]) -> None:
    """The middle of the picture fills the size."""
    picture = Image.effect_noise(size, 90)
    expected = ImageOps.fit(picture, (16, 12), Image.Resampling.LANCZOS)

    assert picture_to_pixels(picture, (1, 12, 16), "cover").tobytes() == expected.tobytes()


@pytest.mark.parametrize("resize", ["stretch", "contain", "cover"])
@pytest.mark.parametrize("size", [(100_000, 2), (2, 100_000), (3000, 3000)])
def test_large_picture_is_reduced_before_it_is_resized(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], resize: Resize
) -> None:
    """The fine resize computes weights for each pixel of a side, so that it sees few of them."""
    seen: list[tuple[int, int]] = []
    reduce = Image.Image.reduce

    def noting(picture: Image.Image, factor: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> object:
        reduced = reduce(picture, factor, box)
        seen.append(reduced.size)
        return reduced

    monkeypatch.setattr(Image.Image, "reduce", noting)
    picture_to_pixels(Image.new("L", size), (1, 4, 4), resize)

    assert all(max(reduced) <= 6 * 4 for reduced in seen)
    assert len(seen) == (resize != "cover" or min(size) > 2)


def test_reduced_picture_looks_the_same() -> None:
    """The result differs by a few of 255 grey values from a picture that is resized in one step."""
    picture = Image.effect_noise((90, 90), 90).resize((900, 900))
    exact = np.asarray(picture.resize((28, 28), Image.Resampling.LANCZOS)).astype(int)

    assert np.abs(picture_to_pixels(picture, (1, 28, 28), "stretch")[0] - exact).max() <= 4
