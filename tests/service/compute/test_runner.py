"""One model on one device: batches that keep bits, and that shrink when memory runs out."""

import math
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from onnx import TensorProto
from torch import Tensor

from model_store import VAE, VAEConfig
from model_store.vae import ConvConfig, MLPConfig, ShortcutConvConfig
from model_store.vae.device import choose_device
from model_store.vae.likelihoods import Bernoulli
from model_store.vae.pixels import to_pixels
from service.compute import batch_plan
from service.compute import runner as runner_module
from service.compute.batch_plan import BatchPlan
from service.compute.device import Device
from service.compute.onnx_graph import Graph
from service.compute.onnx_runtime import compile_graph
from service.compute.rows import Rows, concatenate, same_bytes, split
from service.compute.runner import NotFiniteModel, Runner, TooSlow
from service.compute.torch_runtime import ForwardPass
from service.errors import DeviceLost, NotFinite, OutOfMemory

from ...conftest import COLOUR, GREY, make_model
from .conftest import results

pytestmark = pytest.mark.anyio

PASSES = ("encode", "decode", "render", "score", "error_map")


class Limited(VAE):
    """A model whose device has memory for a few images, or fails."""

    def __init__(self, fits: int = 10**9, failure: Callable[[], Exception] | None = None) -> None:
        super().__init__(GREY)
        self.fits = fits
        self.failure = failure
        self.computed: list[int] = []

    def decode(self, latents: Tensor) -> Bernoulli:
        if self.failure:
            raise self.failure()
        if len(latents) > self.fits:
            raise torch.OutOfMemoryError
        self.computed.append(len(latents))
        return Bernoulli(logits=latents.sum(1).view(-1, 1, 1, 1).expand(-1, 1, 8, 8))


def latents(count: int, value: float = 0.0) -> tuple[Tensor]:
    """Equal latents for `Limited`."""
    return (torch.full((count, 3), value),)


@pytest.fixture
def device() -> Device:
    """The CPU."""
    return Device(choose_device("cpu"))


@pytest.fixture
def with_threads() -> Iterator[Callable[[int], None]]:
    """A function that sets the number of threads of torch and its libraries."""
    threads = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(threads)


