"""A folder that the library diffusers has written to a model of the family `diffusers`.

Such a folder has `config.json`, with the class and its arguments, and tensors in the safetensors format. A folder of a
whole pipeline has it as the subfolder `vae`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..card import SourceKind
from ..diffusers import DiffusersAutoencoder, DiffusersConfig
from ..diffusers.config import DCArguments, KLArguments, TinyArguments, VQArguments, downscale_of
from ..errors import CannotBuild, CannotImport, CorruptWeights
from ..weights import file_bytes, tensors_of
from .candidate import Candidate, Wishes, checked, fill
from .latent_spaces import TINY, by_numbers
from .source_folder import SourceFolder

CONFIG = "config.json"
STEM = "diffusion_pytorch_model"
# the names of the weights; a file in full precision is taken before one in float16
WEIGHTS = (f"{STEM}.safetensors", f"{STEM}.fp16.safetensors")
INDEXES = (f"{STEM}.safetensors.index.json", f"{STEM}.safetensors.index.fp16.json")
PARTS = ("", "vae")

_ARGUMENTS: dict[str, type[KLArguments | TinyArguments | VQArguments | DCArguments]] = {
    "AutoencoderKL": KLArguments,
    "AutoencoderTiny": TinyArguments,
    "VQModel": VQArguments,
    "AutoencoderDC": DCArguments,
}
_FACTORS = {"AutoencoderKL": 0.18215, "AutoencoderTiny": 1.0, "VQModel": 0.18215, "AutoencoderDC": 1.0}
# of config.json: the scaling is in the card beside the arguments
_NOT_ARGUMENTS = {"scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast"}
# these matter only to tiles, to latents of 8 bits and to indices of embeddings
_UNUSED = {
    "AutoencoderKL": {"sample_size"},
    "AutoencoderTiny": {"latent_magnitude", "latent_shift", "block_out_channels"},
    "VQModel": {"sample_size", "lookup_from_codebook"},
    "AutoencoderDC": set[str](),
}
# diffusers before 0.18 wrote these names of attention layers: `_fix_state_dict_keys_on_load` of the library
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(r"(?<=\.attentions\.)(\d+)\.(query|key|value|proj_attn)(?=\.(?:weight|bias)$)")

MAX_CONFIG_BYTES = 2**16
MAX_INDEX_BYTES = 2**22
_MAX_SHARDS = 100
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.safetensors")

COPY_AGAIN = "Copy the folder again, or write it again with save_pretrained of diffusers"
_CLASSES = f"The classes are {', '.join(_ARGUMENTS)}: name the folder of such a model, or of a pipeline that has one"


def find_folder(path: Path) -> SourceFolder | None:
    """The folder, or its subfolder `vae`, if it has a `config.json`; else None."""
    parts = PARTS if path.is_dir() else ()
    return next((folder for part in parts if (folder := SourceFolder(path, part)).has(CONFIG)), None)


def describe(folder: SourceFolder, wishes: Wishes) -> DiffusersAutoencoder:
    """The network that `config.json` describes, without memory for its weights.

    Raises:
        CannotImport: the class is not known, or its arguments are not sound.
        MissingExtra: the library is not installed.
    """
    config = _record(read_json(folder, CONFIG, MAX_CONFIG_BYTES), wishes, folder)
    try:
        with torch.device("meta"):
            return DiffusersAutoencoder(config)
    except CannotBuild as error:
        raise folder.refusal(str(error).removesuffix("."), remedy=COPY_AGAIN) from error


def read_diffusers(
    folder: SourceFolder, wishes: Wishes, kind: SourceKind = "diffusers folder", place: str | None = None
) -> Candidate:
    """The autoencoder in a folder. `place` is the origin for the card; without it, the name of the folder.

    Raises:
        CannotImport: the folder does not hold a model of a known class, or its files are not sound.
        MissingExtra: the library is not installed.
    """
    model = describe(folder, wishes)
    state = _read_state(folder, model.network.state_dict())
    notes = []
    if model.config.force_upcast and any(tensor.dtype == torch.float16 for tensor in state.values()):
        state = {name: tensor.float() for name, tensor in state.items()}
        notes = ["The weights are stored as float32: its config.json says that it overflows in float16."]
    fill(model.network, state, folder)
    return Candidate(model.eval(), model.config, folder.source(kind, wishes.licence, place), tuple(notes))


def _record(settings: Mapping[str, Any], wishes: Wishes, folder: SourceFolder) -> DiffusersConfig:
    """The record of what `config.json` says."""
    name = settings.get("_class_name")
    if not isinstance(name, str) or name not in _ARGUMENTS:
        raise folder.refusal(f"its class in {CONFIG} is {_short(name)}", remedy=_CLASSES)
    left_out = _NOT_ARGUMENTS | _UNUSED[name]
    arguments = {key: value for key, value in settings.items() if not key.startswith("_") and key not in left_out}
    network = checked(_ARGUMENTS[name], {**arguments, "class_name": name}, folder)
    factor, shift = (settings.get(key) for key in ("scaling_factor", "shift_factor"))
    scaling = {
        "factor": _FACTORS[name] if factor is None else factor,
        "shift": shift or 0.0,
        "mean": settings.get("latents_mean"),
        "standard_deviation": settings.get("latents_std"),
    }
    fields = {
        "family": "diffusers",
        "image_shape": (network.in_channels, None, None),
        "latent_shape": (network.channels_of_latents, None, None),
        "downscale": downscale_of(network),
        "latent_space": wishes.latent_space or wishes.name.lower(),
        "scaling": scaling,
        "network": network.model_dump(),
        "force_upcast": settings.get("force_upcast", name == "AutoencoderKL"),
    }
    config = checked(DiffusersConfig, fields, folder)
    guess = None if wishes.latent_space else _space_of(config, folder)
    return config.model_copy(update={"latent_space": guess}) if guess else config


def _space_of(config: DiffusersConfig, folder: SourceFolder) -> str | None:
    """The latent space that the factors tell, or for a tiny autoencoder the name of the folder.

    The numbers belong to AutoencoderKL. Other classes have other latents with the same numbers: the VQModel of
    Kandinsky 2 has four channels and the default factor, as Stable Diffusion 1 has.
    """
    if config.network.class_name == "AutoencoderTiny":
        return TINY.get(folder.title.lower())
    if config.network.class_name != "AutoencoderKL" or config.downscale != 8 or config.scaling.mean is not None:
        return None
    return by_numbers(config.latent_shape[0], config.scaling.factor, config.scaling.shift)


def _read_state(folder: SourceFolder, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the folder, by the names that today's library gives them."""
    _, bytes_left = file_bytes(expected)
    state: dict[str, Tensor] = {}
    file = weight_file(folder.has)
    if file is None:
        raise no_weights(folder, folder.names())
    for name in weight_files(folder, file):
        content = folder.read_weights(name, bytes_left)
        bytes_left -= len(content)
        try:
            tensors = tensors_of(content, folder.path / folder.part / name)
        except CorruptWeights as error:
            raise folder.refusal(str(error).removesuffix("."), remedy=COPY_AGAIN) from error
        state.update(tensors)
    return {_OLD_NAME.sub(lambda match: f"{match[1]}.{_OLD_NAMES[match[2]]}", name): state[name] for name in state}


