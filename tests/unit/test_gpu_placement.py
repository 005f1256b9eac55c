"""Which cards a request gets, and who of those that wait is next."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("hypothesis", reason="the developers' tools are not installed")

from hypothesis import given
from hypothesis import strategies as some

from tests import fuzz  # noqa: F401
from tests.gpu_clusters import cluster
from worker.gpus.allocation import Request, Waiting
from worker.gpus.described import nodes
from worker.gpus.inventory import Node
from worker.gpus.line import HALF_LIFE_S, faded, settle
from worker.gpus.neighbours import together
from worker.gpus.placement import Stock, place, why_never


def stock(found: Sequence[Node]) -> Stock:
    return Stock(card for node in found for card in node.cards)


def got(found: Sequence[Node], request: Request) -> list[str] | None:
    cards = place(stock(found), request)
    return None if cards is None else [card.uuid for card in cards]


# one request


def test_it_starts_only_where_its_memory_fits() -> None:
    mixed = cluster(small="4xA100-40GB", large="2xA100-80GB")
    assert got(mixed, Request(1, memory_gb=41)) == ["large/0"]
    assert got(mixed, Request(3, memory_gb=41)) is None
    assert got(mixed, Request(3, memory_gb=40)) == ["small/0", "small/1", "small/2"]


def test_large_cards_are_kept_for_who_needs_them() -> None:
    assert got(cluster(a="1xH100", b="1xT4"), Request()) == ["b/0"]
    assert got(cluster(a="1xH100", b="1xT4"), Request(kind="H100")) == ["a/0"]


def test_cards_of_one_request_are_alike() -> None:
    mixed = [Node("a", cluster(a="1xT4")[0].cards + cluster(b="1xL4")[0].cards)]
    assert got(mixed, Request(2)) is None


def test_binpack_fills_the_fullest_and_spread_the_emptiest() -> None:
    three = cluster(a="4xT4", b="2xT4", c="8xT4")
    assert got(three, Request(2)) == ["b/0", "b/1"]
    assert got(three, Request(2, strategy="spread")) == ["c/0", "c/1"]


def test_of_a_gang_all_or_none() -> None:
    three = cluster(a="4xT4", b="3xT4", c="2xT4")
    assert got(three, Request(2, members=4)) == ["c/0", "c/1", "b/0", "b/1", "a/0", "a/1", "a/2", "a/3"]
    assert got(three, Request(2, members=5)) is None
    assert got(three, Request(2, members=3, strategy="spread")) == ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1"]


def test_what_fits_no_node_is_split_into_equal_members_if_it_may() -> None:
    two = cluster(a="4xT4", b="4xT4")
    assert got(two, Request(8)) is None
    assert got(two, Request(8, spans=True)) == [f"{node}/{index}" for node in "ab" for index in range(4)]
    assert got(two, Request(6, spans=True)) == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]
    assert got(two, Request(7, spans=True)) == ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2"]


def test_a_node_that_is_named_is_the_only_one() -> None:
    two = cluster(a="1xT4", b="2xT4")
    assert got(two, Request(node="b")) == ["b/0"]
    assert got(two, Request(2, node="a")) is None


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Request(kind="H100"), "there are A100 40 GB, T4 16 GB"),
        (Request(memory_gb=80), "there are A100 40 GB, T4 16 GB"),
        (Request(4, kind="A100"), "3 such cards are here, at most 2 alike on a node"),
        (Request(2, node="b", kind="A100"), "b has 1 such cards alike"),
        (Request(2, kind="A100"), None),
    ],
)
def test_what_can_never_be_is_said_with_what_there_is(request_: Request, why: str | None) -> None:
    said = why_never(stock(cluster(a="2xA100-40GB", b="1xA100-40GB", c="4xT4")), request_)
    assert (said and said.english) == why


# neighbours

EIGHT = """
nodes:
  - name: a
    gpus: 8xV100-32GB
    nvlink: [[0, 1], [2, 3], [4, 5], [6, 7]]
    numa: [[0, 1, 2, 3], [4, 5, 6, 7]]
