"""The operations of this protocol, and the addresses at which they are answered."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from ...http.call import Call
from ...http.router import Endpoint, Mount
from ...operations.session import Session, Sessions
from . import answer_bytes, decode, encode, interpolate, picture_bodies, reconstruct, sample, score, traverse
from .models import REFERENCE

ENDPOINTS: list[Endpoint[Session]] = [
    encode.ENDPOINT,
    decode.ENDPOINT,
    sample.ENDPOINT,
    reconstruct.ENDPOINT,
    score.ENDPOINT,
    interpolate.ENDPOINT,
    traverse.ENDPOINT,
]

PROCESS_MODULES = (picture_bodies.__name__, answer_bytes.__name__)
"""The modules whose functions are called in processes."""

_MODEL = Annotated[str, Path(description=REFERENCE, examples=["mnist"])]


def mounts(sessions: Sessions) -> list[Mount[Session]]:
    """The operations of the model that the address names, and of the default model at addresses without a model."""

    def open_session(call: Call) -> Session:
        session = sessions.open(call.path.get("model"), call.timings, call.memory)
        call.log_model(session.model.name)
        return session

    tag = "operations"
    named = Mount(
        prefix="/v1/models/{model}",
        endpoints=ENDPOINTS,
        find=open_session,
        tag=tag,
        path_parameters={"model": _MODEL},
    )
    # the description of the tag tells of the short addresses
    short = Mount(prefix="/v1", endpoints=ENDPOINTS, find=open_session, tag=tag, in_schema=False)
    return [named, short]
