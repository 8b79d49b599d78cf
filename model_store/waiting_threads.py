"""Waiting threads: torch's threads soon sleep while they wait for each other or for work. This module knows no torch.

At the end of a piece of work, the threads of torch's library for them (libgomp) look again and again whether there is
more, for some milliseconds. Meanwhile other threads wait for the cores: the event loop, and the threads of Winograd's
convolution, with which TAEF2 then took a third more time. With the number below, other layers lost nothing
(docs/decisions/0015-waiting-threads.md).
"""

from __future__ import annotations

import os

_SPIN_COUNT = "20000"
_CHOICES = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}  # a user who sets one has chosen


def let_waiting_threads_sleep() -> None:
    """Called before torch is imported, since its library reads the environment once.

    Source: GNU libgomp's manual, `GOMP_SPINCOUNT`, read in November 2026.
    """
    if not _CHOICES & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT
