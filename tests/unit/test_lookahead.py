"""When frames are shown and until when, told while their packets pass by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import pytest

from worker.errors import ItemError
from worker.media.film import Film
from worker.media.lookahead import Lookahead


@dataclass
class Packet:
    pts: int | None
    dts: int
    is_discard: bool = False
    size: int = 100


class TenTicksASecond:
    rate, base = 5.0, Fraction(1, 10)

    def ticks_of(self, one: Packet) -> int | None:
        return one.pts

    def seconds(self, ticks: int) -> float:
        return ticks / 10


def shown(packets: list[Packet]) -> list[tuple[int | None, tuple[float, float] | None]]:
    return [(packet.pts, at) for packet, at in over(Lookahead(cast(Film, TenTicksASecond())), packets)]


def over(ahead: Lookahead, packets: Any) -> Iterator[tuple[Any, tuple[float, float] | None]]:
    return ahead.over(packets)


def test_a_frame_is_shown_until_the_next_one_whatever_the_order_of_the_file() -> None:
    packets = [Packet(0, -4), Packet(6, -2), Packet(2, 0), Packet(4, 2), Packet(9, 4)]
    assert shown(packets) == [
        (0, (0.0, 0.2)),
        (6, (0.6, 0.9)),
        (2, (0.2, 0.4)),
        (4, (0.4, 0.6)),
        (9, (0.9, 1.1)),  # the last one as long as the rate says
    ]


def test_what_is_discarded_is_handed_on_and_never_shown() -> None:
    assert shown([Packet(0, 0, is_discard=True), Packet(2, 2), Packet(4, 4)]) == [
        (0, None),
        (2, (0.2, 0.4)),
        (4, (0.4, 0.6)),
    ]


def test_the_first_frame_shown_may_not_be_the_first_of_the_file() -> None:
    ahead = Lookahead(cast(Film, TenTicksASecond()))
    next(over(ahead, [Packet(4, 0), Packet(2, 1), Packet(6, 5), Packet(8, 7)]))
    assert ahead.first_s == 0.2


def test_no_more_wait_than_it_takes_to_know() -> None:
    ahead = Lookahead(cast(Film, TenTicksASecond()))
    read = 0

    def counted() -> Iterator[Packet]:
        nonlocal read
        for read in range(10_000):
            yield Packet(read, read)

    for given, _ in enumerate(over(ahead, counted())):
        assert read - given <= 1
    assert ahead.frames == 10_000


@pytest.mark.parametrize(
    "packets",
    [
        [Packet(0, 0), Packet(2, 2), Packet(1, 1)],
        [Packet(0, 0), Packet(None, 2)],
        [Packet(10_000 + n, n) for n in range(1000)],
    ],
    ids=["back in time", "no time", "far ahead for ever"],
)
def test_time_stamps_that_make_no_sense_are_damage(packets: list[Packet]) -> None:
    with pytest.raises(ItemError, match="time stamps") as caught:
        shown(packets)
    assert caught.value.kind == "damaged"
