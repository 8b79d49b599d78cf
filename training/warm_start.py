"""Begin a run from a stored model instead of from random weights, to train it further."""

from __future__ import annotations

from model_store import Store

from .errors import BadRecipe
from .loop import Run
from .recipe import Recipe


def pinned(recipe: Recipe, store: Store) -> Recipe:
    """Return the recipe with the exact version in `begin_from`, so that the card says with which weights the run began.

    Raises:
        InvalidName, ModelNotFound: the store has no such model.
    """
    if recipe.begin_from is None:
        return recipe
    return recipe.model_copy(update={"begin_from": str(store.resolve(recipe.begin_from))})


def warm_start(run: Run, store: Store) -> None:
    """Give a new run the weights of the stored model that its recipe names, if it names any.

    Raises:
        StoreError: the store cannot load the model.
        BadRecipe: the stored model has another network.
    """
    if run.recipe.begin_from is None:
        return
    begun = store.load(store.resolve(run.recipe.begin_from)).model
    if begun.config != run.recipe.model:
        raise BadRecipe(run.recipe.name, f"begin_from: {run.recipe.begin_from} has another [model] than the recipe")
    run.model.load_state_dict(begun.state_dict())
