"""Begin a run from a stored model instead of from random weights, to train it further."""

from __future__ import annotations

from model_store import Store, VAEConfig
from model_store.families import ModelConfig
from model_store.vae import GaussianConfig

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
        BadRecipe: the stored model has another [model], which may differ in nothing but a fitted deviation.
    """
    if run.recipe.begin_from is None:
        return
    begun = store.load(store.resolve(run.recipe.begin_from)).model
    wanted = run.recipe.model
    fits = run.recipe.objective.fits_deviation
    if begun.config != wanted and not (fits and _differ_in_deviation(begun.config, wanted)):
        raise BadRecipe(run.recipe.name, f"begin_from: {run.recipe.begin_from} has another [model] than the recipe")
    run.model.load_state_dict(begun.state_dict())


def _differ_in_deviation(one: ModelConfig, other: VAEConfig) -> bool:
    """Whether two models differ in nothing but a number that a run with `fits_deviation` fits again."""
    if not isinstance(one, VAEConfig) or not isinstance(one.likelihood, GaussianConfig):
        return False
    with_same_likelihood = one.model_copy(update={"likelihood": other.likelihood})
    return with_same_likelihood == other and one.likelihood.standard_deviation is not None
