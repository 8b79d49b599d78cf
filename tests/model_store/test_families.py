"""The families of models: each builds its network from its record, and answers the same questions."""

import json
from typing import Any

import pytest

from model_store import Store, UnknownFormat, VAEConfig
from model_store.families import FAMILIES, build
from model_store.vae import MLPConfig
from model_store.vae.family import OPERATIONS, ShapeMismatch

from ..conftest import COLOUR, GREY

POINT = VAEConfig(image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(4,)), posterior="point")
DECODER = VAEConfig(image_shape=(1, 8, 8), latent_shape=(3,), network=MLPConfig(hidden=(4,)), posterior="none")


def add_to_card(store: Store, **fields: object) -> None:
    """Write further fields into `model` of the grey model's card."""
    path = store.folder(store.resolve("grey")) / "card.json"
    card: dict[str, dict[str, Any]] = json.loads(path.read_text())
    card["model"].update(fields)
    path.chmod(0o644)
    path.write_text(json.dumps(card))


def test_every_record_has_its_row() -> None:
    """The table says for each record what builds its network."""
    assert type(GREY) in FAMILIES
    assert build(GREY).config == GREY


@pytest.mark.parametrize("config", [GREY, COLOUR, POINT, DECODER])
def test_shapes_follow_from_each_other(config: VAEConfig) -> None:
    """The latent of an image gives an image of the same shape."""
    assert config.image_shape_of(config.latent_shape_of(config.image_shape)) == config.image_shape


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

    with pytest.raises(UnknownFormat, match=r"model must have one of vae, taesd as its family, not flow"):
        store.card(store.resolve("grey"))
