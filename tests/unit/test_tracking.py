"""A road user is one track, however its boxes flicker; two are two."""

from __future__ import annotations

import numpy as np
import pytest

from tests.boxes import around, seen, times, tracks
from worker.ghosts.flow import Flow, Pace
from worker.ghosts.tracking import LOST_S, START_SCORE, TOLD_S, Tracker


def test_one_who_walks_is_one_track() -> None:
    (track,) = tracks((t, [seen(around(400 + 80 * t, 300, 40, 100))]) for t in times(0, 3))
    assert (track.born_s, track.last_s, track.since_s) == (0, 3, 0)
    assert len(track.seen) == 31


def test_two_who_pass_each_other_stay_two() -> None:
    both = tracks(
        (t, [seen(around(400 + 100 * t, 300, 40, 100)), seen(around(700 - 100 * t, 420, 60, 140))])
        for t in times(0, 3)
    )
    assert sorted(round(one.seen[-1].box.left) for one in both) == [370, 680]


def test_a_gap_that_is_short_tears_nothing() -> None:
    frames = [(t, [] if 1.0 <= t < 1.4 else [seen(around(400, 300, 40, 100))]) for t in times(0, 3)]
    assert len(tracks(frames)) == 1


def test_who_is_away_for_long_comes_back_as_another() -> None:
    frames = [(t, [] if 1.0 <= t < 1.2 + LOST_S else [seen(around(400, 300, 40, 100))]) for t in times(0, 3)]
    first, second = tracks(frames)
    assert first.last_s < 1 < second.since_s


def test_a_faint_box_goes_on_with_a_track_and_begins_none() -> None:
    faint = seen(around(400, 300, 40, 100), score=START_SCORE - 0.1)
    assert tracks((t, [faint]) for t in times(0, 1)) == []
    (track,) = tracks((t, [faint if t else seen(faint.box)]) for t in times(0, 1))
    assert track.last_s == 1


def test_a_piece_of_an_older_track_is_as_old_as_that_one() -> None:
    """The detector suddenly sees the head apart: nobody has come."""
    body, head = around(400, 300, 80, 200), around(400, 230, 50, 60)
    frames = [(t, [seen(body)] if t < 1 else [seen(body), seen(head)]) for t in times(0, 2)]
    older, piece = tracks(frames)
    assert (older.born_s, piece.born_s, piece.since_s) == (0, 1, 0)


def test_a_track_follows_the_picture_when_the_car_turns() -> None:
    """Everything sweeps by 90 pixels a frame, three times its width: it is the same one nevertheless."""
    sweep = Flow(np.full((20, 48, 2), (90.0, 0.0)), 1600, 660)
    tracker, born = Tracker(), []
    for n in range(10):
        box = around(200 + 90 * n, 300, 30, 70)
        born += tracker.update(n / 10, [seen(box)], sweep if n else None)
    assert [len(one.seen) for one in born] == [10]


def test_a_tracker_keeps_only_what_lives() -> None:
    tracker, born = Tracker(), 0
    for n in range(200):
        born += len(tracker.update(n, [seen(around(100 + n, 300, 40, 100))]))
    assert (born, len(tracker.alive)) == (200, 1)


def test_of_a_track_that_never_ends_the_beginning_is_kept() -> None:
    """A reflection on the bonnet is there all day."""
    (track,) = tracks((t, [seen(around(400, 300, 40, 100))]) for t in times(0, 60))
    assert (track.born_s, track.last_s) == (0, 60)
    assert track.times[-1] == track.sightings()[-1].time == TOLD_S


def test_flow_of_a_box_is_that_of_its_inner_part() -> None:
    field = np.zeros((20, 48, 2))
    field[5:15, 10:20] = (30, -6)  # 330..660 across, 165..495 down
    moved = Flow(field, 1584, 660).moved(around(495, 330, 300, 300))
    assert (moved.left, moved.top) == (345 + 30, 180 - 6)


def test_flow_at_the_border_and_outside_is_that_of_the_border() -> None:
    field = np.zeros((20, 48, 2))
    field[:, -1] = (7, 0)
    assert Flow(field, 1584, 660).moved(around(1700, 700, 20, 20)).left == 1690 + 7


def test_pace_is_that_of_the_last_second() -> None:
    pace = Pace()
    assert pace.after(0.0, None) == 0
    fast, still = (Flow(np.full((2, 2, 2), (by, 0.0)), 1000, 500).moved_on for by in (50.0, 0.0))
    for t in times(0.1, 1):
        last = pace.after(t, fast)
    assert last == pytest.approx(0.5)
    for t in times(1.1, 3):
        last = pace.after(t, still)
    assert last == 0
