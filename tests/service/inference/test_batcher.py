"""The queue, tested with a gate instead of a clock: a batch is computed when the test opens the gate."""

import asyncio
import math
import time
from collections.abc import Sequence

import pytest

from service.errors import QueueFull
from service.inference import batcher as batcher_module
from service.inference.batcher import Batcher
from service.inference.work_queue import Answer, Part

pytestmark = pytest.mark.anyio


class Gate:
    """Computes `payload * 2`, one batch each time it is opened, and records every batch."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self._open = asyncio.Semaphore(0)

    async def run(self, key: str, payloads: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append((key, list(payloads)))
        await self._open.acquire()
        return [ValueError(f"{payload} is odd") if payload % 2 else payload * 2 for payload in payloads]

    def open(self, times: int = 1) -> None:
        """Let that many batches through."""
        for _ in range(times):
            self._open.release()


def nothing(*_: object) -> None:
    """Count nothing."""


def make_batcher(gate: Gate, *, max_batch_images: int = 4, queue_images: int = 20) -> Batcher[str, int, int]:
    """A batcher in front of a gate."""
    return Batcher(
        gate.run,
        images_within=lambda _, seconds: max_batch_images if seconds == math.inf else 1,
        queue_images=queue_images,
        batch_computed=nothing,
        queue_changed=nothing,
    )


def ask(
    batcher: Batcher[str, int, int], payload: int, key: str = "encode", images: int = 1, client: str = ""
) -> asyncio.Task[Answer[int]]:
    """A caller that waits in the background."""
    return asyncio.create_task(batcher.ask(key, [Part(payload, images)], client=client))


async def settle() -> None:
    """Run the event loop until nothing more happens."""
    for _ in range(10):
        await asyncio.sleep(0)


async def occupied(batcher: Batcher[str, int, int]) -> asyncio.Task[Answer[int]]:
    """A caller whose batch is being computed, so that the next callers must wait."""
    first = ask(batcher, 0)
    await settle()
    return first


@pytest.fixture(autouse=True)
def one_batch_between_two_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the batches is tested without those that follow without a pause, which depend on the time."""
    monkeypatch.setattr(batcher_module, "TURN_S", 0.0)


async def test_idle_batcher_computes_at_once() -> None:
    """A single caller does not wait for others."""
    gate = Gate()
    gate.open()

    answer = await make_batcher(gate).ask("encode", [Part(4, 1)])

    assert answer.results == [8]
    assert gate.batches == [("encode", [4])]


async def test_what_queued_while_busy_is_the_next_batch() -> None:
    """Under load, batches fill by themselves."""
    gate = Gate()
    batcher = make_batcher(gate)
    first = await occupied(batcher)
    others = [ask(batcher, payload) for payload in (2, 4, 6)]
    await settle()

    gate.open(2)

    assert [(await task).results for task in (first, *others)] == [[0], [4], [8], [12]]
    assert gate.batches == [("encode", [0]), ("encode", [2, 4, 6])]


async def test_callers_who_come_one_turn_apart_share_a_batch() -> None:
    """A burst of requests is one batch, even if the event loop reads them in several turns."""
    gate = Gate()
    gate.open(2)
    batcher = make_batcher(gate)
    tasks = []
    for payload in (2, 4, 6):
        tasks.append(ask(batcher, payload))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)

    assert gate.batches == [("encode", [2, 4, 6])]


async def test_batch_is_bounded_in_images() -> None:
    """The bound counts images, not callers, and the order is kept."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=4)
    tasks = [await occupied(batcher)]
    tasks += [ask(batcher, payload, images=images) for payload, images in ((2, 3), (4, 2), (6, 2))]
    await settle()

    gate.open(3)
    await asyncio.gather(*tasks)

    assert gate.batches[1:] == [("encode", [2]), ("encode", [4, 6])]


async def test_small_request_waits_for_one_part_of_one_large_request() -> None:
    """The small request does not wait for all large requests that came before it."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=4, queue_images=99)
    large = [asyncio.create_task(batcher.ask("encode", [Part(number, 4), Part(number, 4)])) for number in (2, 4, 6)]
    await settle()
    small = ask(batcher, 8, key="decode")
    await settle()

    gate.open(2)
    await small
    gate.open(5)
    await asyncio.gather(*large)

    assert gate.batches[:2] == [("encode", [2]), ("decode", [8])]


