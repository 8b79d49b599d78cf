"""ONNX Runtime gives the same answers as torch, for every kind of model."""

from functools import partial
from math import inf, nan
from pathlib import Path

import pytest
import structlog
import torch
from onnx import TensorProto
from torch import Tensor, nn

from model_store import VAE, VAEConfig
from model_store.vae import ConvConfig, ShortcutConvConfig
from model_store.vae.config import (
    BernoulliConfig,
    DiscretisedLogisticConfig,
    GaussianConfig,
    LogisticMixtureConfig,
)
from service.compute import onnx_runtime, runtimes
from service.compute.device import Device
from service.compute.onnx_graph import Graph, Untranslatable
from service.compute.onnx_runtime import onnx_forward_passes
from service.compute.runner import Runner
from service.compute.runtimes import NoSuchRuntime, choose_runtime
from service.compute.torch_runtime import ForwardPasses, torch_forward_passes, with_finite_flags
from training.recipe import read_recipe

from ...conftest import COLOUR, GREY, make_model
from .conftest import results

CPU = torch.device("cpu")
RECIPES = sorted(path.stem for path in (Path(__file__).parents[3] / "training" / "recipes").glob("*.toml"))
small_grid = partial(
    VAEConfig, image_shape=(3, 8, 8), latent_shape=(2, 4, 4), network=ConvConfig(widths=(8,), blocks=1)
)
KINDS = {
    "residual-vector": VAEConfig(
        image_shape=(1, 8, 8), latent_shape=(3,), network=ConvConfig(widths=(4, 8), blocks=2, hidden=6)
    ),
    "shortcut-vector": VAEConfig(
        image_shape=(1, 8, 8), latent_shape=(3,), network=ShortcutConvConfig(widths=(4, 8), blocks=0, hidden=6)
    ),
    "shortcut-grid": VAEConfig(
        image_shape=(3, 16, 24), latent_shape=(2, 2, 3), network=ShortcutConvConfig(widths=(4, 4, 16), blocks=1)
    ),
    "bernoulli": small_grid(likelihood=BernoulliConfig()),
    "gaussian": small_grid(likelihood=GaussianConfig()),
    "fixed-gaussian": small_grid(likelihood=GaussianConfig(standard_deviation=0.1)),
    "discretised-logistic": small_grid(likelihood=DiscretisedLogisticConfig()),
    "logistic-mixture": small_grid(likelihood=LogisticMixtureConfig(components=3)),
    "point": small_grid(posterior="point"),
    "decoder-alone": small_grid(posterior="none"),
}


def pixels_of(config: VAEConfig, count: int = 5) -> Tensor:
    return torch.randint(0, 256, (count, *config.image_shape), dtype=torch.uint8)


@torch.inference_mode()
def assert_alike(model: VAE, ours: ForwardPasses) -> None:
    """Every forward pass of ONNX Runtime agrees with torch to about six digits."""
    theirs, pixels = torch_forward_passes(model), pixels_of(model.config)
    latents = torch.randn(5, *model.config.latent_shape)
    scored = {"score": (pixels, latents), "error_map": (pixels, latents)}
    asked = {"encode": (pixels,), "decode": (latents,), "render": (latents,), **scored}
    for name, compute in ours.items():
        for got, expected in zip(compute(*asked[name]), theirs[name](*asked[name]), strict=True):
            torch.testing.assert_close(got.float(), expected.float(), atol=1 if name == "render" else 1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_every_kind_of_model_answers_as_with_torch(config: VAEConfig) -> None:
    """Every likelihood, posterior and network has a translation."""
    model = make_model(config)

    passes = onnx_forward_passes(model)

    assert passes.keys() == {"decode", "render", "score", "error_map"} | (
        {"encode"} if config.posterior != "none" else set()
    )
    assert_alike(model, passes)


@pytest.mark.parametrize("name", RECIPES)
def test_network_of_every_recipe_has_a_translation(name: str) -> None:
    """Models of all recipes are served by the faster runtime."""
    torch.manual_seed(0)
    model = VAE(read_recipe(name, []).model)

    assert_alike(model, onnx_forward_passes(model))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "config",
    [GREY, COLOUR, KINDS["residual-vector"], KINDS["shortcut-grid"]],
    ids=["mlp", "conv-grid", "residual", "shortcut"],
)
async def test_image_has_the_same_bits_alone_and_in_any_batch(config: VAEConfig) -> None:
    """On a CPU, every runtime promises this."""
    runner = Runner(make_model(config), Device(CPU, runtime="onnxruntime"), max_batch_images=16)
    await runner.warm_up()
    pixels = pixels_of(config, 16)
    ((mean, log_variance),) = await results(runner, "encode", [(pixels,)])

    for count in (1, 3, 8):
        answers = await results(runner, "encode", [(part,) for part in pixels.split(count)])
        assert torch.equal(torch.cat([answer[0] for answer in answers]), mean)
        assert torch.equal(torch.cat([answer[1] for answer in answers]), log_variance)


