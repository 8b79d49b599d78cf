"""The place of work: the event loop, a thread, or a process.

Work of a few milliseconds is done in place, on the event loop. NumPy and torch release Python's lock while they work: a
thread is good enough for them, and shares their memory. Pillow, JSON and multipart hold the lock, for seconds if a
client wants it: work on large input of such libraries is done in a process, which is ended when its caller's time is
over.
"""

from .processes import LIGHT_BYTES, LIGHT_PICTURE_BYTES, LIGHT_PICTURE_COST, LIGHT_VALUES, Processes
from .threads import LIGHT_ARRAY_BYTES, offload

__all__ = [
    "LIGHT_ARRAY_BYTES",
    "LIGHT_BYTES",
    "LIGHT_PICTURE_BYTES",
    "LIGHT_PICTURE_COST",
    "LIGHT_VALUES",
    "Processes",
    "offload",
]