@pytest.mark.parametrize("largest", [16, 11])
@pytest.mark.parametrize("config", [GREY, COLOUR], ids=["mlp", "conv-grid"])
async def test_image_is_decoded_to_the_same_bytes_alone_and_in_any_batch(
    device: Device, config: VAEConfig, largest: int
) -> None:
    """A seed gives the same bytes, whichever other images are computed."""
    runner = Runner(make_model(config), device, max_batch_images=largest)
    await runner.warm_up()
    rows = torch.randn(16, *config.latent_shape, generator=torch.Generator().manual_seed(0))
    ((together,),) = await results(runner, "decode", [(rows,)])

    for count in (1, 2, 3, 5, 8, 11):
        parts = [(rows[start : start + count],) for start in range(0, 16, count)]
        answers = await results(runner, "decode", parts)
        assert torch.equal(torch.cat([images for (images,) in answers]), together)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "network",
    [
        MLPConfig(hidden=(50, 50), activation="silu"),
        ConvConfig(widths=(16, 32), blocks=1, hidden=100),
        ShortcutConvConfig(widths=(16, 32), blocks=1, hidden=100),
    ],
    ids=["mlp", "conv", "shortcut-conv"],
)
async def test_layers_that_fill_no_vector_agree_to_rounding(
    device: Device,
    network: MLPConfig | ConvConfig | ShortcutConvConfig,
    threads: int,
    with_threads: Callable[[int], None],
) -> None:
    """Torch computes the values after the last full vector otherwise; a warm-up can miss what few images show."""
    with_threads(threads)
    config = VAEConfig(image_shape=(1, 28, 28), latent_shape=(5,), network=network)
    runner = Runner(make_model(config), device, max_batch_images=32)
    await runner.warm_up()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (96, 1, 28, 28), dtype=torch.uint8, generator=generator)
    rows: dict[ForwardPass, Rows] = {"encode": (pixels,), "decode": (torch.randn(96, 5, generator=generator),)}

    for name, inputs in rows.items():
        (together,) = await results(runner, name, [inputs])
        for count in (1, 3, 7):
            answers = await results(runner, name, split(inputs, count))
            alone = [(await results(runner, name, [part]))[0] for part in split(inputs, count)]
            torch.testing.assert_close(concatenate(answers), together, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(concatenate(alone), together, atol=1e-6, rtol=1e-6)


async def test_encode_gives_mean_and_log_variance_of_each_payload(device: Device) -> None:
    """Each payload has its answer, with its own number of images."""
    model = make_model(GREY)
    runner = Runner(model, device, max_batch_images=8)
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    answers = await results(runner, "encode", [(pixels[:2],), (pixels[2:],)])

    posterior = model.encode(pixels / 255)
    torch.testing.assert_close(torch.cat([answer[0] for answer in answers]), posterior.mean)
    torch.testing.assert_close(torch.cat([answer[1] for answer in answers]), posterior.log_variance)


async def test_large_payload_is_computed_in_parts(device: Device) -> None:
    """No batch is larger than `max_batch_images`."""
    model = Limited()
    runner = Runner(model, device, max_batch_images=4)

    ((images,),) = await results(runner, "decode", [latents(10)])

    assert len(images) == 10
    assert max(model.computed) == 4


async def test_rendered_pixels_are_the_decoded_images_rounded(device: Device) -> None:
    """This holds in any batch."""
    runner = Runner(make_model(COLOUR), device, max_batch_images=8)
    await runner.warm_up()
    rows = torch.randn(11, *COLOUR.latent_shape, generator=torch.Generator().manual_seed(0))

    ((images,),) = await results(runner, "decode", [(rows,)])
    answers = await results(runner, "render", [(rows[:3],), (rows[3:],)])

    assert torch.equal(torch.cat([pixels for (pixels,) in answers]), to_pixels(images))


async def test_out_of_memory_halves_the_batch_until_it_fits(device: Device) -> None:
    """Every payload is answered."""
    model = Limited(fits=2)
    runner = Runner(model, device, max_batch_images=8)
    runner.plans["decode"] = BatchPlan(dict.fromkeys((1, 2, 4, 8), 0.0))

    answers = await results(runner, "decode", [latents(1, value) for value in (0, 1, 2)] + [latents(5, 3)])

    assert [len(answer[0]) for answer in answers] == [1, 1, 1, 5]
    assert [answer[0][0, 0, 0, 0].item() for answer in answers] == [
        pytest.approx(torch.tensor(3.0 * value).sigmoid().item()) for value in (0, 1, 2, 3)
    ]


async def test_image_that_does_not_fit_alone_is_an_error_for_its_caller(device: Device) -> None:
    """The search for a size that fits ends at one image."""
    runner = Runner(Limited(fits=0), device, max_batch_images=1)

    answers = await runner.run("decode", [latents(1), latents(2)])

    assert [type(answer) for answer in answers] == [OutOfMemory, OutOfMemory]


def fill_memory_with_onnx_runtime() -> None:
    """Ask ONNX Runtime for memory for 2⁴⁸ numbers."""
    graph = Graph()
    huge = graph.node("Expand", "rows", graph.constant(np.array([2**24, 2**24])))
    compute = compile_graph(graph.model({"rows": (TensorProto.FLOAT, (1,))}, {"huge": huge}))
    compute(torch.zeros(1, 1))


@pytest.mark.parametrize(
    "fill_memory",
    [lambda: torch.empty(2**60), fill_memory_with_onnx_runtime, MemoryError],
    ids=["torch", "onnxruntime", "python"],
)
async def test_memory_of_the_machine_may_run_out_too(device: Device, fill_memory: Callable[[], Exception]) -> None:
    """Each library has its own error for it; the caller always gets OutOfMemory."""
    runner = Runner(Limited(failure=fill_memory), device, max_batch_images=4)

    assert [type(answer) for answer in await runner.run("decode", [latents(1), latents(2)])] == [OutOfMemory] * 2


async def test_payload_that_cannot_be_computed_fails_alone(device: Device) -> None:
    """The other payloads of its batch are computed without it."""
    runner = Runner(Limited(), device, max_batch_images=8)
    decode = runner.forward_passes["decode"]

    def fragile(rows: Tensor) -> Rows:
        assert not (rows == 666).any(), "poisoned"
        return decode(rows)

    runner.forward_passes = {**runner.forward_passes, "decode": fragile}
    answers = await runner.run("decode", [latents(1, value) for value in (0, 1, 666, 3, 4)])

    assert [type(answer) for answer in answers] == [tuple, tuple, AssertionError, tuple, tuple]


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger batch always pays, however slow the machine is now."""
    monkeypatch.setattr(batch_plan, "BATCH_S", math.inf)
    monkeypatch.setattr(batch_plan, "SHORT_S", math.inf)


@pytest.mark.usefixtures("timeless")
async def test_warm_up_finds_out_how_much_fits(device: Device) -> None:
    """A batch that does not fit is tried in the warm-up, not with requests."""
    model = Limited(fits=3)
    runner = Runner(model, device, max_batch_images=8)

    await runner.warm_up()

    assert runner.max_images("decode") == 2


async def test_known_plans_are_not_measured_again(device: Device) -> None:
    """With known plans, each forward pass runs once, in its largest size."""
    sound = {name: BatchPlan({1: 0.1, 8: 0.2}, inline_images=1) for name in PASSES}
    model = Limited()

    assert await Runner(model, device, max_batch_images=8).warm_up(sound) == sound
    assert model.computed == [8, 8, 8, 8]


@pytest.mark.parametrize(
    "odd",
    [
        BatchPlan({10**9: 0.1}),
        BatchPlan({1: 0.1, 5: 0.2}),
        BatchPlan({}),
        BatchPlan({2: 0.1, 1: 0.1}),
        BatchPlan({0: 0.1}),
        BatchPlan({-1: 0.1}),
        BatchPlan({1: math.nan}),
        BatchPlan({1: math.inf}),
        BatchPlan({1: 0.0}),
        BatchPlan({1: -1.0}),
        BatchPlan({1: 0.1}, inline_images=2),
        BatchPlan({1: 0.1}, inline_images=-1),
    ],
)
async def test_odd_plans_are_measured_again(device: Device, odd: BatchPlan) -> None:
    """A file of the cache may say that a billion images are computed at once; every request would fail."""
    sound = BatchPlan({1: 0.1})
    runner = Runner(Limited(), device, max_batch_images=4)

    await runner.warm_up({**dict.fromkeys(PASSES, sound), "score": odd})

    assert runner.plans["score"] != odd
    assert 1 <= runner.max_images("score") <= 4


@pytest.mark.parametrize("name", ["encode", "decode", "score"])
@pytest.mark.parametrize("grey", [0, 128, 255])
async def test_model_whose_answers_are_not_finite_is_refused(device: Device, name: ForwardPass, grey: int) -> None:
    """One image of one grey value is enough, or one latent for the decoder; every request would be a 500."""
    runner = Runner(make_model(GREY), device, max_batch_images=4)
    compute = runner.forward_passes[name]

    def overflow(*rows: Tensor) -> Rows:
        *outputs, finite = compute(*rows)
        is_hit = (rows[0] == (0 if name == "decode" else grey)).flatten(1).all(1)
        return *outputs, finite & ~is_hit

    runner.forward_passes = {**runner.forward_passes, name: overflow}

    with pytest.raises(NotFiniteModel, match=f"{name} gives numbers that are not finite"):
        await runner.warm_up()


async def test_model_whose_single_image_would_count_as_hung_is_refused() -> None:
    """Each of its batches would be abandoned, and meanwhile no other model would be computed."""
    runner = Runner(Limited(), Device(choose_device("cpu"), hang_s=1e-9), max_batch_images=4)

    with pytest.raises(TooSlow, match=r"for one image, and after 1e-09 s a computation counts as hung; publish"):
        await runner.warm_up()


async def test_examples_of_large_images_are_few(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends a process that takes too much memory: no error would tell that a batch did not fit."""
    monkeypatch.setattr(runner_module, "BATCH_BYTES", 3 * GREY.activation_bytes)
    model = Limited()
    runner = Runner(model, device, max_batch_images=64)
    await runner.warm_up()

    assert max(model.computed) == 3
    assert runner.max_images("decode") <= 3


def test_image_that_alone_takes_all_the_memory_is_computed_alone(device: Device) -> None:
    """Such a version is served, one image at a time."""
    network = ConvConfig(widths=(1,))
    large = VAEConfig(image_shape=(3, 2048, 2048), latent_shape=(1, 1024, 1024), network=network)

    assert Runner(VAE(large), device, max_batch_images=64).max_images("decode") == 1


async def test_plans_of_other_forward_passes_are_measured_again(device: Device) -> None:
    """Plans for other forward passes, of another release for example, are measured again."""
    runner = Runner(make_model(GREY), device, max_batch_images=4)

    assert (await runner.warm_up({"dream": BatchPlan({1: 0.0})})).keys() == set(PASSES)


@pytest.mark.parametrize("name", ["decode", "render"])
async def test_payload_with_a_result_that_is_not_finite_fails_alone(device: Device, name: ForwardPass) -> None:
    """No caller gets NaN, or the black pixel that NaN is rounded to."""
    runner = Runner(Limited(), device, max_batch_images=4)

    good, bad = await runner.run(name, [latents(1), latents(1, torch.nan)])

    assert isinstance(bad, NotFinite)
    assert not isinstance(good, Exception)


async def test_device_that_failed_is_lost_for_good(device: Device) -> None:
    """The first caller and all later callers get DeviceLost."""
    runner = Runner(Limited(failure=lambda: torch.AcceleratorError("device-side assert")), device, max_batch_images=4)

    for _ in range(2):
        with pytest.raises(DeviceLost):
            await runner.run("decode", [latents(1)])
    assert device.lost


async def test_half_precision_stays_close_to_full(device: Device) -> None:
    """bfloat16 has 8 bits of mantissa: images agree within 0.05."""
    rows = torch.randn(8, *COLOUR.latent_shape, generator=torch.Generator().manual_seed(0))
    half = Runner(make_model(COLOUR), Device(choose_device("cpu"), torch.bfloat16), max_batch_images=8)
    full = Runner(make_model(COLOUR), device, max_batch_images=8)

    ((approximate,),) = await results(half, "decode", [(rows,)])
    ((exact,),) = await results(full, "decode", [(rows,)])

    torch.testing.assert_close(approximate, exact, atol=0.05, rtol=0)


def test_device_auto_is_one_that_the_machine_has() -> None:
    """`auto` is CUDA if the machine has it, else the CPU."""
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_device_that_is_not_there_is_named() -> None:
    """The message says what to name instead."""
    with pytest.raises(ValueError, match=r"no device 'cuda:99'; name auto"):
        choose_device("cuda:99")


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (1, [1]),
        (2, [1, 2]),
        (5, [1, 2, 3, 4, 5]),
        (16, [1, 2, 3, 4, 6, 8, 12, 16]),
        (20, [1, 2, 3, 4, 6, 8, 12, 16, 20]),
    ],
)
def test_candidate_sizes_waste_at_most_a_third(largest: int, expected: list[int]) -> None:
    """Candidates are powers of two, the numbers half-way between them, and the largest size."""
    assert batch_plan.candidates(largest) == expected


