"""Public data sets, downloaded once into a cache.

The hashes and sizes are of the unpacked files, so that a mirror may compress them again. A file appears in the cache
only when its hash is right. A server that sends too much, too slowly, or without https is left, and the next is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from model_store.files import make_folder, replace_file

from ..console import download_bar
from ..errors import DataNotFound, DownloadFailed
from . import idx

DEFAULT_CACHE = Path("~/.cache/latentd")

_PATIENCE_S = 30.0
_LEAST_BYTES_PER_S = 10_000
_MAX_REDIRECTS = 5


@dataclass(frozen=True)
class PublicFile:
    """A file as it is after unpacking: its SHA-256 and its size in bytes."""

    sha256: str
    bytes: int

    @property
    def most_packed_bytes(self) -> int:
        """The largest size of the packed file; gzip makes no content much larger."""
        return self.bytes + self.bytes // 1000 + 1000


@dataclass(frozen=True)
class PublicDataset:
    """A data set of IDX files: the mirrors that have them packed with gzip, and the unpacked files by their names."""

    mirrors: tuple[str, ...]
    files: dict[str, PublicFile]


DATASETS = {
    "mnist": PublicDataset(
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        files={
            idx.TRAIN: PublicFile("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016),
            idx.TEST: PublicFile("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016),
        },
    ),
    "fashion-mnist": PublicDataset(
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        ),
        files={
            idx.TRAIN: PublicFile("c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 47_040_016),
            idx.TEST: PublicFile("5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 7_840_016),
        },
    ),
}


def fetch(name: str, cache: Path, datasets: dict[str, PublicDataset] = DATASETS) -> Path:
    """Download the files of a data set that the cache does not have, and return their folder.

    Raises:
        DataNotFound: there is no such data set.
        DownloadFailed: no mirror gave a file with the right hash.
    """
    if name not in datasets:
        raise DataNotFound(
            f"the data set {name}", f"only {', '.join(datasets)} can be downloaded; name a folder with --data"
        )
    dataset = datasets[name]
    folder = make_folder(cache.expanduser() / name)
    for file, wanted in dataset.files.items():
        if not (folder / file).is_file():
            download(folder / file, [f"{mirror}/{file}.gz" for mirror in dataset.mirrors], wanted)
    return folder


def download(path: Path, urls: Sequence[str], wanted: PublicFile) -> None:
    """Download a file from the first URL that gives the content with this hash, and unpack it.

    Raises:
        DownloadFailed: no URL gave that content; the path is unchanged.
    """
    problems = []
    for url in urls:
        try:
            content = idx.unpack(asyncio.run(_get(url, wanted.most_packed_bytes)), wanted.bytes)
        except TimeoutError:
            problems.append(f"{url}: it sent fewer than {_LEAST_BYTES_PER_S:,} bytes a second")
            continue
        except Exception as error:  # a server can send anything, and the libraries raise many kinds of errors for it
            problems.append(f"{url}: {error or type(error).__name__}")
            continue
        found = hashlib.sha256(content).hexdigest()
        if found == wanted.sha256:
            replace_file(path, content)
            return
        problems.append(f"{url}: its SHA-256 is {found[:12]}…, expected {wanted.sha256[:12]}…")
    raise DownloadFailed(path.name, problems)


async def _get(url: str, at_most: int) -> bytes:
    """The body that a URL gives, of at most that many bytes. Each byte must come in time, also in the head.

    Raises:
        TimeoutError: the bytes come too slowly.
        HTTPError, InvalidURL: the server does not answer, or not with the file.
        OSError: the file is larger.
    """
    content, began = bytearray(), asyncio.get_running_loop().time()
    async with asyncio.timeout(_PATIENCE_S) as deadline, _answer(url) as answer:
        size = answer.headers.get("Content-Length", "")
        with download_bar(url.rsplit("/", 1)[-1], int(size) if size.isdecimal() else None) as advance:
            async for piece in answer.aiter_raw():  # not unpacked: the file is packed, and its hash is of its content
                content += piece
                if len(content) > at_most:
                    raise OSError(f"it has more than {at_most:,} bytes")
                deadline.reschedule(began + _PATIENCE_S + len(content) / _LEAST_BYTES_PER_S)
                advance(len(piece))
    return bytes(content)


@asynccontextmanager
async def _answer(url: str) -> AsyncIterator[httpx.Response]:
    """The answer of a server, whose body has not been read. Redirects may lead to https alone."""
    first = httpx.URL(url)

    async def refuse_plain_http(request: httpx.Request) -> None:
        is_on_this_machine = request.url.host == first.host == "127.0.0.1"
        if request.url.scheme != "https" and not is_on_this_machine:
            raise httpx.UnsupportedProtocol(f"it leads to {request.url}, which is not https")

    client = httpx.AsyncClient(
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        timeout=_PATIENCE_S,
        headers={"Accept-Encoding": "identity"},
        event_hooks={"request": [refuse_plain_http]},
    )
    async with client, client.stream("GET", url) as answer:
        answer.raise_for_status()
        yield answer
