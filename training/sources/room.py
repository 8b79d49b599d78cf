"""Whether images fit into the memory, before they are read."""

from pathlib import Path

from model_store.free_memory import free_memory

from ..errors import BadData


def check_room(place: Path, needed: int) -> None:
    """Refuse images that need more bytes of memory than are free; `place` names their file.

    Raises:
        BadData: they do not fit.
    """
    if needed > (free := free_memory()):
        raise BadData(
            place, f"to read its images takes {needed:,} bytes of memory, but only {free:,} are free; name fewer images"
        )
