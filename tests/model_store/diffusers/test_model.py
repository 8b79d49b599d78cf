"""Our wrapper gives the latents and images of the library itself."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from model_store import CannotBuild, MissingExtra, Store
from model_store.diffusers import DiffusersAutoencoder, DiffusersConfig
from model_store.families import build
from model_store.importing.candidate import Wishes
from model_store.importing.diffusers_folder import read_diffusers
from model_store.importing.source_folder import SourceFolder
from model_store.vae import DiagonalGaussian
from model_store.vae.family import ShapeMismatch
from model_store.vae.noise import standard_normal

from ..library_models import SETTINGS, library_model, record_fields

CLASSES = sorted(SETTINGS)


def imported(library: Any, folder: Path) -> DiffusersAutoencoder:
    """The model that an import gives for a model of the library."""
    library.save_pretrained(folder)
    model = read_diffusers(SourceFolder(folder), Wishes("new")).model
    assert isinstance(model, DiffusersAutoencoder)
    return model


def latents_of(library: Any, images: Tensor) -> Tensor:
    """The library's latents of images in [0, 1]: the mode of a distribution."""
    encoded = library.encode(2 * images - 1)
    first: Tensor = encoded.latent_dist.mode() if "latent_dist" in encoded else encoded[0]
    return first


@pytest.fixture
def images() -> Tensor:
    """Two images whose sides differ."""
    torch.manual_seed(7)
    return torch.rand(2, 3, 32, 48)


@pytest.mark.parametrize("name", CLASSES)
@torch.inference_mode()
def test_latents_and_images_are_the_librarys(name: str, images: Tensor, tmp_path: Path) -> None:
    """The library reads images in [-1, 1] and gives images in that range."""
    library = library_model(name)
    model = imported(library, tmp_path)

    latents = model.encode(images).mean
    expected = latents_of(library, images)
    pictures = model.decode(expected).mean

    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(pictures, ((library.decode(expected).sample + 1) / 2).clamp(0, 1))
    assert latents.shape[1:] == model.config.latent_shape_of((3, 32, 48))
    assert pictures.std() > 0.01


@torch.inference_mode()
def test_seeded_sample_is_the_librarys(images: Tensor, tmp_path: Path) -> None:
    """With the same noise the library draws the same latents; the variance is clamped as there."""
    library = library_model("AutoencoderKL")
    model = imported(library, tmp_path)
    noise = standard_normal(1, 2, (4, 4, 6))

    posterior = model.encode(images)
    theirs = library.encode(2 * images - 1).latent_dist

    assert isinstance(posterior, DiagonalGaussian)
    torch.testing.assert_close(posterior.log_variance, theirs.logvar)
    torch.testing.assert_close(posterior.sample(noise), theirs.mean + theirs.std * noise)


def test_image_of_one_cell_is_refused_where_each_channel_is_a_group(tmp_path: Path) -> None:
    """The library raises an error for it; with two cells, or with larger groups, it computes."""
    alone, grouped = (
        imported(library_model("AutoencoderKL", norm_num_groups=groups), tmp_path / str(groups)) for groups in (8, 4)
    )

    for shape, ask in (((3, 8, 8), alone.config.latent_shape_of), ((4, 1, 1), alone.config.image_shape_of)):
        with pytest.raises(ShapeMismatch, match="needs images larger than 8×8 pixels"):
            ask(shape)
    assert alone.config.fitting_shape(1, 1) == (3, 8, 16)
    assert alone.encode(torch.zeros(1, 3, 8, 16)).mean.shape == (1, *alone.config.latent_shape_of((3, 8, 16)))
    assert grouped.encode(torch.zeros(1, 3, 8, 8)).mean.shape == (1, *grouped.config.latent_shape_of((3, 8, 8)))


@torch.inference_mode()
def test_variance_is_clamped_as_in_the_library(images: Tensor, tmp_path: Path) -> None:
    """A network can give variances that no float32 can hold."""
    library = library_model("AutoencoderKL")
    library.quant_conv.bias.data[4:] = 1000.0
    posterior = imported(library, tmp_path).encode(images)

    assert isinstance(posterior, DiagonalGaussian)
    assert (posterior.log_variance == 20).all()


