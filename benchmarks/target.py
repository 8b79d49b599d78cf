"""A promise and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from .page import NOTHING


@dataclass(frozen=True)
class Target:
    """A promise: `value` of a run (None: not measured) beside `bound`, of which it is to be at least or at most."""

    name: str
    bound: float
    value: float | None
    at_least: bool

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.value is None:
            return "not measured"
        reached = self.value >= self.bound if self.at_least else self.value <= self.bound
        return "reached" if reached else "not reached"

    def cells(self) -> list[str]:
        """A row of a table."""
        wanted = f"{'≥' if self.at_least else '≤'} {self.bound:g}"
        if self.value is None:
            return [self.name, wanted, NOTHING, self.verdict]
        return [self.name, wanted, f"{self.value:.2f}", f"**{self.verdict}**"]
