"""Whether the service wants requests: not before its models are read, not when it is being stopped."""

from __future__ import annotations

from .errors import DeviceLost, Draining, Starting, Unavailable
from .inference.registry import Registry


class Lifecycle:
    """Starting, ready, draining; and the device, which may fail at any time."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.is_draining = False

    def drain(self) -> None:
        """From now on say that no more requests are wanted; those that come are still answered."""
        self.is_draining = True

    def obstacle(self) -> Unavailable | None:
        """What keeps the service from being ready, or None."""
        if self.is_draining:
            return Draining()
        if self._registry.device.lost:
            return DeviceLost()
        return None if self._registry.is_ready else Starting()
