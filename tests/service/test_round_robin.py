"""Clients take turns."""

from service.round_robin import MOST_COMPARED, RoundRobin


def filled(*items: str) -> RoundRobin[str]:
    """Items whose first letter is their client."""
    waiting: RoundRobin[str] = RoundRobin()
    for item in items:
        waiting.add(item[0], item)
    return waiting


def taken(waiting: RoundRobin[str]) -> list[str]:
    """All items, in the order of turns."""
    return [waiting.take() for _ in range(len(waiting))]


def test_clients_take_turns() -> None:
    """Each client has one item taken, then each a second one."""
    assert taken(filled("a1", "a2", "a3", "b1", "b2", "c1")) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_client_that_comes_later_has_its_turn_behind_the_others() -> None:
    """A client that has just had its turn does not stand before it."""
    waiting = filled("a1", "a2", "b1")
    first = waiting.take()
    waiting.add("c", "c1")

    assert [first, *taken(waiting)] == ["a1", "b1", "a2", "c1"]


def test_three_of_four_items_are_of_the_client_that_holds_least() -> None:
    """The fourth is the one of the client whose turn it is."""
    waiting = filled(*["a"] * 8, *["b"] * 8)

    assert "".join(waiting.take_fairly({"a": 2, "b": 1}) for _ in range(8)) == "bbbabbba"


def test_many_clients_are_not_compared() -> None:
    """Among more than fifty, they take turns; among fifty, the client that holds least is first."""
    clients = [chr(number) for number in range(256, 256 + MOST_COMPARED + 1)]
    waiting = filled(*clients)

    assert waiting.take_fairly(dict.fromkeys(clients[:-1], 1)) == clients[0]
    assert waiting.take_fairly(dict.fromkeys(clients[:-1], 1)) == clients[-1]


def test_item_that_is_removed_is_not_taken() -> None:
    """The last item takes its client along. An item that was taken may be removed again."""
    waiting = filled("a1", "b1", "b2")
    first = waiting.take()
    for item in (first, "b1"):
        waiting.remove(item[0], item)

    assert [waiting.count("a"), waiting.count("b"), len(waiting)] == [0, 1, 1]
    waiting.remove("b", "b2")
    assert not waiting
