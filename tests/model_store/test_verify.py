"""Every way in which a stored model can be wrong is found before it is used, and named."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from model_store import CorruptWeights, ModelVersion, Store, StoreError, UnknownFormat
from model_store.places.folder import VersionFolder

GREY = ModelVersion("grey", 1)


SPREAD = {"mean": [0.0], "standard_deviation": [1.0], "kl_nats": None}
FALLING = {"elbo_nats": [float(-number) for number in range(101)], "protocol": "none"}


def rewrite_card(store: Store, change: Callable[[dict[str, Any]], object], version: ModelVersion = GREY) -> None:
    """Change the card of a version by hand."""
    path = store.folder(version) / "card.json"
    card = json.loads(path.read_text())
    change(card)
    path.chmod(0o644)
    path.write_text(json.dumps(card))


def rewrite_weights(store: Store, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the weights of grey@1, and write the new hash and size into the card."""
    path = store.folder(GREY) / "weights.safetensors"
    state = safetensors.torch.load(path.read_bytes())
    change(state)
    content = safetensors.torch.save(state)
    path.chmod(0o644)
    path.write_bytes(content)
    summary = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    rewrite_card(store, lambda card: card["weights"].update(summary))


def flip_byte(path: Path) -> None:
    """Flip one bit of the last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def test_flipped_byte_is_found(store: Store) -> None:
    """The hash in the card covers every byte."""
    flip_byte(store.folder(GREY) / "weights.safetensors")

    with pytest.raises(CorruptWeights, match="its SHA-256 is not the one in the card"):
        store.load(GREY)


def test_missing_file_is_found(store: Store) -> None:
    """A card without weights is not a model."""
    (store.folder(GREY) / "weights.safetensors").unlink()

    with pytest.raises(CorruptWeights, match="No such file"):
        store.load(GREY)


def test_link_to_other_weights_is_refused(store: Store, tmp_path: Path) -> None:
    """A version holds its own files, and nothing outside the store is read."""
    path = store.folder(GREY) / "weights.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(CorruptWeights, match="it is a symbolic link; put the file itself in its place"):
        store.load(GREY)


@pytest.mark.parametrize("name", ["card.json", "weights.safetensors"])
def test_pipe_in_a_files_place_is_not_waited_for(store: Store, name: str) -> None:
    """Reading a pipe would never end."""
    path = store.folder(GREY) / name
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(StoreError, match="not a regular file"):
        store.load(GREY)


def test_weights_that_are_larger_than_their_card_says_are_not_read(store: Store) -> None:
    """The size in the card is the limit."""
    path = store.folder(GREY) / "weights.safetensors"
    path.chmod(0o644)
    with path.open("ab") as file:
        file.truncate(2**40)

    with pytest.raises(CorruptWeights, match="larger than"):
        store.load(GREY)


def test_weights_that_the_network_cannot_have_are_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of 5 GiB takes no space on the disk; its card tells the truth about its size and its hash."""
    path = store.folder(GREY) / "weights.safetensors"
    path.chmod(0o644)
    with path.open("ab") as file:
        file.truncate(5 * 2**30)
    rewrite_card(store, lambda card: card["weights"].update(bytes=5 * 2**30))
    monkeypatch.setattr(VersionFolder, "read", only_card)

    with pytest.raises(CorruptWeights, match=r"the network has .* bytes, but the card says 5368709120"):
        store.load(GREY)


def only_card(files: VersionFolder, name: str, at_most: int) -> bytes:
    """As `VersionFolder.read`, for the card alone."""
    assert name == "card.json"
    return (files.path / name).read_bytes()[:at_most]


LARGEST = {
    "mlp": (2048, {"kind": "mlp", "hidden": [8192] * 16}),
    "conv": (256, {"kind": "conv", "widths": [1024, 4096, *[8192] * 6], "blocks": 16, "hidden": 8192}),
}


@pytest.mark.parametrize(("side", "network"), LARGEST.values(), ids=LARGEST)
def test_card_of_the_largest_network_takes_no_memory(store: Store, side: int, network: dict[str, object]) -> None:
    """The network would have more than 10¹¹ parameters. It is built without memory for them, and then compared."""
    shapes = {"image_shape": [3, side, side], "latent_shape": [8192], "network": network}
    rewrite_card(store, lambda card: card["model"].update(shapes))

    with pytest.raises(CorruptWeights, match=r"the network has \d{12} parameters, but the card says \d{4};"):
        store.load(GREY)