@torch.inference_mode()
def test_vector_quantisation_is_the_librarys(images: Tensor, tmp_path: Path) -> None:
    """Latents that lie a little beside an embedding give the same image as the embedding."""
    library = library_model("VQModel")
    model = imported(library, tmp_path)
    latents = latents_of(library, images)
    embeddings = library.quantize(latents)[0]

    torch.testing.assert_close(model.decode(latents).mean, model.decode(embeddings).mean)


@pytest.mark.parametrize("name", CLASSES)
@torch.inference_mode()
def test_weights_in_bfloat16_give_float32(name: str, images: Tensor, tmp_path: Path) -> None:
    """Inputs and outputs are float32 in every precision of the weights."""
    model = imported(library_model(name), tmp_path).bfloat16()

    latents = model.encode(images).mean

    assert (latents.dtype, model.decode(latents).mean.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("name", CLASSES)
def test_model_comes_back_from_the_store(name: str, images: Tensor, tmp_path: Path) -> None:
    """The card alone says how to build the network."""
    model = imported(library_model(name), tmp_path / "folder")
    store = Store(tmp_path / "store")

    loaded = store.load(store.publish("new", model)).model

    assert loaded.config == model.config
    assert torch.equal(loaded.encode(images).mean, model.encode(images).mean)


def test_many_embeddings_need_memory() -> None:
    """The distances to all embeddings are computed at once."""
    few, many = (
        DiffusersConfig.model_validate(record_fields("VQModel", num_vq_embeddings=number), strict=False)
        for number in (16, 2**20)
    )

    assert few.activation_bytes_of((3, 256, 256)) < 2**25
    assert many.activation_bytes_of((3, 256, 256)) > 2**20 * 32 * 32 * 4


def test_missing_library_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is an extra: a store may have models that need it on a machine without it."""
    store = Store(tmp_path / "store")
    version = store.publish("new", imported(library_model("AutoencoderKL"), tmp_path / "folder"))
    monkeypatch.setitem(sys.modules, "diffusers", None)

    with pytest.raises(MissingExtra, match=r"needs the library diffusers.*: pip install 'latentd\[diffusers\]'\.$"):
        store.load(version)


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("AutoencoderKL", {"block_out_channels": [8, 8, 8, 10**9]}),
        ("AutoencoderKL", {"layers_per_block": 10**9}),
        ("AutoencoderKL", {"block_out_channels": [8] * 100}),
        ("AutoencoderKL", {"down_block_types": ["os.system"] * 4}),
        ("AutoencoderKL", {"down_block_types": ["DownEncoderBlock2D"]}),
        ("AutoencoderKL", {"norm_num_groups": 3}),
        ("AutoencoderKL", {"out_channels": 1}),
        ("AutoencoderKL", {"latent_channels": 5}),
        ("AutoencoderKL", {"unknown": 1}),
        ("AutoencoderTiny", {"num_encoder_blocks": [1, 3]}),
        ("AutoencoderTiny", {"decoder_block_out_channels": [8, 8, 8, 16]}),
        ("AutoencoderTiny", {"upsampling_scaling_factor": 3}),
        ("VQModel", {"num_vq_embeddings": 10**12}),
        ("AutoencoderDC", {"decoder_layers_per_block": [1, 1]}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name: str, network: dict[str, Any]) -> None:
    """A card from a stranger cannot ask for a network without bounds."""
    DiffusersConfig.model_validate(record_fields(name), strict=False)

    with pytest.raises(ValidationError):
        DiffusersConfig.model_validate(record_fields(name, **network), strict=False)


@pytest.mark.parametrize(
    "field", [{"downscale": 4}, {"image_shape": [1, None, None]}, {"latent_shape": [9, None, None]}]
)
def test_sizes_must_be_the_networks(field: dict[str, Any]) -> None:
    """The sizes in a card follow from the arguments."""
    with pytest.raises(ValidationError, match="must be equal"):
        DiffusersConfig.model_validate({**record_fields("AutoencoderKL"), **field}, strict=False)


def test_network_that_the_library_does_not_build_is_an_error_of_the_store() -> None:
    """Pixels cannot be gathered into nine channels: the library raises an error of its own."""
    fields = record_fields("AutoencoderDC", encoder_block_out_channels=[8, 9, 8, 8])
    record = DiffusersConfig.model_validate(fields, strict=False)

    with pytest.raises(CannotBuild, match="Cannot build AutoencoderDC"):
        build(record)
