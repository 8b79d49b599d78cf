"""The addresses of this protocol."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from ...http.call import Call
from ...http.router import Endpoint, Mount
from ...operations.session import Session, Sessions
from . import decode, encode

ENDPOINTS: list[Endpoint[Session]] = [encode.ENDPOINT, decode.ENDPOINT]

TAG = {
    "name": "remote VAE",
    "description": "The endpoints of `remote_encode` and `remote_decode` of diffusers, for the model in the address. "
    "The shorter address `/v1/remote/decode` means the default model.",
}

_MODEL = Annotated[str, Path(description="name, for the newest version, or name@version", examples=["taef1"])]


def mounts(sessions: Sessions) -> list[Mount[Session]]:
    """The endpoints of the model that the address names, and of the default model at addresses without a model."""

    def open_session(call: Call) -> Session:
        session = sessions.open(call.path.get("model"), call.timings, call.memory)
        call.log_model(session.model.name)
        return session

    named = Mount(
        prefix="/v1/models/{model}",
        endpoints=ENDPOINTS,
        find=open_session,
        tag=TAG["name"],
        path_parameters={"model": _MODEL},
    )
    short = Mount(prefix="/v1", endpoints=ENDPOINTS, find=open_session, tag=TAG["name"], in_schema=False)
    return [named, short]
