"""Folders of the library diffusers, in every form in which people keep them."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from model_store import CannotImport, Store
from model_store.importing.candidate import Candidate, Wishes
from model_store.importing.sources import read_source

from ..library_models import library_model
from .conftest import Run, change_config

STEM = "diffusion_pytorch_model"


def read(folder: Path, latent_space: str | None = None, name: str = "new") -> Candidate:
    """The candidate that a folder gives."""
    return read_source(str(folder), Wishes(name, latent_space))


def latent_of(candidate: Candidate) -> torch.Tensor:
    """The latent of a fixed image."""
    torch.manual_seed(1)
    mean: torch.Tensor = candidate.model.float().encode(torch.rand(1, 3, 16, 16)).mean
    return mean


def test_folder_is_imported(folder: Path, run_import: Run, tmp_path: Path) -> None:
    """The card has the class, the origin and the scaling."""
    assert run_import(folder)[0] == 0

    store = Store(tmp_path / "store")
    card = store.card(store.resolve("new"))
    assert card.source is not None
    assert (card.source.kind, card.source.place) == ("diffusers folder", "saved")
    assert [file.name for file in card.source.files] == ["config.json", f"{STEM}.safetensors"]
    assert card.model.model_dump()["network"]["class_name"] == "AutoencoderKL"
    assert card.model.model_dump()["scaling"]["factor"] == 0.18215


def test_subfolder_of_a_pipeline_is_found(folder: Path, tmp_path: Path) -> None:
    """A pipeline has its autoencoder in `vae`."""
    pipeline = tmp_path / "pipeline"
    pipeline.mkdir()
    (pipeline / "model_index.json").write_text("{}")
    folder.rename(pipeline / "vae")

    assert read(pipeline).source.place == "pipeline/vae"


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("max_shard_size", ["10GB", "30KB"])
def test_all_forms_of_weights_are_read(tmp_path: Path, variant: str | None, max_shard_size: str) -> None:
    """One file or several with an index, in full or half precision: the library's own names."""
    precision = torch.float16 if variant else torch.float32
    library = library_model("AutoencoderKL", force_upcast=False).to(precision)
    library.save_pretrained(tmp_path, variant=variant, max_shard_size=max_shard_size)

    candidate = read(tmp_path)

    assert {tensor.dtype for tensor in candidate.model.state_dict().values()} == {precision}
    assert torch.equal(candidate.model.state_dict()["network.decoder.conv_out.weight"], library.decoder.conv_out.weight)


def test_full_precision_is_preferred(folder: Path) -> None:
    """A folder may have both."""
    library_model("AutoencoderKL").half().save_pretrained(folder, variant="fp16")

    assert [file.name for file in read(folder).source.files] == ["config.json", f"{STEM}.safetensors"]


def test_half_precision_that_overflows_is_stored_in_full(tmp_path: Path) -> None:
    """`force_upcast` says that activations are larger than float16 can hold; the person is told."""
    library_model("AutoencoderKL", force_upcast=True).half().save_pretrained(tmp_path)

    candidate = read(tmp_path)

    assert {tensor.dtype for tensor in candidate.model.state_dict().values()} == {torch.float32}
    assert "overflows in float16" in candidate.notes[0]


def test_old_names_of_attention_are_read(folder: Path) -> None:
    """The weights of Stable Diffusion 1 have names that the library has changed since."""
    expected = latent_of(read(folder))
    path = folder / f"{STEM}.safetensors"
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = safetensors.torch.load(path.read_bytes())
    for today, old in new.items():
        state = {name.replace(f".{today}.", f".{old}."): tensor for name, tensor in state.items()}
    safetensors.torch.save_file(state, path)

    assert any(".query." in name for name in state)
    assert torch.equal(latent_of(read(folder)), expected)


@pytest.mark.parametrize(
    ("channels", "settings", "space"),
    [
        (4, {"scaling_factor": 0.18215}, "sd1"),
        (4, {"scaling_factor": 0.13025}, "sdxl"),
        (16, {"scaling_factor": 0.3611, "shift_factor": 0.1159}, "flux1"),
        (16, {"scaling_factor": 1.5305, "shift_factor": 0.0609}, "sd3"),
        (16, {"scaling_factor": 0.3611}, "mine"),
        (8, {"scaling_factor": 0.18215}, "mine"),
    ],
)
def test_factors_tell_the_latent_space(tmp_path: Path, channels: int, settings: dict[str, Any], space: str) -> None:
    """Only numbers that one space has are enough; else the space has the name of the model."""
    library_model("AutoencoderKL", latent_channels=channels, **settings).save_pretrained(tmp_path)

    assert read(tmp_path, name="Mine").config.latent_space == space


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("VQModel", {"latent_channels": 4, "scaling_factor": 0.18215}),
        ("AutoencoderKL", {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}),
        ("AutoencoderDC", {"scaling_factor": 0.18215}),
    ],
)
def test_other_latents_with_the_same_factor_are_not_mistaken(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    """The VQModel of Kandinsky 2 has the channels and the factor of Stable Diffusion 1, but other latents."""
    library_model(name, **settings).save_pretrained(tmp_path)

    assert read(tmp_path, name="mine").config.latent_space == "mine"


def test_latent_space_can_be_given(folder: Path) -> None:
    """The person knows better than the factors."""
    assert read(folder, latent_space="other").config.latent_space == "other"


def test_name_of_the_folder_tells_the_space_of_a_tiny_autoencoder(tmp_path: Path) -> None:
    """The library's copies of the tiny autoencoders have no factors."""
    library_model("AutoencoderTiny").save_pretrained(tmp_path / "taesdxl")

    assert read(tmp_path / "taesdxl").config.latent_space == "sdxl"


def test_statistics_of_channels_are_kept(tmp_path: Path) -> None:
    """A model may shift and divide each channel by its own numbers."""
    means, deviations = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    library_model("AutoencoderKL", latents_mean=means, latents_std=deviations).save_pretrained(tmp_path)

    scaling = read(tmp_path).config.scaling

    assert (scaling.mean, scaling.standard_deviation) == (tuple(means), tuple(deviations))


def test_cache_of_hugging_face_may_have_links(folder: Path, tmp_path: Path) -> None:
    """There the files of a snapshot are links to blobs beside it."""
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    folder.rename(repository / "blobs")
    for name in ("config.json", f"{STEM}.safetensors"):
        (snapshot / name).symlink_to(Path("..", "..", "blobs", name))

    assert read(snapshot).config.latent_space == "sd1"


def test_layers_that_do_not_fit_are_refused(tmp_path: Path, run_import: Run) -> None:
    """The library builds the network, but it cannot compute a picture."""
    library_model("AutoencoderDC", latent_channels=3).save_pretrained(tmp_path / "saved")

    status, text = run_import(tmp_path / "saved")

    assert (status, "the model: it cannot compute a picture" in text) == (1, True)


def test_changed_argument_is_refused_by_the_tensors(folder: Path) -> None:
    """The network of the arguments has other tensors than the file."""
    change_config(folder, layers_per_block=2)

    with pytest.raises(CannotImport, match=r"missing decoder\.up_blocks\.0\.resnets\.2.* and \d+ more"):
        read(folder)


def test_config_is_not_changed_by_reading(folder: Path) -> None:
    """A source is read only."""
    before = json.loads((folder / "config.json").read_text())
    read(folder)

    assert json.loads((folder / "config.json").read_text()) == before
