"""Budgets: small and large reservations, fair shares, and the end of a reservation."""

import pytest

from service.app import MAX_PROCESSES, SMALL_ANSWERS_BYTES, SMALL_BODIES_BYTES, process_bytes
from service.errors import AnswerMemoryFull
from service.memory import SMALL_BYTES, Memory
from service.settings import Settings

LARGE = SMALL_BYTES + 1


def test_reservation_that_was_refused_is_as_it_was() -> None:
    """The reservation keeps the bytes that it has, and returns them at its end."""
    memory = Memory(0, 10, AnswerMemoryFull)
    with memory.reserve("a") as first, memory.reserve("b") as second:
        first.grow_to(5)
        second.grow_to(5)
        with pytest.raises(AnswerMemoryFull, match=r"needs at least 6 bytes .* hold 0; .* its request, 5 of 10"):
            second.grow_to(6)
        assert (second.size, memory.taken) == (5, 10)

    assert memory.taken == 0


def test_reservation_that_grows_large_leaves_the_small_budget() -> None:
    """A reservation is in one budget at a time."""
    memory = Memory(2 * LARGE, SMALL_BYTES, AnswerMemoryFull)
    with memory.reserve("a") as reservation:
        for size in (1, SMALL_BYTES, LARGE, LARGE + 1):
            reservation.grow_to(size)

        assert (memory.small.taken, memory.large.taken) == (0, LARGE + 1)


def test_reservation_that_shrinks_stays_in_its_budget() -> None:
    """Such a reservation is never refused: its result would be lost."""
    memory = Memory(LARGE, 0, AnswerMemoryFull)
    with memory.reserve("a") as reservation:
        reservation.grow_to(LARGE)
        reservation.shrink_to(1)
        reservation.shrink_to(2)

        assert (memory.small.taken, memory.large.taken) == (0, 1)


def test_large_reservations_leave_the_small_budget_alone() -> None:
    """A client with a small request is not refused because others send large ones."""
    memory = Memory(LARGE, 100, AnswerMemoryFull)
    with memory.reserve("greedy") as large, memory.reserve("greedy") as second, memory.reserve("modest") as small:
        large.grow_to(LARGE)
        with pytest.raises(AnswerMemoryFull):
            second.grow_to(LARGE)
        small.grow_to(100)

        assert small.size == 100


def test_client_holds_at_most_as_much_as_it_leaves_free() -> None:
    """A client takes half of a budget, a second client half of the rest; each may begin with all that is free."""
    memory = Memory(0, 16, AnswerMemoryFull)
    reservations = [memory.reserve(client) for client in "aaabb"]
    for reservation in (*reservations[:2], *reservations[3:]):
        reservation.grow_to(4 if reservation in reservations[:2] else 2)
    with pytest.raises(AnswerMemoryFull, match=r"at least 1 bytes .* this client hold 8; .* its request, 4 of 16"):
        reservations[2].grow_to(1)

    assert memory.taken == 12


def test_budget_forgets_clients_that_hold_nothing() -> None:
    """Addresses are many, and each would take memory."""
    memory = Memory(0, 16, AnswerMemoryFull)
    for client in map(str, range(100)):
        with memory.reserve(client) as reservation:
            reservation.grow_to(1)

    assert not memory.small._held


def test_default_settings_fit_into_two_gibibytes() -> None:
    """The sum of docs/how-to/bound-the-memory.md, with 140 MiB for the models."""
    settings = Settings()
    bodies = 4 * (settings.max_bodies_bytes + SMALL_BODIES_BYTES)
    answers = settings.max_answers_bytes + SMALL_ANSWERS_BYTES
    reading = MAX_PROCESSES * process_bytes(settings)
    program, writing, connections, models = 300, MAX_PROCESSES * 48, 40, 140

    assert program + writing + connections + models + (bodies + answers + reading) / 2**20 <= 2048
