"""Whether the service is ready for requests: not while it reads its models, and not after it was told to stop."""

from __future__ import annotations

import time

from ..errors import DeviceHung, DeviceLost, Draining, NeedsRestart, Unavailable
from ..inference.registry import Registry

GIVE_UP_S = 30.0  # after the device is lost: by then the balancer has seen /readyz, and other replicas answer


class Lifecycle:
    """The state of the service: starting, ready or draining, and whether its device works."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.is_draining = False

    def drain(self) -> None:
        """Report that the service is not ready from now on. Requests that still arrive are answered."""
        self.is_draining = True

    def why_not_ready(self) -> Unavailable | None:
        """The reason why the service is not ready, or None if it is ready."""
        if self.is_draining:
            return Draining()
        if self._registry.device.lost:
            return DeviceLost()
        if self._registry.device.seems_to_hang:
            return DeviceHung()
        return self._registry.why_not_ready()

    def why_restart(self) -> NeedsRestart | None:
        """The reason why the process must be restarted, or None if a restart is not needed."""
        lost_at = self._registry.device.lost_at
        if lost_at is None or (seconds := time.monotonic() - lost_at) < GIVE_UP_S:
            return None
        return NeedsRestart(seconds)