async def test_parts_are_computed_together_while_there_is_no_small_work() -> None:
    """The parts of one request come first, then the parts of the next request, as many as fit."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=4, queue_images=99)
    large = [asyncio.create_task(batcher.ask("encode", [Part(n, 2), Part(n + 2, 2), Part(n + 4, 2)])) for n in (2, 12)]
    await settle()

    gate.open(4)
    answers = await asyncio.gather(*large)

    assert [payloads for _, payloads in gate.batches] == [[2, 4], [12, 14], [6, 16]]
    assert [answer.results for answer in answers] == [[4, 8, 12], [24, 28, 32]]


async def test_large_request_is_not_starved_by_small_ones() -> None:
    """The parts of large work have every second turn."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=4, queue_images=99)
    tasks = [await occupied(batcher)]
    tasks += [ask(batcher, payload, images=4) for payload in (2, 4, 6)]
    tasks.append(asyncio.create_task(batcher.ask("encode", [Part(8, 4), Part(10, 4)])))
    await settle()

    gate.open(6)
    await asyncio.gather(*tasks)

    assert [payload for _, (payload,) in gate.batches] == [0, 8, 2, 10, 4, 6]


async def test_parts_of_one_caller_leave_turns_to_others() -> None:
    """A small request goes between the parts of a large one, which are answered together, in order."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=4, queue_images=20)
    large = asyncio.create_task(batcher.ask("encode", [Part(2, 4), Part(4, 4), Part(6, 4)]))
    await settle()
    small = ask(batcher, 8)
    await settle()

    assert batcher.waiting_images == 9
    gate.open(2)
    assert (await small).results == [16]
    assert not large.done()
    gate.open(2)
    assert (await large).results == [4, 8, 12]
    assert gate.batches == [("encode", [2]), ("encode", [8]), ("encode", [4]), ("encode", [6])]


@pytest.mark.parametrize("is_computing", [True, False], ids=["while computed", "while queued"])
async def test_caller_who_leaves_between_parts_takes_the_rest_along(is_computing: bool) -> None:
    """The queue is empty afterwards, and no further part is computed."""
    gate = Gate()
    batcher = make_batcher(gate)
    first = None if is_computing else await occupied(batcher)
    leaving = asyncio.create_task(batcher.ask("encode", [Part(2, 4), Part(4, 4)]))
    await settle()
    leaving.cancel()
    await settle()
    gate.open(2)
    await settle()

    assert batcher.waiting_images == 0
    assert ("encode", [4]) not in gate.batches
    assert first is None or (await first).results == [0]


async def test_error_in_one_part_ends_the_others() -> None:
    """The other parts are not computed, and the caller gets the error at once."""
    gate = Gate()
    gate.open(2)
    batcher = make_batcher(gate)

    with pytest.raises(ValueError, match="3 is odd"):
        await batcher.ask("encode", [Part(3, 4), Part(4, 4)])
    assert gate.batches == [("encode", [3])]
    assert batcher.waiting_images == 0


async def test_part_larger_than_a_batch_is_computed_alone() -> None:
    """The runner divides it."""
    gate = Gate()
    gate.open()

    answer = await make_batcher(gate, max_batch_images=4, queue_images=4).ask("encode", [Part(2, 9)])

    assert answer.results == [4]


async def test_keys_do_not_mix_and_the_longest_wait_goes_first() -> None:
    """Each batch has one key. A caller with another key is not overtaken again and again."""
    gate = Gate()
    batcher = make_batcher(gate)
    tasks = [await occupied(batcher)]
    tasks += [ask(batcher, 2, "decode"), ask(batcher, 4, "encode"), ask(batcher, 6, "decode")]
    await settle()

    gate.open(3)
    await asyncio.gather(*tasks)

    assert gate.batches[1:] == [("decode", [2, 6]), ("encode", [4])]


async def test_two_sizes_never_meet_in_one_batch() -> None:
    """Images of another size have batches of their own, even if all images would fit into one batch."""
    gate = Gate()
    batcher = make_batcher(gate)
    tasks = [await occupied(batcher)]
    tasks += [ask(batcher, payload, size) for payload, size in ((2, "8x8"), (4, "16x8"), (6, "8x8"), (8, "16x8"))]
    await settle()

    gate.open(3)
    await asyncio.gather(*tasks)

    assert gate.batches[1:] == [("8x8", [2, 6]), ("16x8", [4, 8])]


async def test_size_that_comes_all_the_time_does_not_hold_up_another() -> None:
    """The longest wait goes first, so a single image of a rare size is computed after the images before it."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=1, queue_images=99)
    tasks = [ask(batcher, 2, "common"), ask(batcher, 4, "rare")]
    for payload in (6, 8, 10):
        tasks.append(ask(batcher, payload, "common"))
        await settle()
        gate.open()
    gate.open(2)
    await asyncio.gather(*tasks)

    assert gate.batches == [("common", [2]), ("rare", [4]), ("common", [6]), ("common", [8]), ("common", [10])]


