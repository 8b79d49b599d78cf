"""Workers that agree on the models that they serve."""

from service.inference.agreement import Agreement

OLD, NEW = 7, 9


def in_worker(agreement: Agreement, number: int) -> Agreement:
    """The agreement as a worker sees it; the memory is the same."""
    seen = object.__new__(Agreement)
    seen.__dict__.update(agreement.__dict__)
    seen.join(number)
    return seen


def test_set_is_agreed_when_the_last_worker_has_loaded_it() -> None:
    """For all workers at the same moment, and until they agree on another set."""
    agreement = Agreement(workers=2)
    first, second = in_worker(agreement, 0), in_worker(agreement, 1)
    offered = [first.offer(OLD), second.offer(OLD), first.offer(NEW), second.offer(OLD), second.offer(NEW)]

    assert offered == [True, True, False, True, True]
    assert first.offer(NEW)


def test_worker_that_has_ended_is_not_awaited() -> None:
    """The others switch as soon as it has ended."""
    agreement = Agreement(workers=2)
    first, second = in_worker(agreement, 0), in_worker(agreement, 1)
    second.offer(OLD)
    offered = [first.offer(NEW)]
    agreement.leave(1)

    assert [*offered, first.offer(NEW)] == [False, True]


def test_new_worker_waits_only_while_others_serve_newer_models() -> None:
    """If there is no other worker, old models are better than none."""
    agreement = Agreement(workers=2)
    first, second = in_worker(agreement, 0), in_worker(agreement, 1)
    first.offer(NEW)
    second.offer(OLD)
    waits = [second.is_ahead_of(OLD)]
    agreement.leave(0)
    waits.append(second.is_ahead_of(OLD))
    second.offer(OLD)
    first.offer(NEW)
    waits.append(first.is_ahead_of(NEW))

    assert waits == [True, False, True]
