"""Downloads from a server on this machine: each file once, and only with the right hash."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from training.errors import DataNotFound, DownloadFailed
from training.sources import idx
from training.sources.download import DATASETS, PublicDataset, fetch

from ..conftest import bars, idx_bytes

FILES = {idx.TRAIN: idx_bytes(bars(6)), idx.TEST: idx_bytes(bars(2))}
HASHES = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


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
    mirror = Mirror({f"{name}.gz": gzip.compress(content + b"x") for name, content in FILES.items()})
    yield mirror
    mirror.close()


def datasets(*urls: str) -> dict[str, PublicDataset]:
    """One data set on these mirrors."""
    return {"bars": PublicDataset(urls, HASHES)}


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
    """Every file that can be downloaded has a SHA-256."""
    assert all(set(dataset.sha256) == {idx.TRAIN, idx.TEST} for dataset in DATASETS.values())
