"""A cache of batch plans in files, so that a restart need not measure them again.

A file has the plans of one model for one set of facts: all that decides how the model is computed. A file that is
broken is ignored. A file is also ignored after a week, so that a warm-up that was disturbed is not used for long. The
runner decides whether plans are possible.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from model_store.files import read_file

from .batch_plan import BatchPlans

FRESH_S = 7 * 24 * 3600
MAX_BYTES = 2**16
FORMAT = 5  # increase it when a warm-up measures different things, so that older files are not read

Facts = Mapping[str, str]

_PLANS = TypeAdapter(BatchPlans)

log = structlog.get_logger()


class PlanCache:
    """The files of a folder. The folder may be missing or read-only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, facts: Facts) -> BatchPlans | None:
        """The plans that were stored for the same facts, or None."""
        file = self._file(facts)
        try:
            if abs(time.time() - file.lstat().st_mtime) < FRESH_S:  # a file from the future would never grow old
                return _PLANS.validate_json(read_file(file, MAX_BYTES))
        except (OSError, ValidationError):
            pass
        return None

    def store(self, facts: Facts, plans: BatchPlans) -> None:
        """Store the plans that were measured under these facts."""
        file = self._file(facts)
        incoming = file.with_suffix(f".{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            incoming.unlink(missing_ok=True)
            with incoming.open("xb") as stream:  # never through a link that has the name
                stream.write(_PLANS.dump_json(plans))
            incoming.replace(file)
        except OSError as error:
            log.info("warm-up is not remembered", reason=str(error), remedy="set cache to a folder that can be written")

    def _file(self, facts: Facts) -> Path:
        digest = hashlib.sha256(json.dumps([FORMAT, dict(facts)], sort_keys=True).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.json"
