"""Public data sets, downloaded once into a cache.

The hashes are of the unpacked files, so that a mirror may compress them again. A file appears in the cache only when
its hash is right.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from ..console import track
from ..errors import DataNotFound, DownloadFailed
from . import idx

DEFAULT_CACHE = Path("~/.cache/latentd")

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class PublicDataset:
    """A data set of IDX files: its mirrors, and the SHA-256 of each unpacked file."""

    mirrors: tuple[str, ...]
    sha256: dict[str, str]


DATASETS = {
    "mnist": PublicDataset(
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        sha256={
            idx.TRAIN: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            idx.TEST: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        },
    ),
    "fashion-mnist": PublicDataset(
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
        sha256={
            idx.TRAIN: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            idx.TEST: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
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
    folder = cache.expanduser() / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, sha256 in dataset.sha256.items():
        if not (folder / file).is_file():
            download(folder / file, [f"{mirror}/{file}.gz" for mirror in dataset.mirrors], sha256)
    return folder


def download(path: Path, urls: Sequence[str], sha256: str) -> None:
    """Download a file from the first URL that gives the content with this hash, and unpack it.

    Raises:
        DownloadFailed: no URL gave that content; the path is unchanged.
    """
    problems = []
    for url in urls:
        try:
            with httpx.stream("GET", url, timeout=_TIMEOUT_S, follow_redirects=True) as response:
                response.raise_for_status()
                size = int(response.headers.get("Content-Length", 0)) or None
                name = url.rsplit("/", 1)[-1]
                packed = b"".join(track(response.iter_bytes(), size, f"downloading {name}", advance=len))
            content = gzip.decompress(packed)
        except (httpx.HTTPError, OSError, EOFError, zlib.error) as error:
            problems.append(f"{url}: {error or type(error).__name__}")
            continue
        found = hashlib.sha256(content).hexdigest()
        if found == sha256:
            partial = path.with_name(f".{path.name}.partial")
            partial.write_bytes(content)
            partial.rename(path)
            return
        problems.append(f"{url}: its SHA-256 is {found[:12]}…, expected {sha256[:12]}…")
    raise DownloadFailed(path.name, problems)
