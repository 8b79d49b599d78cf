"""The benchmark of pretrained autoencoders: its arithmetic, and the plain route with which ours are compared."""

import io
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from torch.nn import functional as F

from benchmarks.pretrained.__main__ import AUTO, BARE, FLOAT32, IMAGE, PLAIN, Cell, Seen, agreement_db, tables_of
from benchmarks.pretrained.networks import TAEF2, Functions, load
from benchmarks.pretrained.plain_route import make_app
from model_store.taesd import TAESD, TAESDConfig


def test_agreement_of_pixels_is_relative_to_255() -> None:
    """A difference of one grey value everywhere is 48.13 dB. Equal pictures have an infinite agreement."""
    theirs = np.full((4, 4, 3), 100, np.uint8)

    assert agreement_db(theirs + np.uint8(1), theirs) == pytest.approx(48.1308, abs=1e-4)
    assert agreement_db(theirs, theirs) == inf


def test_agreement_of_latents_is_relative_to_their_range() -> None:
    """An error of 0.2 in latents from -1 to 1 is a tenth of the range: 20 dB."""
    theirs = np.array([-1.0, 1.0], np.float32)

    assert agreement_db(theirs + np.float32(0.2), theirs) == pytest.approx(20, abs=1e-4)


def test_tables_have_ratios_of_the_plain_route_to_ours() -> None:
    """A ratio above one means that ours needs less time; the bare network is measured for one connection only."""
    answer = np.zeros(1, np.uint8)
    one, four = Cell("kl", "decode", 512, 1), Cell("kl", "decode", 512, 4)
    seen = {PLAIN: (4.0, 1000.0), AUTO: (1.0, 500.0), IMAGE: (0.8, 600.0), FLOAT32: (2.0, 800.0)}
    found = {(cell, name): Seen(*numbers, answer) for cell in (one, four) for name, numbers in seen.items()}
    found[one, BARE] = Seen(0.5, 100.0, answer)

    times, sizes = tables_of("kl", found)

    assert times.rows == [
        ["decode 512×512, 1 at once", "4.00", "1.00", "0.80", "2.00", "0.50", "4.00", "5.00", "2.00"],
        ["decode 512×512, 4 at once", "4.00", "1.00", "0.80", "2.00", "–", "4.00", "5.00", "2.00"],
    ]
    assert sizes.rows[0] == ["decode 512×512, 1 at once", "1,000", "500", "600", "800", "0.50", "0.60", "inf", "inf"]


def test_plain_route_gives_latents_and_pixels() -> None:
    """Its answers have the forms with which ours are compared: npy of (1, D, h, w), and uint8 pixels (H, W, 3)."""
    halves = Functions(lambda images: F.avg_pool2d(images, 2), lambda latents: F.interpolate(latents, scale_factor=2))
    client = TestClient(make_app(halves))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4), (255, 0, 51)).save(buffer, "PNG")

    latents = client.post("/encode", content=buffer.getvalue()).content
    pixels = np.load(io.BytesIO(client.post("/decode", content=latents).content))

    assert np.load(io.BytesIO(latents)).shape == (1, 3, 2, 4)
    assert pixels.shape == (4, 8, 3)
    assert pixels[0, 0].tolist() == [255, 0, 51]


@torch.inference_mode()
def test_plain_network_of_taef2_gives_what_ours_gives(tmp_path: Path) -> None:
    """The rival of our network computes the same function of the same files, and shares no code with it."""
    config = TAESDConfig(
        image_shape=(3, None, None), latent_shape=(32, None, None), latent_space="flux2", has_middle_norm=True
    )
    ours = TAESD(config).eval()
    for half in ("encoder", "decoder"):
        torch.save(getattr(ours, half).state_dict(), tmp_path / f"taef2_{half}.pth")
    plain = load(TAEF2, tmp_path)
    images, latents = torch.rand(1, 3, 32, 48), torch.randn(1, 32, 4, 6)

    torch.testing.assert_close(plain.encode(images), ours.encode(images).mean)
    torch.testing.assert_close(plain.decode(latents), ours.decode(latents).mean)
