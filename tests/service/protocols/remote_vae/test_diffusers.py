"""The functions `remote_encode` and `remote_decode` of diffusers work with the service as with the hosted endpoints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from .conftest import FACTOR, SHIFT, Live, decoded, draw_latents, draw_pixels, encoded, packed

remote_utils = pytest.importorskip("diffusers.utils.remote_utils", reason="diffusers is not installed")
image_processor = pytest.importorskip("diffusers.image_processor")

ROOT = Path(__file__).parents[4]
FLUX: dict[str, Any] = {"scaling_factor": FACTOR, "shift_factor": SHIFT}
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float32: 1e-5}


def scaled(latents: Tensor) -> Tensor:
    """Latents as the Flux pipelines hold them."""
    return (latents - SHIFT) * FACTOR


def levels(image: Image.Image) -> np.ndarray:
    """The values of a picture, with a sign."""
    return np.asarray(image, np.int16)


def expected_levels(images: Tensor) -> np.ndarray:
    """The values of pictures of images (B, C, H, W) in [0, 1]."""
    return images.mul(255).round().permute(0, 2, 3, 1).numpy().astype(np.int16)


def test_examples_of_the_page_work(live: Live) -> None:
    """The examples run one after the other, and the remarks beside them are true."""
    page = (ROOT / "docs" / "how-to" / "remote-vae.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    checks = "assert (latents.shape, image.size, exact.size) == ((1, 16, 32, 32), (256, 256), (256, 256))"
    code = code.replace("http://localhost:8000/v1", live.url)

    result = subprocess.run([sys.executable, "-c", code + checks], capture_output=True, text=True, check=False)

    assert code.count("remote_decode(") == 2
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("image_format", "kind", "tolerance"), [("png", "png", 1), ("jpg", "jpeg", 40)])
def test_picture_of_a_latent(live: Live, image_format: str, kind: str, tolerance: int) -> None:
    """The default of diffusers: one encoded picture."""
    latents = draw_latents()
    image = remote_utils.remote_decode(live.endpoint("decode"), scaled(latents), image_format=image_format, **FLUX)

    assert (image.format, image.mode, image.size) == (kind, "RGB", (64, 48))
    assert np.abs(levels(image) - expected_levels(decoded(live.flux, latents))[0]).mean() < tolerance
    assert levels(image).std() > 10


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_that_the_client_makes(live: Live, count: int) -> None:
    """With a processor the answer has floats in [0, 1], of which the client makes a list of pictures."""
    latents = draw_latents(count)
    processor = image_processor.VaeImageProcessor()
    images = remote_utils.remote_decode(live.endpoint("decode"), scaled(latents), processor=processor, **FLUX)

    assert len(images) == count
    assert np.abs(np.stack([*map(levels, images)]) - expected_levels(decoded(live.flux, latents))).max() <= 1


def test_pixels_of_one_latent(live: Live) -> None:
    """The smallest answer without loss, which diffusers makes one picture of."""
    latents = draw_latents()
    image = remote_utils.remote_decode(
        live.endpoint("decode"), scaled(latents), output_type="pt", partial_postprocess=True, **FLUX
    )

    assert np.abs(levels(image) - expected_levels(decoded(live.flux, latents))[0]).max() <= 1


def test_pixels_of_several_latents(live: Live) -> None:
    """The rows keep their order."""
    latents = draw_latents(3)
    images = remote_utils.remote_decode(
        live.endpoint("decode"), scaled(latents), output_type="pt", partial_postprocess=True, **FLUX
    )

    assert np.abs(np.stack([*map(levels, images)]) - expected_levels(decoded(live.flux, latents))).max() <= 1


@pytest.mark.parametrize("sent", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensor_of_the_decoder(live: Live, sent: torch.dtype) -> None:
    """Floats in [-1, 1] of the sent type; diffusers cannot read float64."""
    latents = scaled(draw_latents(2)).to(sent)
    images = remote_utils.remote_decode(live.endpoint("decode"), latents, output_type="pt", return_type="pt", **FLUX)
    expected = decoded(live.flux, latents.float() / FACTOR + SHIFT) * 2 - 1

    assert images.dtype == (torch.float32 if sent == torch.float64 else sent)
    torch.testing.assert_close(images.float(), expected, rtol=0, atol=TOLERANCE[images.dtype])
    assert expected.std() > 0.1


def test_tensor_that_the_processor_of_diffusers_denormalises(live: Live) -> None:
    """The answer has the range that `VaeImageProcessor.postprocess` expects."""
    latents = draw_latents()
    image = remote_utils.remote_decode(
        live.endpoint("decode"),
        scaled(latents),
        processor=image_processor.VaeImageProcessor(),
        output_type="pt",
        **FLUX,
    )

    assert np.abs(levels(image) - expected_levels(decoded(live.flux, latents))[0]).max() <= 1


@pytest.mark.filterwarnings("ignore:`do_scaling` is deprecated:FutureWarning")
@pytest.mark.parametrize(("model", "factor", "shift"), [("flux", FACTOR, SHIFT), ("sd", 0.18215, 0.0)])
def test_do_scaling_means_the_scaling_of_the_card(live: Live, model: str, factor: float, shift: float) -> None:
    """A client that knows no factors leaves them to the server."""
    network = getattr(live, model)
    latents = draw_latents(channels=network.config.latent_shape[0])
    images = remote_utils.remote_decode(
        live.endpoint("decode", model), (latents - shift) * factor, output_type="pt", return_type="pt"
    )

    torch.testing.assert_close(images, decoded(network, latents) * 2 - 1, rtol=0, atol=1e-4)


@pytest.mark.parametrize("do_scaling", [False, None])
def test_without_scaling_latents_are_decoded_as_they_are(live: Live, do_scaling: bool | None) -> None:
    """The client has undone the scaling itself."""
    latents = draw_latents()
    images = remote_utils.remote_decode(
        live.endpoint("decode"), latents, do_scaling=do_scaling, output_type="pt", return_type="pt"
    )

    torch.testing.assert_close(images, decoded(live.flux, latents) * 2 - 1, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "spare"), [(48, 64, 0), (64, 32, 0), (32, 96, 15)])
def test_packed_latents_of_flux(live: Live, height: int, width: int, spare: int) -> None:
    """Rows of patches, as the Flux pipelines hold them; they leave out the rest of a patch."""
    latents = draw_latents(2, height // 8, width // 8)
    images = remote_utils.remote_decode(
        live.endpoint("decode"),
        packed(scaled(latents)).bfloat16(),
        height=height + spare,
        width=width + spare,
        output_type="pt",
        return_type="pt",
        **FLUX,
    )

    assert images.shape == (2, 3, height, width)
    expected = decoded(live.flux, scaled(latents).bfloat16().float() / FACTOR + SHIFT) * 2 - 1
    torch.testing.assert_close(images.float(), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"output_type": "mp4", "return_type": "mp4"}, "output_type mp4 is a video, but latentd serves images"),
        ({}, "The 2 latents cannot be answered as one jpg"),
        ({"image_format": "png"}, "as one png; send each in a request of its own, or ask for output_type=pt"),
    ],
)
def test_refusals_reach_the_caller(live: Live, options: dict[str, Any], reason: str) -> None:
    """The error that diffusers raises holds the whole problem document."""
    with pytest.raises(RuntimeError) as raised:
        remote_utils.remote_decode(live.endpoint("decode"), draw_latents(2), **FLUX, **options)

    problem = raised.value.args[0]
    assert (problem["status"], problem["error"]) == (422, problem["detail"])
    assert reason in problem["error"]


def test_wrong_key_reaches_the_caller(live: Live) -> None:
    """The key is the password in the address."""
    with pytest.raises(RuntimeError) as raised:
        remote_utils.remote_decode(live.endpoint("decode").replace(":a-key@", ":another@"), draw_latents(), **FLUX)

    assert raised.value.args[0]["status"] == 401


@pytest.mark.parametrize(("height", "width"), [(48, 64), (8, 8), (200, 72)])
def test_latent_of_a_picture(live: Live, height: int, width: int) -> None:
    """The mean of the posterior, in float32; the same for every request."""
    pixels = draw_pixels(1, height, width)
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    latents = [remote_utils.remote_encode(live.endpoint("encode"), picture) for _ in range(2)]

    assert latents[0].shape == (1, 16, height // 8, width // 8)
    torch.testing.assert_close(latents[0], encoded(live.flux, pixels), rtol=0, atol=1e-5)
    assert torch.equal(*latents)


def test_latent_is_scaled_by_the_given_factors(live: Live) -> None:
    """(latent - shift) · factor."""
    pixels = draw_pixels()
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    latents = remote_utils.remote_encode(f"{live.url}/remote/encode", picture, **FLUX)

    torch.testing.assert_close(latents, scaled(encoded(live.flux, pixels)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sent", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_latents_of_a_tensor(live: Live, sent: torch.dtype) -> None:
    """A batch in [-1, 1] is answered in its own type; even bfloat16 tells the 256 levels of a pixel apart."""
    pixels = draw_pixels(2)
    images = pixels.double().div(127.5).sub(1).to(sent)
    latents = remote_utils.remote_encode(live.endpoint("encode"), images, **FLUX)

    assert latents.dtype == (torch.float32 if sent == torch.float64 else sent)
    expected = scaled(encoded(live.flux, pixels))
    torch.testing.assert_close(latents.float(), expected, rtol=0, atol=TOLERANCE[latents.dtype])


def test_tensor_that_the_processor_of_diffusers_has_made(live: Live) -> None:
    """`VaeImageProcessor.preprocess` gives the same latents as the picture itself.

    Its tensor has the strides of (B, H, W, C). diffusers 0.42.1 would send memory of a copy that is freed already.
    """
    picture = Image.fromarray(draw_pixels()[0].permute(1, 2, 0).numpy())
    images = image_processor.VaeImageProcessor().preprocess(picture).contiguous()
    both = [remote_utils.remote_encode(live.endpoint("encode"), each) for each in (images, picture)]

    assert torch.equal(*both)


def test_endpoint_may_have_a_query_of_its_own(live: Live) -> None:
    """Pictures of any sides are encoded with a resize or a padding in the endpoint's address."""
    picture = Image.fromarray(draw_pixels(1, 50, 70)[0].permute(1, 2, 0).numpy())
    shapes = [
        remote_utils.remote_encode(f"{live.endpoint('encode')}?{query}", picture, **FLUX).shape
        for query in ("resize=cover", "fit=pad")
    ]

    assert shapes == [(1, 16, 7, 9), (1, 16, 7, 9)]