async def test_small_work_of_other_keys_does_not_wait_for_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the event loop is slow, a turn for each key would make each request wait for all keys."""
    monkeypatch.setattr(batcher_module, "TURN_S", math.inf)
    turn, computed = 0, []

    async def run(key: str, payloads: Sequence[int]) -> Sequence[int]:
        computed.append((turn, key, list(payloads)))
        return payloads

    gate = Gate()
    monkeypatch.setattr(gate, "run", run)
    batcher = make_batcher(gate)
    tasks = [ask(batcher, payload, key) for payload, key in ((2, "encode"), (4, "render"), (6, "encode"), (8, "score"))]
    while not all(task.done() for task in tasks):
        turn += 1
        await asyncio.sleep(0)

    assert [key_and_payloads for _, *key_and_payloads in computed] == [
        ["encode", [2, 6]],
        ["render", [4]],
        ["score", [8]],
    ]
    assert len({turn for turn, *_ in computed}) == 1


async def test_large_work_has_a_turn_when_each_small_key_has_had_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of which small work comes all the time would else keep large work out."""
    monkeypatch.setattr(batcher_module, "TURN_S", math.inf)
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=2)
    tasks = [await occupied(batcher), asyncio.create_task(batcher.ask("encode", [Part(20, 2), Part(22, 2)]))]
    tasks += [ask(batcher, payload, key) for key in ("encode", "render") for payload in (2, 4, 6)]
    await settle()
    gate.open(9)
    await asyncio.gather(*tasks)

    assert gate.batches[1:3] == [("render", [2, 4]), ("encode", [20])]


async def test_large_requests_of_several_sizes_take_turns() -> None:
    """Each turn is one part while small work is expected, and small work goes in between, of any size."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=4, queue_images=99)
    tasks = [await occupied(batcher)]
    for size, payload in (("8x8", 10), ("16x8", 20), ("32x8", 30)):
        tasks.append(asyncio.create_task(batcher.ask(size, [Part(payload, 2), Part(payload + 2, 2)])))
    tasks.append(ask(batcher, 2, "64x8"))
    await settle()

    gate.open(8)
    await asyncio.gather(*tasks)

    assert gate.batches[1:] == [
        ("8x8", [10]), ("64x8", [2]), ("16x8", [20]), ("32x8", [30]), ("8x8", [12]), ("16x8", [22]), ("32x8", [32]),
    ]  # fmt: skip


async def test_sizes_and_clients_leave_nothing_behind() -> None:
    """Clients choose the sizes of images, so a line for each size or client ever seen would use up memory."""
    gate = Gate()
    gate.open(100)
    batcher = make_batcher(gate)
    leaving = ask(batcher, 2, "never computed", client="leaving")
    await asyncio.sleep(0)
    leaving.cancel()
    for number in range(50):
        await ask(batcher, 2, f"{number}x8", client=f"192.0.2.{number}")

    assert batcher._queue._lines == {}
    assert batcher._queue._new_images_of == {}


async def test_full_queue_refuses_at_once() -> None:
    """The error has the numbers, and a time after which to try again."""
    gate = Gate()
    batcher = make_batcher(gate, queue_images=3)
    tasks = [await occupied(batcher), ask(batcher, 2, images=3)]
    await settle()

    with pytest.raises(QueueFull, match="it has 3 images there and asks for 1 more, but") as refusal:
        await batcher.ask("encode", [Part(4, 1)])

    assert refusal.value.retry_after_s == 1
    gate.open(2)
    await asyncio.gather(*tasks)
    assert batcher.waiting_images == 0


async def test_one_client_leaves_room_for_others() -> None:
    """A client may have as many images in the queue as places are free: half, and less beside others."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=24, queue_images=24)
    tasks = [await occupied(batcher)]
    admitted = {}
    for client in ("greedy", "second", "third", "fourth"):
        requests = [ask(batcher, 2, client=client) for _ in range(24)]
        await settle()
        admitted[client] = sum(not request.done() for request in requests)
        tasks += requests
    gate.open(2)
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert admitted == {"greedy": 12, "second": 6, "third": 3, "fourth": 2}
    assert sum(isinstance(result, QueueFull) for result in results) == 96 - 23


