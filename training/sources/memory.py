"""Whether images fit into the memory, before they are read."""

from pathlib import Path

from model_store.free_memory import memory_shortage

from ..errors import BadData


def check_memory(place: Path, needed: int) -> None:
    """Refuse images that need more bytes of memory than are free; `place` names their file.

    Raises:
        BadData: they do not fit.
    """
    if shortage := memory_shortage(needed):
        raise BadData(place, f"to read its images {shortage}; name fewer images")
