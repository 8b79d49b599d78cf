"""Downloads from a server on this machine: each file once, only with the right hash, and within bounds."""

import gzip
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from training.errors import DataNotFound, DownloadFailed
from training.sources import idx
from training.sources.download import DATASETS, PublicDataset, PublicFile, fetch

from ..conftest import bars, idx_bytes

FILES = {idx.TRAIN: idx_bytes(bars(6)), idx.TEST: idx_bytes(bars(2))}
WANTED = {name: PublicFile(hashlib.sha256(content).hexdigest(), len(content)) for name, content in FILES.items()}


class Mirror:
    """A server of some files; it remembers the requested paths."""

    def __init__(self, files: dict[str, bytes]) -> None:
        asked: list[str] = []
        self.asked = asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                content = files.get(self.path.removeprefix("/"))
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def good() -> Iterator[Mirror]:
    """A mirror that has the compressed files."""
    mirror = Mirror({f"{name}.gz": gzip.compress(content) for name, content in FILES.items()})
    yield mirror
    mirror.close()


@pytest.fixture
def bad() -> Iterator[Mirror]:
    """A mirror that has other files under their names."""
    mirror = Mirror({f"{name}.gz": gzip.compress(content[:-1] + b"x") for name, content in FILES.items()})
    yield mirror
    mirror.close()


def datasets(*urls: str) -> dict[str, PublicDataset]:
    """One data set on these mirrors."""
    return {"bars": PublicDataset(urls, WANTED)}


def test_files_are_downloaded_once(tmp_path: Path, good: Mirror) -> None:
    """The second call reads the files from the cache."""
    folder = fetch("bars", tmp_path, datasets(good.url))
    fetch("bars", tmp_path, datasets(good.url))

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert len(good.asked) == 2


def test_next_mirror_is_asked_when_one_gives_something_else(tmp_path: Path, bad: Mirror, good: Mirror) -> None:
    """A file with the wrong hash is not used; the next mirror is asked."""
    folder = fetch("bars", tmp_path, datasets(bad.url, good.url))

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def test_nothing_is_kept_of_what_has_the_wrong_hash(tmp_path: Path, bad: Mirror) -> None:
    """The message has both hashes and the remedy."""
    with pytest.raises(DownloadFailed, match=r"its SHA-256 is .*, expected .*--data"):
        fetch("bars", tmp_path, datasets(bad.url))

    assert list((tmp_path / "bars").iterdir()) == []


def test_mirror_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """The message has the mirror's address."""
    with pytest.raises(DownloadFailed, match=r"http://127\.0\.0\.1:9/"):
        fetch("bars", tmp_path, datasets("http://127.0.0.1:9"))


def test_unknown_data_set_lists_those_that_can_be_downloaded(tmp_path: Path) -> None:
    """The message names the known data sets and the remedy."""
    with pytest.raises(DataNotFound, match="only mnist, fashion-mnist can be downloaded; name a folder with --data"):
        fetch("celeba", tmp_path)


def test_known_data_sets_have_a_hash_for_each_file() -> None:
    """And the size of 28×28 pixels of each image, and mirrors with https alone."""
    sizes = {idx.TRAIN: 16 + 60_000 * 28 * 28, idx.TEST: 16 + 10_000 * 28 * 28}

    for dataset in DATASETS.values():
        assert {name: file.bytes for name, file in dataset.files.items()} == sizes
        assert all(url.startswith("https://") for url in dataset.mirrors)