async def test_single_image_is_not_kept_out_by_large_requests_of_its_own_client() -> None:
    """The client has its share of the queue already; a single image is refused only when many requests wait."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=24, queue_images=24)
    tasks = [await occupied(batcher), *(ask(batcher, 2, images=images, client="one") for images in (8, 4, 1, 1))]
    await settle()

    assert batcher.waiting_images == 14
    with pytest.raises(QueueFull, match="it has 14 images there and asks for 8 more"):
        batcher.check_room(8, "one")
    gate.open(5)
    await asyncio.gather(*tasks)


async def test_two_greedy_clients_have_a_third_each() -> None:
    """The third that stays free is for others."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=24, queue_images=24)
    tasks = [await occupied(batcher)]
    tasks += [ask(batcher, 2, client=client) for _ in range(24) for client in ("one", "other")]
    await settle()

    assert batcher.waiting_images == 16
    batcher.check_room(8, "newcomer")
    gate.open(2)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_queue_without_waiting_images_has_room_for_the_largest_request() -> None:
    """The share of a lone client would be half of the queue."""
    gate = Gate()
    gate.open(2)
    batcher = make_batcher(gate, queue_images=10)

    assert (await batcher.ask("encode", [Part(2, 10)], client="lone")).results == [4]


async def test_single_request_is_in_the_next_batch_whatever_another_client_has_queued() -> None:
    """Clients take turns within a batch; each client's requests keep their order."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=4, queue_images=99)
    tasks = [await occupied(batcher)]
    tasks += [ask(batcher, payload, client="greedy") for payload in range(10, 22, 2)]
    tasks += [ask(batcher, 2, client="good"), ask(batcher, 4, client="another")]
    await settle()
    gate.open(4)
    await asyncio.gather(*tasks)

    assert [payloads for _, payloads in gate.batches[1:]] == [[10, 2, 4, 12], [14, 16, 18, 20]]


async def test_client_with_another_key_has_the_next_turn_but_one() -> None:
    """The oldest request of a client that has waited for its turn is newer than all the requests of another client."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=2, queue_images=99)
    tasks = [await occupied(batcher)]
    tasks += [ask(batcher, payload, client="greedy") for payload in range(10, 22, 2)]
    tasks.append(ask(batcher, 2, "decode", client="good"))
    await settle()
    gate.open(5)
    await asyncio.gather(*tasks)

    assert gate.batches[1:3] == [("encode", [10, 12]), ("decode", [2])]


