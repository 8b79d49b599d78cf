"""The families of models: each builds its network from its record, and answers the same questions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model_store import Store, UnknownFormat, VAEConfig
from model_store.families import FAMILIES, build
from model_store.taesd import TAESDConfig
from model_store.vae import MLPConfig
from model_store.vae.family import OPERATIONS, FamilyConfig, ShapeMismatch

from ..conftest import COLOUR, GREY
from .library_models import SETTINGS, record

POINT = VAEConfig(image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(4,)), posterior="point")
DECODER = VAEConfig(image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(4,)), posterior="none")

TINY = TAESDConfig(image_shape=(3, None, None), latent_shape=(4, None, None), latent_space="any")
WITH_NORM = TAESDConfig(
    image_shape=(3, None, None), latent_shape=(32, None, None), latent_space="any", has_middle_norm=True
)
RECORDS: dict[str, FamilyConfig] = {
    "vae": GREY,
    "vae of colour": COLOUR,
    "plain autoencoder": POINT,
    "decoder": DECODER,
    "taesd": TINY,
    "taesd with norms": WITH_NORM,
    **{name: record(name) for name in SETTINGS},
}
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.02}


def add_to_card(store: Store, **fields: object) -> None:
    """Write further fields into `model` of the grey model's card."""
    path = store.folder(store.resolve("grey")) / "card.json"
    card: dict[str, dict[str, Any]] = json.loads(path.read_text())
    card["model"].update(fields)
    path.chmod(0o644)
    path.write_text(json.dumps(card))


def test_every_record_has_its_row() -> None:
    """The table says for each record what builds its network, and each row is tested here."""
    assert {type(config) for config in RECORDS.values()} == set(FAMILIES)


@pytest.fixture(params=RECORDS)
def config(request: pytest.FixtureRequest) -> FamilyConfig:
    """The record of each kind of model."""
    return RECORDS[request.param]


def test_record_builds_its_network(config: FamilyConfig) -> None:
    """The network has the record, and weights on the CPU."""
    model = build(config)

    assert (model.config, model.device.type) == (config, "cpu")


def test_shapes_follow_from_each_other(config: FamilyConfig) -> None:
    """The latent of an image gives an image of the same shape."""
    shape = config.example_shape

    assert config.image_shape_of(config.latent_shape_of(shape)) == shape


def test_model_takes_the_shape_that_fits(config: FamilyConfig) -> None:
    """The fitting shape of any size is a shape of the model, and one that the model takes fits itself."""
    shape = config.fitting_shape(37, 90)

    assert config.image_shape_of(config.latent_shape_of(shape)) == shape
    assert config.fitting_shape(*shape[1:]) == shape


@pytest.mark.parametrize("shape", [(3, 0, 8), (2, 8, 8), (3, 8), (3, 9, 8), (3, 10**9, 8)])
def test_strange_images_are_refused_by_every_family(config: FamilyConfig, shape: tuple[int, ...]) -> None:
    """The error has both shapes and a remedy."""
    with pytest.raises(ShapeMismatch) as caught:
        config.latent_shape_of(shape)

    assert (caught.value.got, caught.value.expected) == (shape, config.image_shape)
    assert caught.value.remedy


@pytest.mark.parametrize("shape", [(99, 4, 4), (4, 4), (4, 0, 4), (4, 10**9, 4)])
def test_strange_latents_are_refused_by_every_family(config: FamilyConfig, shape: tuple[int, ...]) -> None:
    """The error has both shapes and a remedy."""
    with pytest.raises(ShapeMismatch) as caught:
        config.image_shape_of(shape)

    assert (caught.value.got, caught.value.expected) == (shape, config.latent_shape)


def test_each_lack_has_a_reason_and_a_remedy(config: FamilyConfig) -> None:
    """Every operation can be done, or a sentence says what to do instead; every model can decode."""
    lacks = {operation: lack for operation in OPERATIONS if (lack := config.lacks(operation))}

    assert config.can == set(OPERATIONS) - lacks.keys()
    assert "decode" in config.can
    assert all(lack.reason and lack.remedy for lack in lacks.values())


