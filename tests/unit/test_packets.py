"""Which packets are decoded to see certain frames."""

from __future__ import annotations

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