async def test_more_clients_than_a_batch_has_room_for_take_turns() -> None:
    """Every client has been served once before one is served twice."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=2, queue_images=99)
    tasks = [await occupied(batcher)]
    tasks += [ask(batcher, 10 * client + turn, client=str(client)) for client in range(1, 6) for turn in (0, 2)]
    await settle()
    gate.open(6)
    await asyncio.gather(*tasks)

    assert [payloads for _, payloads in gate.batches[1:]] == [[10, 20], [30, 40], [50, 12], [22, 32], [42, 52]]


async def test_large_requests_of_two_clients_take_turns() -> None:
    """A client's third large request does not come before the first of another client."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=4, queue_images=99)
    tasks = [await occupied(batcher)]
    for payload, client in ((10, "greedy"), (20, "greedy"), (30, "greedy"), (40, "good")):
        parts = [Part(payload, 4), Part(payload + 2, 4)]
        tasks.append(asyncio.create_task(batcher.ask("encode", parts, client=client)))
    await settle()
    gate.open(9)
    await asyncio.gather(*tasks)

    assert [payload for _, (payload,) in gate.batches[1:5]] == [10, 40, 20, 42]


async def test_client_who_leaves_frees_its_share() -> None:
    """Its cancelled requests count no longer."""
    gate = Gate()
    batcher = make_batcher(gate, max_batch_images=4, queue_images=8)
    tasks = [await occupied(batcher), ask(batcher, 2, client="other")]
    leaving = [ask(batcher, 4, images=2, client="leaving") for _ in range(2)]
    await settle()
    for request in leaving:
        request.cancel()
    await settle()

    batcher.check_room(7, "leaving")
    gate.open(2)
    await asyncio.gather(*tasks)


async def test_turn_of_large_work_is_longer_while_the_event_loop_is_slow() -> None:
    """Otherwise a request of many parts would take as many slow turns. Small work still waits for a share of a turn."""

    async def double(key: str, payloads: Sequence[int]) -> Sequence[int]:
        batches.append(len(payloads))
        return [2 * payload for payload in payloads]

    batches: list[int] = []
    batcher = Batcher(
        double,
        images_within=lambda _key, seconds: 16 if seconds >= 0.002 else 1,
        queue_images=99,
        batch_computed=nothing,
        queue_changed=nothing,
    )
    await batcher.ask("encode", [Part(2, 1)])  # small work, so that more is expected
    hog = asyncio.create_task(keep_busy(0.01))
    await asyncio.sleep(0)
    await batcher.ask("encode", [Part(2, 1)] * 32)
    hog.cancel()

    assert batches == [1, 16, 16]


async def keep_busy(turn_s: float) -> None:
    """Hold up each turn of the event loop, as an expensive request does."""
    while True:
        time.sleep(turn_s)
        await asyncio.sleep(0)


async def test_client_who_comes_and_goes_does_not_hold_up_a_batch() -> None:
    """The batcher waits for quiet turns of the event loop, and such a client would leave none."""

    async def come_and_go() -> None:
        while True:
            restless = ask(batcher, 4)
            await asyncio.sleep(0)
            restless.cancel()
            await asyncio.sleep(0)

    gate = Gate()
    gate.open()
    batcher = make_batcher(gate)
    restless = asyncio.create_task(come_and_go())
    first = ask(batcher, 2)
    for _ in range(50):
        await asyncio.sleep(0)

    assert first.done()
    restless.cancel()
    await settle()


async def test_batch_begins_after_one_long_turn_of_the_event_loop() -> None:
    """A request that comes in each turn of a busy event loop does not hold up the first one."""
    gate = Gate()
    gate.open(20)
    batcher = make_batcher(gate)
    hog = asyncio.create_task(keep_busy(0.002))
    first, others = ask(batcher, 2), []
    while not first.done():
        others.append(ask(batcher, 4))
        await asyncio.sleep(0)
    hog.cancel()

    assert len(others) == 3  # in three turns: until it is asked, until it begins, and of computing
    await asyncio.gather(*others)


async def test_work_that_is_begun_is_let_into_a_full_queue() -> None:
    """A refusal would waste the first half of the answer."""
    gate = Gate()
    batcher = make_batcher(gate, queue_images=1)
    tasks = [await occupied(batcher), ask(batcher, 2)]
    await settle()
    going_on = asyncio.create_task(batcher.ask("decode", [Part(4, 3)], is_begun=True))
    gate.open(3)

    assert (await going_on).results == [8]
    await asyncio.gather(*tasks)


