"""A client that does not take its answer holds memory of the service, within its share and until it leaves."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from ...serving import serving
from .raw import HOST, connected

IMAGES = 65_536  # 17 MB as safetensors: more than the kernel keeps; 87 MB while they are computed
ADDRESS = f"/v1/sample?n={IMAGES}&format=safetensors"
FLAGS = (f"--max-images-per-request={IMAGES}", f"--queue-images={2 * IMAGES}", "--max-answers-bytes=110000000",
         "--max-answer-bytes=100000000")  # fmt: skip


def test_answer_that_is_not_taken_is_held_until_its_client_leaves(tmp_path: Path) -> None:
    """Another large request of the client is refused meanwhile, and a small one is answered."""
    with serving(tmp_path, *FLAGS) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        with connected(service.url, timeout_s=60) as connection:
            connection.sendall(f"GET {ADDRESS} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
            refused, small = client.get(ADDRESS), client.get("/v1/sample")

        assert (refused.status_code, small.status_code) == (429, 200)
        assert refused.json()["type"] == "urn:latentd:problem:answer-memory-full"
        deadline = time.monotonic() + 20
        while client.get(ADDRESS).status_code != 200:  # the service notices within a second that a client has left
            assert time.monotonic() < deadline
