"""Pictures to the pixels of a model, and pixels to pictures.

Training and the service both use it, so that a model is served the same pixels that it was trained on. This module
knows Pillow, opens no files, and does not know torch: the processes that read pictures for the service are small.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Resize = Literal["none", "contain", "cover", "stretch"]
Background = Literal["black", "white", "grey"]  # behind transparent pixels, and around a picture that is padded

LINE = 1  # pixels between two tiles of a contact sheet

_MIDDLE_GREY = 128
_SMOOTH = Image.Resampling.LANCZOS
# Pillow reduces by whole numbers to at least three times the size, which no eye tells from the exact result. Without it
# a picture of 4194304×1 holds Python's lock for 0.8 s, since weights are computed for each pixel of a side.
_REDUCING_GAP = 3.0
_UINT16_WHITE = 65_535
_DARKEST_UINT16 = 4096  # 12 bits stored in 16 look like that: below it at most 16 of 255 grey values are left
FLOAT_TOLERANCE = 1e-6  # 255 · float32(1 / 255) is a little more than 1
_TIFF_BITS = 0x0102
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusablePicture(ValueError):
    """A picture that can be opened, but whose values cannot be converted to grey values."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}; {remedy}")


def picture_to_pixels(
    picture: Image.Image, image_shape: tuple[int, int, int], resize: Resize, background: Background = "black"
) -> Pixels:
    """The picture as pixels uint8 (C, H, W): upright, on the background, channels and size of `image_shape`.

    `contain` fits the whole picture and pads it with the background, `cover` fills the size and crops, `stretch` does
    not keep the proportions, `none` keeps the size of the picture.

    Raises:
        UnusablePicture: the range of the values is not known, or Pillow cannot convert the colours.
    """
    channels, height, width = image_shape
    return resized_pixels(upright_picture(picture, channels, background), (width, height), resize, background)


def upright_picture(picture: Image.Image, channels: int, background: Background = "black") -> Image.Image:
    """The picture upright, on the background, in grey for one channel or in RGB.

    Raises:
        UnusablePicture: the range of the values is not known, or Pillow cannot convert the colours.
    """
    upright = turn_upright(to_8_bits(picture), picture)
    return _in_mode(on_background(upright, background), "L" if channels == 1 else "RGB")


def resized_pixels(
    picture: Image.Image, size: tuple[int, int], resize: Resize, background: Background = "black"
) -> Pixels:
    """Pixels uint8 (C, H, W) of a grey or RGB picture with the width and height of `size`."""
    sized = resize_picture(picture, size, resize, background)
    values = np.frombuffer(bytearray(sized.tobytes()), np.uint8)  # `np.asarray` of a picture takes a third longer
    return np.ascontiguousarray(values.reshape(sized.height, sized.width, -1).transpose(2, 0, 1))


def pixels_to_picture(pixels: Pixels) -> Image.Image:
    """A grey or RGB picture of uint8 pixels (C, H, W)."""
    values = pixels.transpose(1, 2, 0)
    return Image.fromarray(values[:, :, 0] if len(pixels) == 1 else values)


def columns_of_grid(count: int) -> int:
    """The number of columns of a nearly square contact sheet of `count` pictures: 16 → 4, 10 → 4, 2 → 2."""
    return math.isqrt(count - 1) + 1