BIAS = "decoder.output.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda state: state.pop(BIAS), f"missing {BIAS}", id="missing"),
        pytest.param(lambda state: state.update(extra=torch.zeros(1)), "unexpected extra", id="extra"),
        pytest.param(lambda state: state.update({BIAS: torch.zeros(65)}), r"is \(65,\), expected \(64,\)", id="shape"),
        pytest.param(
            lambda state: state.update({BIAS: torch.zeros(64, dtype=torch.int32)}), "is torch.int32", id="type"
        ),
        pytest.param(lambda state: state.update({BIAS: torch.zeros(64).half()}), "of several types", id="types"),
        pytest.param(lambda state: state.update({BIAS: torch.full((64,), torch.nan)}), "not finite", id="nan"),
        pytest.param(lambda state: state.update({BIAS: torch.full((64,), torch.inf)}), "not finite", id="infinite"),
    ],
)
def test_tensor_that_does_not_fit_the_card_is_found(store: Store, change: Callable[..., object], message: str) -> None:
    """Names, shapes, types and values are compared with the network, even if the hash is right."""
    rewrite_weights(store, change)

    with pytest.raises(CorruptWeights, match=message):
        store.load(GREY)


@pytest.mark.parametrize(
    ("claim", "count", "message"),
    [
        ("bytes", 7, "the network has 4588 to 82712 bytes, but the card says 7"),
        ("bytes", 10**9, "the network has .* bytes, but the card says 1000000000"),
        ("bytes", 20_000, "they have .* bytes, but the card says 20000"),
        ("parameters", 7, "parameters, but the card says 7"),
    ],
)
def test_card_that_counts_wrong_is_found(store: Store, claim: str, count: int, message: str) -> None:
    """The sizes in the card are compared with the file and the network."""
    rewrite_card(store, lambda card: card["weights"].update({claim: count}))

    with pytest.raises(CorruptWeights, match=message):
        store.load(GREY)


HOSTILE_HEADERS = {
    "unknown-type": b'{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}',
    "endless-shape": b'{"a":{"dtype":"F32","shape":[9223372036854775808,0],"data_offsets":[0,0]}}',
    "beyond-the-end": b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}',
}


@pytest.mark.parametrize("header", HOSTILE_HEADERS)
def test_hostile_header_is_an_error_like_any_other(store: Store, header: str) -> None:
    """A header that lies is found, even if the hash is right."""
    text = HOSTILE_HEADERS[header]
    content = len(text).to_bytes(8, "little") + text + b"\0"
    path = store.folder(GREY) / "weights.safetensors"
    path.chmod(0o644)
    path.write_bytes(content)
    rewrite_card(store, lambda card: card["weights"].update(sha256=hashlib.sha256(content).hexdigest()))

    with pytest.raises(CorruptWeights, match="they are not safetensors"):
        store.load(GREY)


def test_file_that_is_not_safetensors_is_found(store: Store) -> None:
    """A pickle with the right hash is never unpickled."""
    path = store.folder(GREY) / "weights.safetensors"
    path.chmod(0o644)
    torch.save({"a": torch.zeros(1)}, path)
    rewrite_card(store, lambda card: card["weights"].update(sha256=hashlib.sha256(path.read_bytes()).hexdigest()))

    with pytest.raises(CorruptWeights, match="Cannot use the weights"):
        store.load(GREY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda card: card.update(format=2), "its format is 2, but this release knows format 1", id="newer"
        ),
        pytest.param(lambda card: card.pop("format"), "its format is None", id="no-format"),
        pytest.param(
            lambda card: card.update(colour="blue"),
            "colour is not known; the known names are created, fit, format",
            id="unknown-key",
        ),
        pytest.param(
            lambda card: card["model"]["network"].update(kind="gan"),
            "network must have one of mlp, conv, shortcut_conv as its kind, not gan",
            id="unknown-network",
        ),
        pytest.param(
            lambda card: card["model"]["likelihood"].update(kind="cauchy"),
            "likelihood must have .* not cauchy",
            id="likelihood",
        ),
        pytest.param(
            lambda card: card["model"]["network"].update(hidden=[10**9]), "hidden.0 must be at most 8192", id="enormous"
        ),
        pytest.param(
            lambda card: card["model"].pop("image_shape"), "image_shape is required; add it", id="missing-key"
        ),
        pytest.param(lambda card: card.update(latents=SPREAD), "latents.mean has 1 value, but .* has 3", id="latents"),
        pytest.param(lambda card: card.update(scores=FALLING), "quantiles, which never fall", id="quantiles"),
    ],
)
def test_card_that_cannot_be_known_is_refused(store: Store, change: Callable[..., object], message: str) -> None:
    """This release does not guess the meaning of values that it does not know."""
    rewrite_card(store, change)

    with pytest.raises(UnknownFormat, match=message):
        store.load(GREY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"not json", "it is not JSON", id="text"),
        pytest.param(b"\xff\xfe", "it is not JSON", id="binary"),
        pytest.param(b"[" * 100_000, "it is not JSON", id="deep"),
        pytest.param(b"[1]", "its format is None", id="list"),
        pytest.param(b" " * (2**20 + 1), "larger than 1048576 bytes", id="large"),
    ],
)
def test_file_that_is_not_a_card_is_refused(store: Store, content: bytes, message: str) -> None:
    """Every other content gives one clear error."""
    path = store.folder(GREY) / "card.json"
    path.chmod(0o644)
    path.write_bytes(content)

    with pytest.raises(UnknownFormat, match=message):
        store.load(GREY)
