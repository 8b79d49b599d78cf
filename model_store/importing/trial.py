"""The trial of a candidate: it encodes and decodes pictures on the CPU, in float32 and in bfloat16.

The numbers become metrics of the card, each with its protocol.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import log10
from statistics import fmean

import torch
from torch import Tensor

from ..card import Metric
from ..errors import CannotImport
from ..families import Network
from ..free_memory import memory_shortage
from ..inference_form import bring_into_inference_form
from ..vae.pixels import mean_squared_errors, psnr_db, to_images
from ..vae.sentences import counted
from .peak_memory import with_peak
from .tiled_trial import Tiled, in_tiles
from .trial_pictures import TrialPictures

_ANOTHER = "Copy the source again, or import another model"
# the rounding of float32 alone gives about 140 dB
_MOST_DB = 150.0
_LEAST_RATIO = 10 ** (-_MOST_DB / 10)


@dataclass(frozen=True)
class Trial:
    """The metrics of a model, and sentences about precisions in which it does not work."""

    metrics: tuple[Metric, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Pass:
    """One picture through a model: latents (1, D, h, w), images (1, C, H, W) in [0, 1], seconds, bytes at the peak."""

    latents: Tensor
    images: Tensor
    encode_s: float
    decode_s: float
    encode_bytes: int | None
    decode_bytes: int | None

    @property
    def is_finite(self) -> bool:
        """Whether all values are finite."""
        return bool(self.latents.isfinite().all() and self.images.isfinite().all())


def try_model(model: Network, pictures: TrialPictures, advance: Callable[[], object]) -> Trial:
    """Encode and decode each picture; call `advance` after each picture and precision: twice as often as pictures.

    Raises:
        CannotImport: the model cannot compute them, gives other shapes, or gives numbers that are not finite.
    """
    originals = [to_images(torch.from_numpy(pixels)[None]) for pixels in pictures.pixels]
    for channels, height, width in (pixels.shape for pixels in pictures.pixels):
        if shortage := memory_shortage(model.config.activation_bytes_of((channels, height, width))):
            reason = f"a picture of {height}×{width} {shortage}"
            raise CannotImport("the model", reason, remedy="Try it on smaller pictures, or on a larger machine")
    where = f"{machine()}; {pictures.words}"
    try:
        network = _in_precision(model, torch.float32)
        full = _passes(network, originals, advance)
        _check(model, full, originals)
        tiled: list[Tiled | None] = []
        if model.config.halo is None:
            tiled = [in_tiles(network, images, each.latents) for images, each in zip(originals, full, strict=True)]
        del network  # before there is another copy
        network = _in_precision(model, torch.bfloat16)
        half = _passes(network, originals, advance)
    except (RuntimeError, ValueError) as error:  # of torch, for layers that do not fit each other
        reason = f"it cannot compute a picture ({str(error)[:200]})"
        raise CannotImport("the model", reason, remedy=_ANOTHER) from error
    metrics = [_psnr("float32", full, originals, where), *_costs("float32", full, originals, where)]
    metrics += _tiled_agreements(full, tiled, where)
    if not all(each.is_finite for each in half):
        return Trial(tuple(metrics), ("In bfloat16 its latents or images are not finite; serve it in float32.",))
    metrics += [_psnr("bfloat16", half, originals, where), *_costs("bfloat16", half, originals, where)]
    metrics += _agreements(network, full, half, where)
    return Trial(tuple(metrics), ())


def _check(model: Network, full: list[Pass], originals: list[Tensor]) -> None:
    """Raise CannotImport if latents or images have other shapes than the record says, or are not finite."""
    for images, each in zip(originals, full, strict=True):
        shapes = tuple(each.latents.shape[1:]), each.images.shape
        expected = model.config.latent_shape_of(tuple(images.shape[1:])), images.shape
        if shapes != expected:
            reason = f"its latents and images have the shapes {shapes}, expected {expected}"
            raise CannotImport("the model", reason, remedy=_ANOTHER)
    if not all(each.is_finite for each in full):
        raise CannotImport("the model", "its latents or images are not finite in float32", remedy=_ANOTHER)


def machine() -> str:
    """The release of torch and the threads with which models are tried."""
    return f"torch {torch.__version__} on {counted(torch.get_num_threads(), 'threads')} of a CPU"


def _in_precision(model: Network, kind: torch.dtype) -> Network:
    """A copy of a model, as a service would compute it."""
    served = copy.deepcopy(model)
    bring_into_inference_form(served, torch.device("cpu"), {"encode": kind, "decode": kind})
    return served


def _passes(model: Network, originals: list[Tensor], advance: Callable[[], object]) -> list[Pass]:
    """Each picture through the model; a first pass, which is not measured, lets torch choose its kernels."""
    _pass(model, originals[0])
    done = []
    for images in originals:
        done.append(_pass(model, images))
        advance()
    return done


@torch.inference_mode()
def _pass(model: Network, images: Tensor) -> Pass:
    (latents, encode_s), encode_bytes = with_peak(lambda: _timed(lambda: model.encode(images).mean))
    (decoded, decode_s), decode_bytes = with_peak(lambda: _timed(lambda: model.decode(latents).mean))
    return Pass(latents, decoded, encode_s, decode_s, encode_bytes, decode_bytes)


def _timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def _psnr(precision: str, passes: list[Pass], originals: list[Tensor], where: str) -> Metric:
    errors = [mean_squared_errors(each.images, images).item() for each, images in zip(passes, originals, strict=True)]
    return Metric(
        name=f"psnr_{precision}_db",
        value=psnr_db(max(fmean(errors), _LEAST_RATIO)),
        unit="dB",
        protocol=f"of the mean mse of the reconstructions, weights and activations {precision}; {where}",
    )


def _costs(precision: str, passes: list[Pass], originals: list[Tensor], where: str) -> list[Metric]:
    """Seconds and bytes per megapixel of each direction; the bytes are left out where the system does not tell."""
    kind = "" if precision == "float32" else f"_{precision}"
    megapixels = [images[0, 0].numel() / 1e6 for images in originals]
    metrics = []
    for direction in ("encode", "decode"):
        seconds = sum(getattr(each, f"{direction}_s") for each in passes) / sum(megapixels)
        protocol = f"single pictures in {precision}; {where}"
        metrics.append(Metric(name=f"{direction}{kind}_s_per_megapixel", value=seconds, unit="s", protocol=protocol))
        peaks = [getattr(each, f"{direction}_bytes") for each in passes]
        if None not in peaks:
            most = max(peak / size for peak, size in zip(peaks, megapixels, strict=True))
            protocol = f"the most by which the process grew, single pictures in {precision}; {where}"
            metrics.append(
                Metric(name=f"{direction}{kind}_bytes_per_megapixel", value=most, unit="B", protocol=protocol)
            )
    return metrics


def _agreements(half_network: Network, full: list[Pass], half: list[Pass], where: str) -> list[Metric]:
    """The agreement of bfloat16 with float32 in each direction, in dB."""
    with torch.inference_mode():
        images = [half_network.decode(each.latents).mean for each in full]
    return [
        Metric(
            name="encode_agreement_db",
            value=_latent_agreement_db(full, [each.latents for each in half]),
            unit="dB",
            protocol=f"variance of the float32 latents over the mse of the bfloat16 latents; {where}",
        ),
        Metric(
            name="decode_agreement_db",
            value=_image_agreement_db(full, images),
            unit="dB",
            protocol=f"PSNR of bfloat16 images against float32 images, from the same float32 latents; {where}",
        ),
    ]


def _tiled_agreements(full: list[Pass], tiled: list[Tiled | None], where: str) -> list[Metric]:
    """The agreement of blended tiles with whole pictures in each direction, in dB; none if no picture was tiled."""
    pairs = [(whole, parts) for whole, parts in zip(full, tiled, strict=False) if parts is not None]
    if not pairs:
        return []
    whole = [each for each, _ in pairs]
    how = f"in tiles that share at most {max(parts.overlap for _, parts in pairs)} pixels, float32; {where}"
    return [
        Metric(
            name="tiled_encode_agreement_db",
            value=_latent_agreement_db(whole, [parts.latents for _, parts in pairs]),
            unit="dB",
            protocol=f"variance of the latents of whole pictures over the mse of latents computed {how}",
        ),
        Metric(
            name="tiled_decode_agreement_db",
            value=_image_agreement_db(whole, [parts.images for _, parts in pairs]),
            unit="dB",
            protocol=f"PSNR of images against images decoded at once, if they are decoded {how}",
        ),
    ]


def _latent_agreement_db(full: list[Pass], latents: list[Tensor]) -> float:
    """The variance of the latents of passes over the mean squared error of other latents, in dB."""
    # in double precision: the squares of finite numbers can overflow in float32
    noise = fmean(
        (each.latents.double() - other).square().mean().item() for each, other in zip(full, latents, strict=True)
    )
    power = fmean(each.latents.double().var(correction=0).item() for each in full)
    return -10 * log10(max(noise / power, _LEAST_RATIO)) if power else _MOST_DB


def _image_agreement_db(full: list[Pass], images: list[Tensor]) -> float:
    """The PSNR of images against the images of passes."""
    errors = [mean_squared_errors(other, each.images).item() for each, other in zip(full, images, strict=True)]
    return psnr_db(max(fmean(errors), _LEAST_RATIO))