"""


def chosen(without: set[int], count: int) -> list[int]:
    (node,) = nodes(EIGHT, "", {})
    return [
        card.index for card in together([card for card in node.cards if card.index not in without], count)
    ]


def test_linked_cards_are_taken_together() -> None:
    assert chosen({0, 2}, 2) == [4, 5]
    assert chosen({1}, 4) == [4, 5, 6, 7]


def test_without_links_those_of_one_numa_node_are() -> None:
    assert chosen({0, 2, 5, 7}, 2) == [1, 3]


def test_who_needs_one_card_leaves_the_pairs_whole() -> None:
    assert chosen({2}, 1) == [3]


def test_of_many_cards_a_good_group_is_found_without_trying_all() -> None:
    links = ", ".join(str(list(range(first, first + 8))) for first in (0, 8, 16))
    (node,) = nodes(f"nodes: [{{name: a, gpus: 24xH100, nvlink: [{links}]}}]", "", {})
    free = [card for card in node.cards if card.index not in (0, 1, 8)]
    assert [card.index for card in together(free, 8)] == [16, 17, 18, 19, 20, 21, 22, 23]


REQUESTS = some.builds(
    Request,
    count=some.integers(1, 6),
    members=some.integers(1, 4),
    spans=some.booleans(),
    kind=some.sampled_from(["", "A100", "T4"]),
    memory_gb=some.sampled_from([0.0, 16.0, 40.0, 80.0]),
    strategy=some.sampled_from(["binpack", "spread"]),
)
CLUSTERS = some.lists(
    some.tuples(some.integers(1, 9), some.sampled_from(["A100-40GB", "A100-80GB", "T4"])),
    min_size=1,
    max_size=6,
).map(lambda made: cluster(**{f"n{number}": f"{count}x{kind}" for number, (count, kind) in enumerate(made)}))


@given(CLUSTERS, REQUESTS)
def test_whatever_is_placed_is_what_was_asked_for(found: Sequence[Node], request: Request) -> None:
    free = stock(found)
    cards = place(free, request)
    if cards is None:
        assert why_never(free, request)
        return
    assert len({card.uuid for card in cards}) == len(cards) == request.total
    assert len({card.sort for card in cards}) == 1
    assert all(request.suits(card) for card in cards)
    if not request.spans:
        members = [cards[at : at + request.count] for at in range(0, len(cards), request.count)]
        assert all(len({card.node for card in member}) == 1 for member in members)


# the line


def order(
    *waiting: Waiting,
    free: str = "1xT4",
    held: dict[str, int] | None = None,
    spent: dict[str, float] | None = None,
) -> list[str]:
    there = stock(cluster(a=free))
    capacity = stock(cluster(a="8xT4"))
    granted = settle(
        waiting, there, held or {}, spent or {}, lambda request: not why_never(capacity, request)
    )
    return [one.ticket for one, _ in granted]


def waits(ticket: str, asked: float = 0.0, count: int = 1, **request: object) -> Waiting:
    return Waiting(ticket, Request(count, **request), "", asked, 1e9)  # type: ignore[arg-type]


def test_who_came_first_is_next() -> None:
    assert order(waits("late", 2), waits("early", 1)) == ["early"]


def test_priority_goes_before_time() -> None:
    assert order(waits("early", 1), waits("urgent", 2, priority=1)) == ["urgent"]


def test_who_holds_less_goes_before_who_holds_more() -> None:
    assert order(waits("rich", 1, owner="a"), waits("poor", 2, owner="b"), held={"a": 3}) == ["poor"]


def test_who_used_less_goes_first_among_those_who_hold_alike() -> None:
    assert order(waits("used", 1, owner="a"), waits("new", 2, owner="b"), spent={"a": 60.0}) == ["new"]


def test_a_crowd_of_one_owner_does_not_keep_others_out() -> None:
    crowd = [waits(f"a{number}", number, owner="a") for number in range(10)]
    assert order(*crowd, waits("b0", 99, owner="b"), free="4xT4") == ["a0", "b0", "a1", "a2"]


def test_a_large_gang_is_not_overtaken_on_the_cards_that_it_waits_for() -> None:
    assert order(waits("gang", 1, 8), waits("small", 2), free="4xT4") == []
    assert order(waits("gang", 1, 8, kind="T4"), waits("other", 2, kind="A100"), free="2xA100-40GB") == [
        "other"
    ]


def test_who_waits_for_what_is_not_here_keeps_nobody_waiting() -> None:
    assert order(waits("never", 1, 9), waits("small", 2)) == ["small"]


def test_what_somebody_used_fades() -> None:
    assert faded(100, HALF_LIFE_S) == 50