def contact_sheet(pixels: Pixels, columns: int | None = None) -> Pixels:
    """One picture (C, H', W') of a batch (B, C, H, W), row by row, with grey lines between tiles; empty tiles are grey.

    R rows have the height H' = R·H + R − 1 in pixels; the width follows in the same way from the columns.
    """
    count, channels, height, width = pixels.shape
    columns = columns or columns_of_grid(count)
    rows = -(-count // columns)
    tiles = np.full((rows * columns, channels, height + LINE, width + LINE), _MIDDLE_GREY, np.uint8)
    tiles[:count, :, :height, :width] = pixels
    tiles = tiles.reshape(rows, columns, channels, height + LINE, width + LINE)
    picture = tiles.transpose(2, 0, 3, 1, 4).reshape(channels, rows * (height + LINE), columns * (width + LINE))
    return picture[:, :-LINE, :-LINE]


def to_uint8(values: NDArray[np.generic], white: int = _UINT16_WHITE) -> Pixels:
    """Image values as uint8: booleans become black and white, floats are from [0, 1], uint16 from [0, white].

    A dark uint16 array looks the same as one that holds 12 bits per value. It is refused: a guess could scale two
    pictures of one data set differently.

    Raises:
        UnusablePicture: the values have another type, are outside their range, or are nearly all black.
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if not values.size or values.dtype == np.bool_:
        whole: Pixels = np.multiply(values, np.uint8(255), dtype=np.uint8, casting="unsafe")
        return whole
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if math.isnan(low):
            raise UnusablePicture("some of its values are NaN", "replace them by numbers in [0, 1]")
        if low < -FLOAT_TOLERANCE or high > 1 + FLOAT_TOLERANCE:
            raise UnusablePicture(f"its values are floats from {low:g} to {high:g}", "scale them to [0, 1]")
        return _scale(values, 1)
    if values.dtype.kind != "u" or values.dtype.itemsize != 2:
        raise UnusablePicture(
            f"its values are {values.dtype}, and which of them is white is not known",
            "save it as uint8, as uint16, or as floats in [0, 1]",
        )
    brightest = int(values.max())
    if white == _UINT16_WHITE and 0 < brightest < _DARKEST_UINT16:
        raise UnusablePicture(
            f"it has 16 bits per value, but its brightest value is {brightest} of {white}, so it would be black",
            "scale it to the whole range, or save it with 8 bits",
        )
    return _scale(values, white)


def _scale(values: NDArray[np.generic], white: int) -> Pixels:
    """Pixels of values from 0 to white, row by row: at once, float16 values would take eight times their memory."""
    pixels = np.empty(values.shape, np.uint8)
    for index, row in enumerate(values):
        wide = row.astype(np.float32) if row.dtype.itemsize < 4 else row  # float16 would round twice
        pixels[index] = np.rint(wide.clip(0, white) * (255 / white))
    return pixels


def turn_upright(picture: Image.Image, original: Image.Image) -> Image.Image:
    """The picture, turned as the EXIF data of the original says."""
    if not original.info:
        return picture
    try:  # `ImageOps.exif_transpose` of Pillow fails if another part of the EXIF data is broken
        orientation = original.getexif().get(_ORIENTATION, 1)
    except Exception:  # for broken EXIF data Pillow raises many kinds of errors, but the pixels are good
        return picture
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def to_8_bits(picture: Image.Image) -> Image.Image:
    """The picture with 8 bits per value; wider values are scaled.

    Raises:
        UnusablePicture: the range of the values is not known.
    """
    if picture.mode[0] not in "IF":  # `convert` of Pillow would clip the values of these modes instead
        return picture
    values = np.asarray(picture)
    if picture.mode == "I" and picture.format == "PPM":
        values = values.astype(np.uint16)  # Pillow has scaled them to 16 bits, from any maximum
    bits = getattr(picture, "tag_v2", {}).get(_TIFF_BITS, (16,))[0]
    return Image.fromarray(to_uint8(values, white=2**bits - 1 if bits < 16 else _UINT16_WHITE))


def on_background(picture: Image.Image, background: Background) -> Image.Image:
    """The picture without transparency, on a background."""
    if not picture.has_transparency_data:
        return picture
    picture = _in_mode(picture, "RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode == mode:
        return picture
    try:
        return picture.convert(mode)
    except ValueError as error:
        raise UnusablePicture(f"its colours are {picture.mode}", "save it as RGB or as grey") from error


def resize_picture(
    picture: Image.Image, size: tuple[int, int], resize: Resize, background: Background = "black"
) -> Image.Image:
    """The picture with the width and height of `size`, by the rule `resize` (see `picture_to_pixels`).

    A much larger picture is first reduced by whole numbers, so that a long side costs no more than its pixels.
    """
    if resize == "none" or picture.size == size:
        return picture
    width, height = size
    if resize == "stretch":
        return picture.resize(size, _SMOOTH, reducing_gap=_REDUCING_GAP)
    if resize == "cover":  # as `ImageOps.fit` of Pillow, which cannot reduce first
        used = min(picture.width, picture.height * width / height), min(picture.height, picture.width * height / width)
        left, top = (picture.width - used[0]) / 2, (picture.height - used[1]) / 2
        return picture.resize(size, _SMOOTH, (left, top, left + used[0], top + used[1]), _REDUCING_GAP)
    # `ImageOps.pad` of Pillow gives a very long picture a side of 0 pixels: all background
    if picture.width * height > width * picture.height:
        fitted = (width, max(1, round(picture.height / picture.width * width)))
    else:
        fitted = (max(1, round(picture.width / picture.height * height)), height)
    inside = picture.resize(fitted, _SMOOTH, reducing_gap=_REDUCING_GAP)
    padded = Image.new(picture.mode, size, background)
    padded.paste(inside, (round((width - fitted[0]) / 2), round((height - fitted[1]) / 2)))
    return padded
