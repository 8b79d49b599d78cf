"""Tensors to bytes and back, in the safetensors format, which cannot run code.

Before the file is read, the sizes in the card are compared with the network that the card describes. Before a tensor
is used, the file is compared with the card's hash, and the names, shapes, types and values of the tensors with the
network.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .card import Card
from .errors import CorruptWeights
from .families import ModelConfig, Network, build

FLOATS = (torch.float32, torch.float16, torch.bfloat16)

_HEADER_BYTES = 2**16  # of a file: its length and free text, such as the name of the program that wrote it
_TENSOR_HEADER_BYTES = 1000  # name, type, shape and place
_NAMED = 4  # tensors in a message


def to_bytes(model: Network) -> bytes:
    """The content of `weights.safetensors` for a model."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(state)


def expected(path: Path, card: Card) -> Network:
    """The network of a card, without memory for its weights; `path` names the file of the weights in errors.

    Raises:
        CorruptWeights: the card gives sizes that the network cannot have.
    """
    model = empty(card.model)
    reasons = []
    if (parameters := count_parameters(model)) != card.weights.parameters:
        reasons.append(f"the network has {parameters} parameters, but the card says {card.weights.parameters}")
    least, most = file_bytes(model.state_dict())
    if not least <= card.weights.bytes <= most:
        reasons.append(f"the network has {least} to {most} bytes, but the card says {card.weights.bytes}")
    if reasons:
        raise CorruptWeights(path, *reasons)
    return model


def file_bytes(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """The smallest and the largest size in bytes that a file of these tensors can have, in any precision."""
    values = sum(tensor.numel() for tensor in state.values())
    widths = [kind.itemsize for kind in FLOATS]
    return values * min(widths), values * max(widths) + _HEADER_BYTES + len(state) * _TENSOR_HEADER_BYTES


def filled(model: Network, path: Path, content: bytes, card: Card) -> Network:
    """The `expected` network of a card with the weights from a file's content, on the CPU, for inference.

    `path` names the file in errors. The file was read once, so the bytes that are hashed are the bytes that are used.

    Raises:
        CorruptWeights: the content does not fit the card.
    """
    if hashlib.sha256(content).hexdigest() != card.weights.sha256:
        raise CorruptWeights(
            path, "its SHA-256 is not the one in the card; a byte was changed or lost, so copy the file again"
        )
    state = tensors_of(content, path)
    reasons = list(differences(state, model.state_dict()))
    if len(content) != card.weights.bytes:
        reasons.append(f"they have {len(content)} bytes, but the card says {card.weights.bytes}")
    if reasons:
        raise CorruptWeights(path, *reasons)
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def tensors_of(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a file's content, by name, on the CPU; `path` names the file in errors.

    Raises:
        CorruptWeights: the content is not in the safetensors format.
    """
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CorruptWeights(path, f"they are not safetensors ({error})") from error


def empty(config: ModelConfig) -> Network:
    """The network with the names and shapes of its tensors, but without memory for them."""
    with torch.device("meta"):
        return build(config)


def count_parameters(model: Network) -> int:
    """The number of parameters of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield a clause for each reason why the tensors of a file are not the tensors that a network expects."""
    if missing := sorted(expected.keys() - found.keys()):
        yield f"missing {_few(missing)}"
    if extra := sorted(found.keys() - expected.keys()):
        yield f"unexpected {_few(extra)}"
    for name in sorted(found.keys() & expected.keys()):
        tensor, shape = found[name], tuple(expected[name].shape)
        if tensor.shape != shape:
            yield f"{name} is {tuple(tensor.shape)}, expected {shape}"
        elif tensor.dtype not in FLOATS:
            yield f"{name} is {tensor.dtype}, expected one of {', '.join(map(str, FLOATS))}"
        elif not tensor.isfinite().all():
            yield f"{name} has values that are not finite"
    if len(kinds := {str(tensor.dtype) for tensor in found.values()}) > 1:
        yield f"they are of several types, {', '.join(sorted(kinds))}, but a network has one"


def _few(names: Sequence[str]) -> str:
    """The first names, and the number of the others: the tensors of another network could be hundreds."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
