"""A pair of `.pth` files of a tiny autoencoder (madebyollin/taesd) to a model of the family `taesd`.

Such a file is a pickle, which can run code when it is read. This module is the only one that reads pickles from
strangers: with `weights_only`, which refuses everything but tensors.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..taesd import TAESDConfig
from ..weights import empty
from .candidate import Candidate, Wishes, checked, fill
from .latent_spaces import TINY
from .source_folder import SourceFolder

_MAX_FILE_BYTES = 2**25  # a float32 encoder with middle norms has 5 MB
_HALF = re.compile(r"(?P<before>.*?)[_-]?(?P<half>encoder|decoder)(?P<after>.*)\.pth", re.IGNORECASE)
_ANOTHER_FOLDER = "Name a folder with one pair such as taesd_encoder.pth and taesd_decoder.pth, or one of the two files"
_COPY_AGAIN = "Copy the files again from madebyollin/taesd"

Pair = tuple[str, str]


def holds_taesd_files(path: Path) -> bool:
    """Whether a path is a half of a tiny autoencoder, or a folder with halves."""
    names = [path.name] if path.is_file() else [entry.name for entry in path.iterdir()]
    return any(_HALF.fullmatch(name) for name in names)


def read_taesd_files(path: Path, wishes: Wishes) -> Candidate:
    """The tiny autoencoder in a folder, or of which `path` is one of the two files.

    Raises:
        CannotImport: the files are not a pair, cannot be read, or are not the halves of a tiny autoencoder.
    """
    folder = SourceFolder(path.parent if path.is_file() else path)
    encoder_name, decoder_name = _find_pair(folder, path.name if path.is_file() else None)
    encoder, decoder = (_read_tensors(folder, name) for name in (encoder_name, decoder_name))
    fields = {
        "image_shape": (_channels(encoder, folder, encoder_name, last=False), None, None),
        "latent_shape": (_channels(encoder, folder, encoder_name, last=True), None, None),
        "has_middle_norm": any(".pool." in name for name in encoder),
        "latent_space": wishes.latent_space or _space_of(encoder_name) or wishes.name.lower(),
    }
    state = {f"{half}.{name}": tensor for half, tensors in (("encoder", encoder), ("decoder", decoder))
             for name, tensor in tensors.items()}  # fmt: skip
    config = checked(TAESDConfig, fields, folder)
    model = empty(config)
    fill(model, state, folder)
    return Candidate(model, config, folder.source("taesd files", wishes.licence))


def _find_pair(folder: SourceFolder, wanted: str | None) -> Pair:
    """The names of the encoder and the decoder; the pair that has the file `wanted`, if one is named."""
    halves: dict[tuple[str, str], dict[str, str]] = {}
    for name in folder.names():
        if match := _HALF.fullmatch(name):
            halves.setdefault((match["before"], match["after"]), {})[match["half"].lower()] = name
    pairs = [(pair["encoder"], pair["decoder"]) for pair in halves.values() if len(pair) == 2]
    if wanted is not None:
        pairs = [pair for pair in pairs if wanted in pair]
    if len(pairs) != 1:
        there = "; ".join(" and ".join(pair) for pair in pairs[:3]) or "no encoder with its decoder"
        raise folder.refusal(f"it must hold one pair of .pth files, but has {there}", remedy=_ANOTHER_FOLDER)
    return pairs[0]


def _read_tensors(folder: SourceFolder, name: str) -> dict[str, Tensor]:
    """The tensors of a `.pth` file, by name."""
    content = folder.read_weights(name, _MAX_FILE_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        reason = f"{name} is not a file of torch.save of PyTorch 1.6 or later ({error})"
        raise folder.refusal(reason, remedy=_COPY_AGAIN) from error
    if unpacked > _MAX_FILE_BYTES:
        reason = f"{name} unpacks to {unpacked:,} bytes, but a half has at most {_MAX_FILE_BYTES:,}"
        raise folder.refusal(reason, remedy=_COPY_AGAIN)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = f"{name} is a pickle with more than tensors, which could run code when it is read"
        raise folder.refusal(reason, remedy=_COPY_AGAIN) from error
    except Exception as error:  # for a damaged file torch and pickle raise many kinds of errors
        raise folder.refusal(f"{name} cannot be read ({type(error).__name__})", remedy=_COPY_AGAIN) from error
    if not isinstance(state, Mapping) or not all(map(_is_named_tensor, state.items())):
        raise folder.refusal(f"{name} holds something else than named tensors", remedy=_COPY_AGAIN)
    return dict(state)


def _is_named_tensor(item: tuple[object, object]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout is torch.strided


def _channels(encoder: Mapping[str, Tensor], folder: SourceFolder, name: str, *, last: bool) -> int:
    """The channels that an encoder reads, or with `last` the channels of its latents."""
    layers = [int(match[1]) for key in encoder if (match := re.fullmatch(r"(\d{1,4})\.weight", key))]
    weight = encoder[f"{max(layers) if last else min(layers)}.weight"] if layers else torch.empty(0)
    if weight.ndim != 4:
        reason = f"{name} does not begin and end with a convolution, as the encoder of a tiny autoencoder does"
        raise folder.refusal(reason, remedy=_ANOTHER_FOLDER)
    return weight.shape[0] if last else weight.shape[1]


def _space_of(name: str) -> str | None:
    match = _HALF.fullmatch(name)
    return TINY.get(match["before"].lower()) if match else None
