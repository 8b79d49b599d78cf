"""The names that others may rely on."""

import model_store


def test_every_promised_name_is_there() -> None:
    """`__all__` is a promise."""
    assert all(hasattr(model_store, name) for name in model_store.__all__)


def test_store_errors_are_one_family() -> None:
    """A single `except` catches every error of a stored model."""
    errors = [getattr(model_store, name) for name in model_store.__all__]

    assert {error for error in errors if isinstance(error, type) and issubclass(error, Exception)} == {
        model_store.StoreError,
        *model_store.StoreError.__subclasses__(),
    }