def serve(answer: Callable[[BaseHTTPRequestHandler], None]) -> ThreadingHTTPServer:
    """A server that answers every GET with this function."""
    handler = type("Handler", (BaseHTTPRequestHandler,), {"do_GET": answer, "log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def send(handler: BaseHTTPRequestHandler, content: bytes, **headers: str) -> None:
    """Answer with some bytes, and say nothing of their number."""
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Send random bytes until the client leaves."""
    send(handler, b"")
    with suppress(OSError):
        while True:
            handler.wfile.write(os.urandom(65536))


BOMB = gzip.compress(bytes(2**26), compresslevel=1)[:1000]


def bomb(handler: BaseHTTPRequestHandler) -> None:
    """Send the first bytes of a file that unpacks to 64 MiB."""
    send(handler, BOMB)


def announced_bomb(handler: BaseHTTPRequestHandler) -> None:
    """Send the right file inside another encoding, which the client did not ask for."""
    send(handler, gzip.compress(gzip.compress(FILES[idx.TRAIN])), Content_Encoding="gzip")


def drops(handler: BaseHTTPRequestHandler) -> None:
    """Send a byte every tenth of a second, until the client leaves."""
    send(handler, b"")
    with suppress(OSError):
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.1)


def drops_of_head(handler: BaseHTTPRequestHandler) -> None:
    """Send a header line that never ends, a byte every tenth of a second, until the client leaves."""
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.1)


def silence(_: BaseHTTPRequestHandler) -> None:
    """Answer nothing for a while."""
    time.sleep(3)


def odd_length(handler: BaseHTTPRequestHandler) -> None:
    """Send a length of more digits than Python converts."""
    send(handler, b"x", Content_Length="9" * 5000)


def odd_place(handler: BaseHTTPRequestHandler) -> None:
    """Send the client to an address that cannot be one."""
    handler.send_response(302)
    handler.send_header("Location", "https://\xad\xad.." + "a" * 300 + ":99999999/[")
    handler.end_headers()


def circle(handler: BaseHTTPRequestHandler) -> None:
    """Send the client to the same address again."""
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


def plain(handler: BaseHTTPRequestHandler) -> None:
    """Send the client to a server without https."""
    handler.send_response(302)
    handler.send_header("Location", "http://example.org/file.gz")
    handler.end_headers()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (endless, "it has more than 1,400 bytes"),
        (bomb, "it unpacks to more than 400 bytes"),
        (announced_bomb, "it unpacks to more than|its SHA-256 is|Not a gzipped file"),
        (odd_length, "Content-Length|RemoteProtocolError|digits"),
        (odd_place, "train-images"),
        (circle, "Exceeded maximum allowed redirects"),
        (plain, "it leads to http://example.org/file.gz, which is not https"),
    ],
)
def test_server_that_means_harm_is_left(
    tmp_path: Path, good: Mirror, answer: Callable[[BaseHTTPRequestHandler], None], reason: str
) -> None:
    """The memory has a bound, nothing is kept, and the next mirror is asked."""
    server = serve(answer)
    url = f"http://127.0.0.1:{server.server_port}"

    with pytest.raises(DownloadFailed, match=reason):
        fetch("bars", tmp_path / "alone", datasets(url))
    assert list((tmp_path / "alone" / "bars").iterdir()) == []
    folder = fetch("bars", tmp_path, datasets(url, good.url))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES

    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("answer", [drops, drops_of_head, silence])
def test_server_that_sends_too_slowly_is_left(
    tmp_path: Path, answer: Callable[[BaseHTTPRequestHandler], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read of the socket never waits long, but the whole would take an endless time."""
    monkeypatch.setattr("training.sources.download._PATIENCE_S", 0.5)
    server = serve(answer)

    with pytest.raises(DownloadFailed, match=r"it sent fewer than 10,000 bytes a second|ReadTimeout"):
        fetch("bars", tmp_path, datasets(f"http://127.0.0.1:{server.server_port}"))

    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_cache_can_be_read_by_other_users(tmp_path: Path, good: Mirror, umask: int) -> None:
    """The modes do not depend on the umask; what a killed download left is replaced."""
    (tmp_path / "cache" / "bars").mkdir(parents=True)
    (tmp_path / "cache" / "bars" / f".{idx.TRAIN}.partial").symlink_to(tmp_path / "other")
    mask = os.umask(umask)
    try:
        folder = fetch("bars", tmp_path / "cache", datasets(good.url))
        other = fetch("bars", tmp_path / "new" / "cache", datasets(good.url))
    finally:
        os.umask(mask)

    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (other, other.parent, other.parent.parent)} == {0o755}
    assert not (tmp_path / "other").exists()
