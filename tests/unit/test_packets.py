"""Which packets are decoded to see certain frames."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from time import process_time

import numpy as np

from worker.media.packets import PacketTable, Run

CLOSED = PacketTable([0, 3, 1, 2, 4, 7, 5, 6], [1, 0, 0, 0, 1, 0, 0, 0], [0] * 8)
"""I P b b, twice"""
OPEN = PacketTable([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], [1, 0, 0, 0, 1, 0, 0, 0, 0, 0], [0] * 10)
"""I P b b, then I b b P b b: the first two b are shown before that I and need the P before it"""


def runs(table: PacketTable, *wanted: int) -> list[Run]:
    return list(table.runs(wanted))


def test_frames_are_counted_as_they_are_shown() -> None:
    assert CLOSED.shown.tolist() == [0, 2, 3, 1, 4, 6, 7, 5]


def test_what_is_discarded_is_decoded_but_not_counted() -> None:
    table = PacketTable([0, 1, 2, 3], [1, 0, 0, 0], [1, 1, 0, 0])
    assert table.shown.tolist() == [2, 3]
    assert runs(table, 2) == [Run(0, 2)]


def test_a_run_begins_at_a_keyframe_and_stops_where_it_may() -> None:
    assert runs(CLOSED, 6) == [Run(4, 6)]


def test_a_stretch_that_nobody_needs_is_left_out() -> None:
    assert runs(CLOSED, 1, 4) == [Run(0, 1), Run(4, 4)]


def test_runs_that_touch_are_one() -> None:
    assert runs(CLOSED, 3, 6) == [Run(0, 6)]


def test_a_frame_shown_before_its_keyframe_needs_the_one_before() -> None:
    assert runs(OPEN, 5) == [Run(0, 5)]
    assert runs(OPEN, 7) == [Run(4, 7)]


def test_no_keyframe_before_means_from_the_start() -> None:
    assert runs(PacketTable([0, 1, 2], [0, 0, 1], [0] * 3), 1) == [Run(0, 1)]


def test_two_frames_at_one_time_cannot_be_told_apart() -> None:
    assert not PacketTable([0, 1, 1], [1, 0, 0], [0] * 3).trusted
    assert PacketTable([0, 1, 2], [1, 0, 0], [0] * 3).trusted


def test_a_table_of_nothing_shown_is_not_trusted() -> None:
    assert not PacketTable([0, 1], [1, 0], [1, 1]).trusted


def plainly(table: PacketTable, wanted: Sequence[int]) -> list[Run]:
    """As it is defined, whatever it costs."""
    found: list[Run] = []
    for packet in sorted(wanted):
        keys = [k for k in range(packet + 1) if table.keys[k] and table.ticks[k] <= table.ticks[packet]]
        first = keys[-1] if keys else 0
        if found and first <= found[-1].stop + 1:
            found[-1] = Run(min(found[-1].start, first), packet)
        else:
            found.append(Run(first, packet))
    return found


def test_whatever_the_times_are_it_is_what_the_definition_says() -> None:
    random = Random(7)
    for _ in range(500):
        count = random.randint(1, 30)
        ticks = [random.randint(0, random.choice((3, 30))) for _ in range(count)]
        keys = [random.random() < random.choice((0.1, 0.5, 1)) for _ in range(count)]
        table = PacketTable(ticks, keys, [0] * count)
        wanted = random.choices(range(count), k=random.randint(0, count))
        assert list(table.runs(wanted)) == plainly(table, wanted)


def test_a_long_film_of_keyframes_costs_no_square_of_its_length() -> None:
    """A square would take 20 s here, and this a third of one."""
    count = 1 << 18
    table = PacketTable(np.arange(count), np.ones(count), np.zeros(count))
    began = process_time()
    assert len(list(table.runs(range(0, count, 3)))) == (count + 2) // 3
    assert process_time() - began < 5
