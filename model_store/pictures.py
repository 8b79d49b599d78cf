"""How a picture becomes the pixels of a model, and pixels a picture.

The same in training and in the service, so that a model is asked about images as it was shown them. It knows Pillow,
and opens no files.
"""

from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

Resize = Literal["none", "contain", "cover", "stretch"]

_SMOOTH = Image.Resampling.LANCZOS
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


def picture_to_pixels(picture: Image.Image, image_shape: tuple[int, int, int], resize: Resize) -> Tensor:
    """Pixels uint8 (C, H, W): upright, on black where transparent, in the channels and size of `image_shape`.

    `contain` fits the whole picture and pads it with black, `cover` fills the size and crops, `stretch` does not keep
    the proportions, `none` leaves the size as it is.
    """
    channels, height, width = image_shape
    opaque = _in_mode(_on_black(_eight_bits(_upright(picture))), "L" if channels == 1 else "RGB")
    sized = _resized(opaque, (width, height), resize)
    values = torch.frombuffer(bytearray(sized.tobytes()), dtype=torch.uint8)  # by way of NumPy it takes a third longer
    if channels == 1:
        return values.view(1, sized.height, sized.width)
    return values.view(sized.height, sized.width, channels).permute(2, 0, 1).contiguous()


def pixels_to_picture(pixels: Tensor) -> Image.Image:
    """A picture, grey or RGB, from uint8 pixels (C, H, W)."""
    values = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(values[:, :, 0] if len(pixels) == 1 else values)


def _upright(picture: Image.Image) -> Image.Image:
    """The picture as it was seen; Pillow's own function writes the EXIF anew, and fails where that is broken."""
    if not picture.info:
        return picture
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever a broken EXIF makes Pillow raise; the pixels are good all the same
        return picture
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bits; Pillow's own conversion would clip it."""
    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture).clip(0, 65535)
    return Image.fromarray((values / 257).round().astype(np.uint8))


def _on_black(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    black = Image.new("RGBA", picture.size, "black")
    return Image.alpha_composite(black, picture)


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    return picture if picture.mode == mode else picture.convert(mode)


def _resized(picture: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    if resize == "none" or picture.size == size:
        return picture
    if resize == "contain":
        return ImageOps.pad(picture, size, _SMOOTH, color="black")
    if resize == "cover":
        return ImageOps.fit(picture, size, _SMOOTH)
    return picture.resize(size, _SMOOTH)