@pytest.mark.parametrize(("one_batch_s", "largest"), [(0.0005, 64), (0.0415, 16), (0.0488, 2), (3.0, 1)])
async def test_batch_takes_no_longer_than_small_requests_may_wait(one_batch_s: float, largest: int) -> None:
    """The limit is 0.05 s, and one image is always computed. Each image adds 0.5 ms here."""

    async def seconds(size: int) -> float:
        return one_batch_s + size * 0.0005 if one_batch_s > 0.001 else one_batch_s

    assert max(await batch_plan.profitable_sizes(seconds, 64)) == largest


@pytest.mark.parametrize(("full_at", "largest"), [(4, 4), (24, 24), (99, 64)])
async def test_batch_is_no_larger_than_pays(full_at: int, largest: int) -> None:
    """A batch of more images than the cores compute in parallel only takes longer."""

    async def seconds(size: int) -> float:
        return 0.9 * batch_plan.SHORT_S * -(-size // full_at)

    assert max(await batch_plan.profitable_sizes(seconds, 64)) == largest


async def test_quick_batch_is_computed_in_the_callers_own_thread(device: Device) -> None:
    """A hand-over to the device's thread would take longer. Slow batches are handed over."""
    model = Limited()
    threads: list[bool] = []
    runner = Runner(model, device, max_batch_images=8)
    runner.plans["decode"] = BatchPlan({8: 0.0}, inline_images=2)
    decode = model.decode

    def noted(latents: Tensor) -> Bernoulli:
        threads.append(threading.current_thread() is threading.main_thread())
        return decode(latents)

    model.decode = noted  # type: ignore[method-assign]  # of this one model
    for count in (1, 2, 3):
        await results(runner, "decode", [latents(1)] * count)

    assert threads == [True, True, False]


Kernel = Callable[[Tensor], Tensor | float]
INNER = torch.tensor([0, 1, 1, 0]).repeat(4)
SIXTEEN = torch.rand(16, 3, generator=torch.Generator().manual_seed(0))


def hostile(kernel: Kernel) -> Callable[[Tensor], Rows]:
    """A forward pass that adds a small number to each row; the kernel computes the number from all rows."""

    def compute(rows: Tensor) -> Rows:
        added = torch.as_tensor(kernel(rows)).expand(len(rows))
        return rows + 1e-3 * added[:, None], torch.ones(len(rows), dtype=torch.bool)

    return compute


def is_last(rows: Tensor) -> Tensor:
    """1 for the last row, 0 for the others."""
    return torch.arange(len(rows)).eq(len(rows) - 1).float()


KERNELS: dict[str, tuple[Kernel, list[int]]] = {
    "few rows differ": (lambda rows: len(rows) < 4, [4, 6, 8, 12, 16]),
    "many rows differ": (lambda rows: len(rows) >= 8, [1, 2, 3, 4, 6]),
    "odd sizes differ": (lambda rows: len(rows) % 2, [2, 4, 6, 8, 12, 16]),
    "all sizes differ": (len, [4]),
    "last of many differs": (lambda rows: is_last(rows) * (len(rows) > 4), [1, 2, 3, 4]),
    "last of four or one differs": (lambda rows: is_last(rows) * (len(rows) in {1, 4}), [2, 3, 6, 8, 12, 16]),
    "last always differs": (is_last, [1]),
    "inner two of four differ": (lambda rows: INNER[: len(rows)] * (len(rows) % 4 == 0), [1, 2, 3, 6]),
    "all places differ": (lambda rows: torch.arange(len(rows)) + len(rows), [1]),
    "other rows matter": (lambda rows: rows.mean(), [1]),
    "never the same twice": (lambda rows: torch.rand(len(rows)), []),
    "never finite": (lambda _: math.nan, [1, 2, 3, 4, 6, 8, 12, 16]),
}  # fmt: skip


async def agreeing(kernel: Kernel) -> list[int]:
    """The sizes that a warm-up would use."""

    async def compute(rows: Rows) -> Rows:
        return hostile(kernel)(*rows)

    return await batch_plan.reproducible_sizes(compute, (SIXTEEN,), batch_plan.candidates(16))


@pytest.mark.parametrize(("kernel", "reproducible"), KERNELS.values(), ids=KERNELS)
async def test_only_sizes_that_agree_byte_for_byte_are_used(kernel: Kernel, reproducible: list[int]) -> None:
    """The sizes are measured, and no kernel of any processor is assumed."""
    assert await agreeing(kernel) == reproducible


async def test_difference_that_one_image_of_sixteen_shows_is_found() -> None:
    """The first images of a batch may agree by chance."""
    assert await agreeing(lambda rows: (rows == SIXTEEN[13]).all(1) * (len(rows) < 4)) == [4, 6, 8, 12, 16]


REPEATABLE = {name: kernel for name, (kernel, reproducible) in KERNELS.items() if reproducible}


@pytest.mark.parametrize("kernel", REPEATABLE.values(), ids=REPEATABLE)
async def test_promise_is_kept_on_a_processor_with_such_kernels(device: Device, kernel: Kernel) -> None:
    """Alone and in any batch an image has the same bytes, if repeating a computation gives the same bytes."""
    runner = Runner(Limited(), device, max_batch_images=16)
    runner.forward_passes = {**runner.forward_passes, "decode": hostile(kernel)}
    await runner.warm_up()
    (together,) = await results(runner, "decode", [(SIXTEEN,)])

    for count in (1, 2, 3, 5, 8, 11):
        answers = await results(runner, "decode", [(part,) for part in SIXTEEN.split(count)])
        alone = [(await results(runner, "decode", [(part,)]))[0] for part in SIXTEEN.split(count)]
        assert same_bytes(concatenate(answers), together)
        assert same_bytes(concatenate(alone), together)


@pytest.mark.parametrize(
    ("largest", "reproducible"), [(1, [3]), (2, [3]), (3, [3]), (6, [3, 4, 6]), (16, [3, 4, 6, 8])]
)
async def test_sizes_agree_with_the_same_one_whichever_pay(largest: int, reproducible: list[int]) -> None:
    """Measured times vary, the reference must not. This kernel rounds differently below 3 and from 12 rows."""

    async def compute(inputs: Rows) -> Rows:
        (rows,) = inputs
        return (rows * (1 + 1e-6 * sum(len(rows) >= number for number in (3, 12))),)

    assert (
        await batch_plan.reproducible_sizes(compute, (torch.rand(16, 3),), batch_plan.candidates(largest))
        == reproducible
    )


async def test_image_has_the_same_bits_whichever_sizes_pay(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process only single images may be quick enough, in another process all batches."""
    rows = torch.randn(16, *COLOUR.latent_shape, generator=torch.Generator().manual_seed(0))
    answers = []
    for limit_s in (0.0, math.inf):
        monkeypatch.setattr(batch_plan, "BATCH_S", limit_s)
        monkeypatch.setattr(batch_plan, "SHORT_S", limit_s)
        runner = Runner(make_model(COLOUR), device, max_batch_images=16)
        await runner.warm_up()
        answers += await results(runner, "decode", [(rows,)])

    assert torch.equal(answers[0][0], answers[1][0])


@pytest.mark.usefixtures("timeless")
async def test_model_whose_answers_are_never_the_same_is_served_in_every_size(device: Device) -> None:
    """The promise is then a tolerance, and the plan says so."""
    model = Limited()
    runner = Runner(model, device, max_batch_images=8)
    decode = runner.forward_passes["decode"]

    def restless(rows: Tensor) -> Rows:
        return decode(rows + 1e-3 * torch.rand(rows.shape))

    runner.forward_passes = {**runner.forward_passes, "decode": restless}
    found = await runner.warm_up()

    assert not runner.is_exact
    assert (found["decode"].sizes, found["decode"].is_exact) == ([1, 2, 3, 4, 6, 8], False)
    assert found["encode"].is_exact


async def test_score_is_computed_in_sizes_in_which_its_images_agree(device: Device) -> None:
    """The sum over an image's pixels may hide a difference that another image shows."""
    runner = Runner(make_model(GREY), device, max_batch_images=8)
    decode = runner.forward_passes["decode"]

    def rounded(rows: Tensor) -> Rows:
        images, finite = decode(rows)
        return images + 1e-3 * (len(rows) < 4), finite

    runner.forward_passes = {**runner.forward_passes, "decode": rounded}

    assert min((await runner.warm_up())["score"].sizes) >= 4


@pytest.mark.usefixtures("timeless")
async def test_batch_whose_bytes_depend_on_the_thread_is_left_to_the_device() -> None:
    """The caller's thread does not compute it, even if it is quick."""
    runner = Runner(Limited(), Device(choose_device("cpu"), inline_s=math.inf), max_batch_images=8)
    decode = runner.forward_passes["decode"]

    def by_thread(rows: Tensor) -> Rows:
        images, finite = decode(rows)
        return images + 1e-3 * (threading.current_thread() is threading.main_thread()), finite

    runner.forward_passes = {**runner.forward_passes, "decode": by_thread}
    found = await runner.warm_up()

    assert found["encode"].inline_images == found["encode"].sizes[-1]
    assert [found[name].inline_images for name in ("decode", "render", "score")] == [0, 0, 0]


@pytest.mark.parametrize("rows", [5, 6, 7, 9, 11])
async def test_first_batch_of_a_thread_has_the_bytes_of_the_caller(
    device: Device, rows: int, with_threads: Callable[[int], None]
) -> None:
    """In a new thread, MKL uses another number of threads until torch tells it the number."""
    with_threads(1)
    generator = torch.Generator().manual_seed(9)
    one, other = torch.randn(rows, 256, generator=generator), torch.randn(256, 100, generator=generator)

    assert torch.equal(await device.call(torch.mm, one, other), device.run_inline(torch.mm, one, other))


async def test_image_has_the_same_bytes_wherever_it_lies_in_memory(device: Device) -> None:
    """A body from the network may begin at any address, and MKL's sums depend on the address."""
    runner = Runner(Limited(), device, max_batch_images=8)
    decode, addresses = runner.forward_passes["decode"], set()

    def noted(rows: Tensor) -> Rows:
        addresses.add(rows.data_ptr() % 64)
        return decode(rows)

    runner.forward_passes = {**runner.forward_passes, "decode": noted}
    whole = torch.zeros(17, 3)
    await results(runner, "decode", [(whole[1:9],)])
    await results(runner, "decode", [(whole[1:],)])

    assert addresses == {0}