@pytest.mark.anyio
async def test_model_of_half_precision_stays_with_torch() -> None:
    """ONNX Runtime gets float32 networks only."""
    runner = Runner(make_model(GREY).half(), Device(CPU, runtime="onnxruntime"), max_batch_images=2)

    ((mean, _),) = await results(runner, "encode", [(pixels_of(GREY, 1),)])

    assert mean.dtype == torch.float32


def test_layer_without_translation_is_named() -> None:
    """The error names the layer."""
    with pytest.raises(Untranslatable, match=r"Dropout.* has no translation into ONNX"):
        Graph().layer(nn.Sequential(nn.Flatten(), nn.Dropout()), "rows")


@pytest.mark.anyio
async def test_network_without_translation_is_computed_by_torch() -> None:
    """The model is served by torch, and one line of the log says why."""
    structlog.reset_defaults()  # the log of tests has errors only
    model = make_model(GREY)
    assert isinstance(model.decoder, nn.Sequential)
    model.decoder.append(nn.Identity())
    with structlog.testing.capture_logs() as logged:
        runner = Runner(model.eval(), Device(CPU, runtime="onnxruntime"), max_batch_images=2)
    latents = torch.zeros(1, 3)

    ((images,),) = await results(runner, "decode", [(latents,)])

    torch.testing.assert_close(images, model.decode(latents).mean)
    assert runner.runtime == "torch"
    assert [(line["event"], line["reason"]) for line in logged] == [
        ("computed by torch instead of ONNX Runtime", "A layer Identity() has no translation into ONNX.")
    ]


def test_graph_that_onnx_runtime_refuses_is_untranslatable() -> None:
    """ONNX Runtime may lack an operator, or lack it for these types."""
    graph = Graph()
    content = graph.model({"latents": (TensorProto.FLOAT, [3])}, {"images": graph.node("NoSuchOperator", "latents")})

    with pytest.raises(Untranslatable, match="ONNX Runtime refuses the network"):
        onnx_runtime.compile_graph(content)


def test_auto_is_onnx_runtime_on_a_cpu_in_float32() -> None:
    """On other devices and in other precisions, `auto` is torch."""
    assert choose_runtime("auto", CPU, None) == "onnxruntime"
    assert choose_runtime("auto", CPU, torch.bfloat16) == "torch"
    assert choose_runtime("auto", torch.device("cuda"), None) == "torch"
    assert choose_runtime("torch", CPU, None) == "torch"


def test_auto_is_torch_where_onnx_runtime_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime is an extra."""
    monkeypatch.setattr(runtimes, "find_spec", lambda _: None)

    assert choose_runtime("auto", CPU, None) == "torch"
    with pytest.raises(NoSuchRuntime, match=r"onnx and onnxruntime cannot be found; pip install"):
        choose_runtime("onnxruntime", CPU, None)


@pytest.mark.parametrize(
    ("device", "dtype", "remedy"),
    [("cuda", None, "set device to cpu"), ("cpu", torch.float16, "set dtype to auto")],
)
def test_onnx_runtime_that_cannot_be_had_is_refused(device: str, dtype: torch.dtype | None, remedy: str) -> None:
    """If the setting names ONNX Runtime, the error says why it cannot be used, and the remedy."""
    with pytest.raises(NoSuchRuntime, match=remedy):
        choose_runtime("onnxruntime", torch.device(device), dtype)


@pytest.mark.parametrize("wrong", [[1.0, nan, 3.0], [nan, inf, 0.0], [inf, 0.0, 0.0], [0.0, -inf, 0.0]])
def test_row_with_a_number_that_is_not_finite_has_no_flag(wrong: list[float]) -> None:
    """Also beside other numbers and other outputs; a row of the largest numbers has its flag."""
    largest = torch.finfo(torch.float32).max
    rows = torch.tensor([[largest, -largest, largest], wrong, [0.0, 0.0, 0.0]])
    *_, alone = with_finite_flags(rows)
    *_, beside_others = with_finite_flags(torch.zeros(3, 2), rows[:, :, None], torch.zeros(3))

    assert alone.tolist() == beside_others.tolist() == [True, False, True]
