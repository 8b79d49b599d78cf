"""Tests that need a CUDA device. They are skipped, visibly, on a machine without one."""

import pytest
import torch

from model_store import VAEConfig
from model_store.vae import ConvConfig
from model_store.vae.device import choose_device
from model_store.vae.likelihoods import Likelihood
from model_store.vae.pixels import to_pixels
from service.compute import cuda_runtime
from service.compute.batch_plan import BatchPlan
from service.compute.device import Device
from service.compute.runner import Runner

from ...conftest import COLOUR, GREY, make_model
from .conftest import results

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.anyio,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


@pytest.fixture
def cuda() -> Device:
    """The GPU, in the precision of the weights."""
    return Device(choose_device("auto"))


@pytest.mark.parametrize("config", [GREY, COLOUR], ids=["mlp", "conv-grid"])
async def test_gpu_answers_what_the_cpu_answers(cuda: Device, config: VAEConfig) -> None:
    """Within 1e-3: other kernels, the same mathematics."""
    latents = torch.randn(8, *config.latent_shape, generator=torch.Generator().manual_seed(0))
    cpu = Device(choose_device("cpu"))

    ((expected,),) = await results(Runner(make_model(config), cpu, 8), "decode", [(latents,)])
    ((images,),) = await results(Runner(make_model(config), cuda, 8), "decode", [(latents,)])

    assert images.device.type == "cpu"
    torch.testing.assert_close(images, expected, atol=1e-3, rtol=1e-3)


async def test_image_is_the_same_alone_and_in_a_batch_within_tolerance(cuda: Device) -> None:
    """A GPU's kernels differ by batch size; images agree within half a grey value."""
    latents = torch.randn(8, *COLOUR.latent_shape, generator=torch.Generator().manual_seed(0))
    runner = Runner(make_model(COLOUR), cuda, 8)
    await runner.warm_up()

    ((together,),) = await results(runner, "decode", [(latents,)])
    ((alone,),) = await results(runner, "decode", [(latents[3:4],)])

    torch.testing.assert_close(alone, together[3:4], atol=0.5 / 255, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
async def test_half_precision_stays_within_a_stated_tolerance(cuda: Device, dtype: torch.dtype) -> None:
    """Images of random weights agree with float32 within 0.05."""
    latents = torch.randn(8, *COLOUR.latent_shape, generator=torch.Generator().manual_seed(0))
    half = Device(cuda.torch_device, dtype)

    ((approximate,),) = await results(Runner(make_model(COLOUR), half, 8), "decode", [(latents,)])
    ((exact,),) = await results(Runner(make_model(COLOUR), cuda, 8), "decode", [(latents,)])

    torch.testing.assert_close(approximate, exact, atol=0.05, rtol=0)


async def test_pictures_reach_the_gpu_and_latents_come_back(cuda: Device) -> None:
    """uint8 pixels go to the device and float32 latents return, through pinned memory."""
    pixels = torch.randint(0, 256, (4, *COLOUR.image_shape), dtype=torch.uint8)

    ((mean, log_variance),) = await results(Runner(make_model(COLOUR), cuda, 8), "encode", [(pixels,)])

    assert mean.shape == log_variance.shape == (4, *COLOUR.latent_shape)
    assert mean.dtype == torch.float32


@pytest.mark.parametrize(("light_bytes", "graphs"), [(0, 2), (2**30, 1)], ids=["in halves", "whole"])
async def test_graph_computes_new_inputs_each_time(
    cuda: Device, monkeypatch: pytest.MonkeyPatch, light_bytes: int, graphs: int
) -> None:
    """A replayed graph computes new inputs, with overlapping copies or without; an earlier answer stays as it was."""
    monkeypatch.setattr(cuda_runtime, "LIGHT_BYTES", light_bytes)
    runner = Runner(make_model(COLOUR), cuda, 8)
    await runner.warm_up()
    batches = [torch.randn(8, *COLOUR.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    on_cpu = Runner(make_model(COLOUR), Device(choose_device("cpu")), 8)

    answers = [await results(runner, "decode", [(batch,)]) for batch in (*batches, *batches)]

    decode = runner.forward_passes["decode"]
    assert isinstance(decode, cuda_runtime.GraphedPass)
    assert len(decode._graphs[(batches[0].shape,)]) == graphs
    for ((images,),), batch in zip(answers, (*batches, *batches), strict=True):
        ((expected,),) = await results(on_cpu, "decode", [(batch,)])
        torch.testing.assert_close(images, expected, atol=1e-3, rtol=1e-3)


async def test_rendered_pixels_are_the_decoded_images_rounded(cuda: Device) -> None:
    """Pixels are rounded on the device, before the copy to the machine."""
    runner = Runner(make_model(COLOUR), cuda, 8)
    await runner.warm_up()
    rows = torch.randn(8, *COLOUR.latent_shape, generator=torch.Generator().manual_seed(0))

    ((images,),) = await results(runner, "decode", [(rows,)])
    ((pixels,),) = await results(runner, "render", [(rows,)])

    assert torch.equal(pixels, to_pixels(images))


async def test_forward_pass_that_cannot_be_captured_is_still_computed(cuda: Device) -> None:
    """A forward pass that waits for the device cannot be captured as a graph."""
    model = make_model(COLOUR)
    decode = model.decode

    def waiting(latents: torch.Tensor) -> Likelihood:
        assert latents.sum().item() == 0
        return decode(latents)

    model.decode = waiting  # type: ignore[method-assign]  # of this one model
    ((images,),) = await results(Runner(model, cuda, 8), "decode", [(torch.zeros(2, *COLOUR.latent_shape),)])

    assert images.shape == (2, *COLOUR.image_shape)


class Counting(Device):
    """Counts how often memory ran out."""

    shortages = 0

    def free_memory(self) -> None:
        self.shortages += 1
        super().free_memory()


async def test_memory_that_is_not_there_splits_the_batch() -> None:
    """If only a part of the batch fits into memory, all payloads are still answered."""
    large = VAEConfig(image_shape=(3, 256, 256), latent_shape=(2, 128, 128), network=ConvConfig(widths=(64,)))
    device = Counting(choose_device("cuda"))
    runner = Runner(make_model(large), device, 64)
    runner.plans["decode"] = BatchPlan(dict.fromkeys((1, 2, 4, 8, 16, 32, 64), 0.0))
    await results(runner, "decode", [(torch.zeros(1, *large.latent_shape),)])
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device.torch_device)
    ballast = torch.empty(free - 256 * 2**20, dtype=torch.uint8, device=device.torch_device)

    answers = await results(runner, "decode", [(torch.zeros(8, *large.latent_shape),) for _ in range(8)])
    del ballast

    assert [len(answer[0]) for answer in answers] == [8] * 8
    assert device.shortages > 0