def weight_file(has: Callable[[str], bool]) -> str | None:
    """The file of the weights, or the index of its shards, in a folder that `has` some names; None without one."""
    names = (name for pair in zip(WEIGHTS, INDEXES, strict=True) for name in pair)
    return next(filter(has, names), None)


def weight_files(folder: SourceFolder, name: str) -> list[str]:
    """The files that hold the weights: the file itself, or for an index the shards that it names.

    Raises:
        CannotImport: a shard is not a file in the folder itself.
    """
    if name not in INDEXES:
        return [name]
    places = read_json(folder, name, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise folder.refusal(f"{name} has no weight_map", remedy=COPY_AGAIN)
    for place in places.values():
        if not isinstance(place, str) or not _SHARD.fullmatch(place):
            reason = f"{name} names {_short(place)}, which is not a .safetensors file in the folder"
            raise folder.refusal(reason, remedy=COPY_AGAIN)
    shards = sorted(set(places.values()))
    if len(shards) > _MAX_SHARDS:
        raise folder.refusal(f"{name} names {len(shards)} files", remedy=COPY_AGAIN)
    return shards


def no_weights(folder: SourceFolder, names: Iterable[str]) -> CannotImport:
    """The error for a folder with these names, which has no weights in the safetensors format."""
    if any(name.endswith((".bin", ".ckpt", ".pt", ".pth")) for name in names):
        return folder.refusal(
            "its weights are a pickle, which can run code when it is read",
            remedy="Convert it: load it with diffusers where you trust it, and call "
            "save_pretrained(folder, safe_serialization=True)",
        )
    return folder.refusal(f"it has no {WEIGHTS[0]}", remedy=COPY_AGAIN)


def read_json(folder: SourceFolder, name: str, at_most: int) -> dict[str, Any]:
    """The object in a JSON file of at most that many bytes.

    Raises:
        CannotImport: the file cannot be read, or holds something else.
    """
    content = folder.read_text(name, at_most)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise folder.refusal(f"{name} is not JSON", remedy=COPY_AGAIN) from error
    if not isinstance(value, dict):
        raise folder.refusal(f"{name} is not an object with named fields", remedy=COPY_AGAIN)
    return value


def _short(value: object) -> str:
    return repr(value)[:80]
