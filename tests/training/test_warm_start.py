"""A run can begin from a stored model."""

from pathlib import Path

import pytest
import torch

from model_store import ModelNotFound, Store
from training.__main__ import main
from training.errors import BadRecipe
from training.loop import start
from training.recipe import Recipe, read_recipe
from training.warm_start import pinned, warm_start


@pytest.fixture
def store(recipe_file: Path, idx_folder: Path, tmp_path: Path) -> Store:
    """A store with bars@1."""
    root = tmp_path / "store"
    places = ["--store", str(root), "--runs", str(tmp_path / "runs")]
    assert main([str(recipe_file), "--data", str(idx_folder), *places]) == 0
    return Store(root)


def changed(recipe_file: Path, *changes: str) -> Recipe:
    """The small recipe, with changes."""
    return read_recipe(str(recipe_file), changes)


def test_run_begins_with_the_weights_of_the_stored_model(store: Store, recipe_file: Path) -> None:
    """A bare name means the newest version; the recipe then names this version."""
    recipe = pinned(changed(recipe_file, "begin_from=bars"), store)
    run = start(recipe, torch.device("cpu"))
    warm_start(run, store)
    stored = store.load(store.resolve("bars@1")).model.state_dict()

    assert recipe.begin_from == "bars@1"
    assert all(torch.equal(tensor, stored[name]) for name, tensor in run.model.state_dict().items())


def test_run_that_names_no_model_keeps_its_drawn_weights(store: Store, recipe: Recipe) -> None:
    """The weights are drawn from the seed."""
    run, other = start(pinned(recipe, store), torch.device("cpu")), start(recipe, torch.device("cpu"))
    warm_start(run, store)

    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), other.model.parameters(), strict=True))


def test_model_of_another_build_is_refused(store: Store, recipe_file: Path) -> None:
    """The error comes before any work."""
    recipe = changed(recipe_file, "begin_from=bars@1", "model.latent_shape=[3]")

    with pytest.raises(BadRecipe, match=r"bars@1 has another \[model\]"):
        warm_start(start(recipe, torch.device("cpu")), store)


def test_model_that_is_not_there_is_refused(store: Store, recipe_file: Path) -> None:
    """The error is the store's."""
    with pytest.raises(ModelNotFound, match="bars@7"):
        pinned(changed(recipe_file, "begin_from=bars@7"), store)


def test_command_continues_from_a_version(store: Store, recipe_file: Path, idx_folder: Path, tmp_path: Path) -> None:
    """The card of the next version says where the run began."""
    places = ["--store", str(store.root), "--runs", str(tmp_path / "runs")]
    more = ["--set", "epochs=1", "begin_from=bars"]

    assert main([str(recipe_file), "--data", str(idx_folder), *places, *more]) == 0
    training = store.card(store.resolve("bars@2")).training
    assert training is not None
    assert training.recipe["begin_from"] == "bars@1"
