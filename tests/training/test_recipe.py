"""Recipes: reading, changing and checking them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from training.errors import BadRecipe
from training.recipe import SHELF, SHIPPED, read_recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_can_be_read_by_its_name(name: str) -> None:
    """The recipe publishes under its own name, or as the next version of the model that it begins from."""
    recipe = read_recipe(name)

    assert (recipe.begin_from or name).partition("@")[0] == recipe.name


@pytest.mark.parametrize("path", sorted(SHELF.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipe_begins_with_its_command(path: Path) -> None:
    """A reader learns how to run it, how long that takes, and what to expect."""
    header = path.read_text(encoding="utf-8").split("\n\n")[0]

    assert f"python -m training {path.stem}" in header
    assert "minutes" in header
    assert "nats" in header


def test_recipe_is_read_from_a_path(recipe_file: Path) -> None:
    """A recipe can be any TOML file."""
    assert read_recipe(str(recipe_file)).name == "bars"


def test_changes_replace_single_values(recipe_file: Path) -> None:
    """A change has a dotted key and a TOML value; a bare word is a string."""
    changes = [
        "epochs=7",
        "optimiser.learning_rate=1e-4",
        "model.network.activation=relu",
        "model.network.hidden=[4, 2]",
    ]

    recipe = read_recipe(str(recipe_file), changes)

    assert (recipe.epochs, recipe.optimiser.learning_rate) == (7, 1e-4)
    assert recipe.model.network.model_dump() == {"kind": "mlp", "hidden": (4, 2), "activation": "relu"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param("epoch=3", "epoch is not known; did you mean epochs?", id="unknown-key"),
        pytest.param("epochs=three", "epochs must be a whole number", id="wrong-type"),
        pytest.param("epochs=0", "epochs must be at least 1, not 0", id="too-low"),
        pytest.param("model.latent_shape=[2, 2, 2, 2]", "model.latent_shape", id="wrong-shape"),
        pytest.param("name=../up", "is not the name of a model", id="name-with-a-path"),
        pytest.param("epochs", "--set takes key=value", id="no-value"),
        pytest.param("epochs.x=1", "epochs is a value, not a table", id="table-of-a-value"),
        pytest.param("data.resize=squeeze", "data.resize", id="unknown-word"),
        pytest.param("optimiser.learning_rate=nan", "optimiser.learning_rate", id="not-finite"),
    ],
)
def test_change_that_does_not_fit_is_an_error_before_any_work(recipe_file: Path, change: str, message: str) -> None:
    """The key and the reason are in the message."""
    with pytest.raises(BadRecipe, match=message):
        read_recipe(str(recipe_file), [change])


def test_all_problems_are_named_at_once(recipe_file: Path) -> None:
    """The user need not correct them one by one."""
    with pytest.raises(BadRecipe, match=r"epochs.*seed|seed.*epochs"):
        read_recipe(str(recipe_file), ["epochs=-1", "seed=-1"])


def test_unknown_name_lists_the_shelf() -> None:
    """The message lists the shipped recipes."""
    with pytest.raises(BadRecipe, match=f"one of {', '.join(SHIPPED)}"):
        read_recipe("celeba")


def test_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    """The message names the file."""
    path = tmp_path / "recipe.toml"
    path.write_text("epochs = ")

    with pytest.raises(BadRecipe, match=str(path)):
        read_recipe(str(path))


def test_recipe_is_frozen(recipe_file: Path) -> None:
    """A recipe cannot change during a run."""
    recipe = read_recipe(str(recipe_file))

    with pytest.raises(ValidationError, match="frozen"):
        recipe.epochs = 9  # type: ignore[misc]  # mypy refuses it too
