"""The call of an operation: HTTP's call, and the model it means."""

from __future__ import annotations

from dataclasses import dataclass

from ...http import call
from ...inference.served_model import ServedModel
from ...operations.session import Session, Sessions


@dataclass
class Call(call.Call):
    """A request, and the session with the model that it means."""

    sessions: Sessions
    session: Session
    max_pixels: int
    """Of one picture."""

    @property
    def model(self) -> ServedModel:
        """The model that answers."""
        return self.session.model
