"""A server with as much of the interface of Hugging Face as a download needs, for one repository in a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "owner/name"


class Hub:
    """The repository, and what was asked of it. A file named in `cut` is sent up to that byte, once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.licence: str | None = "mit"
        self.claimed: dict[str, int] = {}
        self.cut: dict[str, int] = {}
        self.sent: list[tuple[str, str | None]] = []

    def listing(self) -> dict[str, Any]:
        """The answer about the repository."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = {str(path.relative_to(self.folder)): path.stat().st_size for path in paths}
        siblings = [{"rfilename": name, "size": self.claimed.get(name, size)} for name, size in names.items()]
        return {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings, "cardData": {"license": self.licence}}


@contextmanager
def serve_hub(folder: Path) -> Iterator[Hub]:
    """Serve a folder as the repository `owner/name`."""
    hub = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Tests have a quiet terminal."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            if path in (f"/api/models/{REPOSITORY}", f"/api/models/{REPOSITORY}/revision/main"):
                self._send(200, json.dumps(hub.listing()).encode(), {"Content-Type": "application/json"})
                return
            name = path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")
            file = folder / name
            if name == path or not file.is_file():
                code = "RevisionNotFound" if f"/{REPOSITORY}/" in path else "RepoNotFound"
                self._send(404, b"", {"X-Error-Code": code, "X-Error-Message": "not found"})
                return
            content = file.read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            span = self.headers.get("Range")
            if not with_body:
                self._send(200, b"", {**headers, "Content-Length": str(len(content))})
                return
            hub.sent.append((name, span))
            start = int(span.removeprefix("bytes=").partition("-")[0]) if span else 0
            rest = content[start:]
            end = hub.cut.pop(name, len(rest))
            self._send(206 if span else 200, rest[:end], {**headers, "Content-Length": str(len(rest))})
            self.close_connection = end < len(rest)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
