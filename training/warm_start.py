"""Beginning from a trained model instead of from random weights: with a tighter bound, say, or with more images."""

from __future__ import annotations

from model_store import Store

from .errors import BadRecipe
from .loop import Run
from .recipe import Recipe


def pinned(recipe: Recipe, store: Store) -> Recipe:
    """The recipe with the exact version in `begin_from`, so that its card says with which weights the run began.

    Raises:
        InvalidName, ModelNotFound: the store has none of that name.
    """
    if recipe.begin_from is None:
        return recipe
    return recipe.model_copy(update={"begin_from": str(store.resolve(recipe.begin_from))})


def warm_start(run: Run, store: Store) -> None:
    """Give a run that has not begun the weights of the model that its recipe names, if it names one.

    Raises:
        StoreError: the store cannot give it.
        BadRecipe: it is a model of another build.
    """
    if run.recipe.begin_from is None:
        return
    begun = store.load(store.resolve(run.recipe.begin_from)).model
    if begun.config != run.recipe.model:
        raise BadRecipe(run.recipe.name, f"begin_from: {run.recipe.begin_from} has another [model] than the recipe")
    run.model.load_state_dict(begun.state_dict())