def test_larger_images_need_no_less_memory(config: FamilyConfig) -> None:
    """The service bounds its batches by this number."""
    small, large = (config.activation_bytes_of(config.fitting_shape(side, side)) for side in (8, 128))

    assert 0 < small <= large


def test_record_comes_back_from_a_card(config: FamilyConfig, tmp_path: Path) -> None:
    """A published model has the same record and the same weights."""
    store, model = Store(tmp_path), build(config)

    loaded = store.load(store.publish("new", model))

    assert loaded.card.model == loaded.model.config == config
    torch.testing.assert_close(dict(loaded.model.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_decoded_latents_are_images(config: FamilyConfig, precision: torch.dtype) -> None:
    """Images are float32 in [0, 1], in every precision of the weights, and each image of a batch is its own."""
    shape = config.fitting_shape(16, 24)
    torch.manual_seed(0)
    model, latents = build(config).eval().to(precision), torch.randn(2, *config.latent_shape_of(shape))

    images = model.decode(latents).mean

    assert (images.shape, images.dtype) == ((2, *shape), torch.float32)
    assert 0 <= images.min() <= images.max() <= 1
    torch.testing.assert_close(model.decode(latents[1:]).mean, images[1:], rtol=0, atol=_TOLERANCE[precision])


@pytest.mark.parametrize("name", [name for name, config in RECORDS.items() if "encode" in config.can])
@torch.inference_mode()
def test_encoded_images_are_latents(name: str) -> None:
    """A point has no variance, and a distribution has one for each value."""
    config = RECORDS[name]
    model, images = build(config).eval(), torch.rand(2, *config.fitting_shape(16, 24))

    posterior = model.encode(images)

    expected = (2, *config.latent_shape_of(tuple(images.shape[1:])))
    tensors = [tensor for tensor in (posterior.mean, posterior.log_variance) if tensor is not None]
    assert {(tensor.shape, tensor.dtype) for tensor in tensors} == {(expected, torch.float32)}


def test_image_of_another_shape_is_refused() -> None:
    """The error holds both shapes and the remedy."""
    with pytest.raises(ShapeMismatch) as caught:
        COLOUR.latent_shape_of((3, 9, 8))

    assert (caught.value.got, caught.value.expected) == ((3, 9, 8), COLOUR.image_shape)
    assert "send them in that shape" in str(caught.value)


def test_latent_of_another_shape_is_refused() -> None:
    """The model takes a vector, so a grid is refused."""
    with pytest.raises(ShapeMismatch, match="send them in that shape"):
        POINT.image_shape_of((3, 1, 1))


@pytest.mark.parametrize(
    ("config", "lacking"),
    [
        (GREY, set()),
        (POINT, {"sample", "score"}),
        (DECODER, {"encode", "reconstruct", "score"}),
    ],
    ids=["vae", "point", "decoder"],
)
def test_operations_that_a_model_lacks(config: VAEConfig, lacking: set[str]) -> None:
    """A model can do every operation that it does not lack."""
    assert {operation for operation in OPERATIONS if config.lacks(operation)} == lacking
    assert config.can == set(OPERATIONS) - lacking


def test_card_of_the_first_family_does_not_name_it(store: Store) -> None:
    """Cards without the field `family` and new cards have the same text."""
    card = json.loads((store.folder(store.resolve("grey")) / "card.json").read_text())

    assert "family" not in card["model"]


def test_card_may_name_its_family(store: Store) -> None:
    """A card with `vae` and a card without a family are the same."""
    before = store.card(store.resolve("grey"))

    add_to_card(store, family="vae")

    assert store.card(store.resolve("grey")) == before


def test_unknown_family_is_refused(store: Store) -> None:
    """A card of a later release may have a family that this release does not know."""
    add_to_card(store, family="flow")

    with pytest.raises(UnknownFormat, match=r"model must have one of vae, taesd, diffusers as its family, not flow"):
        store.card(store.resolve("grey"))
