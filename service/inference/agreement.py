"""The moment at which all workers switch to new models: when the last of them has loaded them."""

from __future__ import annotations

import mmap


class Agreement:
    """In shared memory, the set of models that each worker has loaded last, and the set that all of them serve.

    A set is named by a number that is not 0. Made before the workers are forked.
    """

    def __init__(self, workers: int = 1) -> None:
        self._loaded = memoryview(mmap.mmap(-1, 8 * workers)).cast("Q")
        self._agreed = memoryview(mmap.mmap(-1, 8)).cast("Q")
        self._number = 0

    def join(self, number: int) -> None:
        """Called in a worker that has been forked."""
        self._number = number

    def leave(self, number: int) -> None:
        """Called when a worker has ended: the others do not wait for it."""
        self._loaded[number] = 0

    def offer(self, models: int) -> bool:
        """Tell the other workers that this one has loaded a set; whether all workers have loaded it."""
        self._loaded[self._number] = models
        if set(self._loaded) <= {0, models}:
            self._agreed[0] = models
        return self._agreed[0] == models

    def is_ahead_of(self, models: int) -> bool:
        """Whether other workers serve another set than this worker, which serves `models`."""
        others = [loaded for number, loaded in enumerate(self._loaded) if number != self._number]
        return self._agreed[0] != models and any(others)
