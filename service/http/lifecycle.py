"""Whether the service wants requests: not before its models are read, not when it is being stopped."""

from __future__ import annotations

import time

from ..errors import BeyondRepair, DeviceHung, DeviceLost, Draining, Unavailable
from ..inference.registry import Registry

GIVE_UP_S = 30.0  # after the device is lost: others have been told by then that they are to answer instead


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
        if self._registry.device.seems_to_hang:
            return DeviceHung()
        return self._registry.why_not_ready()

    def ruin(self) -> BeyondRepair | None:
        """What only a restart can put right, or None."""
        lost_at = self._registry.device.lost_at
        if lost_at is None or (seconds := time.monotonic() - lost_at) < GIVE_UP_S:
            return None
        return BeyondRepair(seconds)