async def test_work_that_is_begun_keeps_no_one_out() -> None:
    """Draws of many scores wait, far more than the queue has room for. Other clients are admitted all the same."""
    gate = Gate()
    batcher = make_batcher(gate, queue_images=4)
    first = await occupied(batcher)
    draws = [asyncio.create_task(batcher.ask("score", [Part(2, 4)], client="scores", is_begun=True)) for _ in range(64)]
    await settle()

    small = ask(batcher, 4, client="small")
    await settle()
    gate.open(66)

    assert (await small).results == [8]
    await asyncio.gather(first, *draws)
    assert (batcher.waiting_images, batcher._queue.new_images) == (0, 0)


async def test_caller_who_leaves_is_not_computed_and_frees_the_queue() -> None:
    """Work whose caller has left is not done."""
    gate = Gate()
    batcher = make_batcher(gate, queue_images=4)
    first = await occupied(batcher)
    leaving, staying = ask(batcher, 2), ask(batcher, 4)
    await settle()
    leaving.cancel()
    await settle()

    assert batcher.waiting_images == 1
    gate.open(2)
    await asyncio.gather(first, staying)
    assert gate.batches[1:] == [("encode", [4])]


async def test_caller_who_leaves_while_computed_does_not_harm_the_others() -> None:
    """The other callers of the batch are answered."""
    gate = Gate()
    batcher = make_batcher(gate)
    leaving = await occupied(batcher)
    leaving.cancel()
    await settle()
    gate.open(2)

    assert (await batcher.ask("encode", [Part(6, 1)])).results == [12]


async def test_one_payloads_error_is_its_own() -> None:
    """The other payloads of its batch are answered."""
    gate = Gate()
    batcher = make_batcher(gate)
    first = await occupied(batcher)
    good, bad, good_too = (ask(batcher, payload) for payload in (2, 3, 4))
    await settle()
    gate.open(2)
    await first

    assert (await good).results == [4]
    assert (await good_too).results == [8]
    with pytest.raises(ValueError, match="3 is odd"):
        await bad


async def test_failure_of_a_batch_reaches_each_of_its_callers_and_no_other() -> None:
    """The batcher continues with the next batch."""

    async def fail_first(key: str, payloads: Sequence[int]) -> Sequence[int]:
        failures.append(len(payloads))
        if len(failures) == 1:
            raise RuntimeError("the device burns")
        return payloads

    failures: list[int] = []
    batcher = Batcher(
        fail_first,
        images_within=lambda _key, _seconds: 4,
        queue_images=9,
        batch_computed=nothing,
        queue_changed=nothing,
    )
    doomed = [ask(batcher, 2), ask(batcher, 4)]

    results = await asyncio.gather(*doomed, return_exceptions=True)

    assert [str(result) for result in results] == ["the device burns"] * 2
    assert (await batcher.ask("encode", [Part(6, 1)])).results == [6]


async def test_too_few_results_are_a_bug_and_not_a_mix_up() -> None:
    """No caller gets the answer of another caller."""

    async def lose_one(key: str, payloads: Sequence[int]) -> Sequence[int]:
        return payloads[1:]

    batcher = Batcher(
        lose_one, images_within=lambda _key, _seconds: 4, queue_images=9, batch_computed=nothing, queue_changed=nothing
    )

    with pytest.raises(RuntimeError, match=r"1 payloads gave 0 results\. This is a bug\."):
        await batcher.ask("encode", [Part(2, 1)])


async def test_batches_and_waiting_images_are_counted() -> None:
    """Batches are counted by key and images, the queue in images."""
    counted: list[tuple[str, int]] = []
    waiting: list[int] = []
    gate = Gate()
    gate.open()
    batcher = Batcher(
        gate.run,
        images_within=lambda _key, _seconds: 4,
        queue_images=9,
        batch_computed=lambda *of: counted.append(of),
        queue_changed=waiting.append,
    )

    await batcher.ask("encode", [Part(2, 3)])

    assert counted == [("encode", 3)]
    assert waiting == [3, 0]
