"""How a card was used, in little room."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest

from worker.gpus.figures import Figures
from worker.gpus.history import CARD, MOST, History, Trace
from worker.gpus.inventory import Card


def card(busy: float | None = 0.0, power: float | None = None, uuid: str = "a") -> Card:
    figures = Figures(power_w=power)
    return Card("n", 0, uuid, "A100", "nvidia", 80, used_gb=8, busy=busy, figures=figures)


def test_changes_below_the_threshold_are_not_kept_also_when_they_add_up_slowly() -> None:
    history = History(0.05)
    told = [
        bool(history.note(at, [card(busy / 100)])) for at, busy in enumerate((50, 53, 48, 54, 56, 58, 61))
    ]
    assert told == [True, False, False, False, True, False, False]
    assert history.of(["a"], 0)["a"]["gpu_utilization"] == [0.5, 0.56]


def test_power_counts_by_its_own_size() -> None:
    history = History(0.05)
    assert [bool(history.note(at, [card(0, watts)])) for at, watts in enumerate((300, 310, 320, 30, 33))] == [
        *(True, False, True, True, True)
    ]


def test_what_becomes_unknown_is_told_and_is_not_0() -> None:
    history = History(0.05)
    history.note(0, [card(0.5)])
    assert history.note(1, [card(None)])
    assert history.of(["a"], 0)["a"]["gpu_utilization"] == [0.5, None]


def test_a_card_that_tells_nothing_takes_no_room_and_one_that_is_gone_is_forgotten() -> None:
    history = History(0.05)
    history.note(0, [Card("n", 0, "silent", "A100", "nvidia", 80), card()])
    assert set(history.of(["silent", "a"], 0)) == {"a"}
    history.note(1, [])
    assert not history.of(["a"], 0)


def test_a_question_since_a_time_is_answered_with_what_held_then() -> None:
    trace = Trace(("x",))
    for at in (10, 20, 30):
        trace.add(at, (at / 10,))
    assert trace.since(25) == {"at": [20, 30], "x": [2, 3]}
    assert trace.since(0) == {"at": [10, 20, 30], "x": [1, 2, 3]}


def test_the_farther_back_the_coarser_and_the_sum_stays() -> None:
    trace = Trace(("x",), most=40)
    told = [(float(at), float(at // 7 % 3)) for at in range(1000)]
    for at, value in told:
        trace.add(at, (value,))
    columns = trace.since(0)
    times, found = columns["at"], columns["x"]
    assert len(times) <= 40
    assert times[0] == 0
    gaps = [after - before for before, after in pairwise(times)]  # type: ignore[operator]
    assert 300 > gaps[0] > gaps[len(gaps) // 2] > gaps[-1] == 1
    used = sum(value * gap for value, gap in zip(found, gaps, strict=False))  # type: ignore[operator]
    assert used == pytest.approx(sum(value for at, value in told[:-1]), rel=1e-2)


def test_8000_cards_with_full_histories_take_less_than_48_mb() -> None:
    tracemalloc.start()
    traces = [Trace(tuple(CARD)) for _ in range(80)]
    for trace in traces:
        for at in range(3 * MOST):
            trace.add(at, (0.5, 0.5, 60.0, 300.0))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 8000 * MOST * 20 / 2 < taken * 100 < 48e6


def test_of_all_together_too() -> None:
    history = History(0.05)
    history.note_all(5, 0.5, None, None)
    history.note_all(6, 0.52, None, None)
    history.note_all(7, 0.75, 0.3, 0.1)
    assert history.of_all(0) == {
        "at": [5, 7],
        "held": [0.5, 0.75],
        "gpu_utilization": [None, 0.3],
        "gpu_memory_usage": [None, 0.1],
    }
