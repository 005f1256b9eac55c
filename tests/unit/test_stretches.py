"""What counts as a stretch, from yes and no at a time."""

from __future__ import annotations

from worker.media.stretches import Stretches


def found(min_s: float, holds: str, gap_s: float = 0.5) -> list[tuple[float, float]]:
    stretches = Stretches(min_s)
    for n, sign in enumerate(holds):
        stretches.see(n * gap_s, sign == "x")
    return stretches.end(len(holds) * gap_s)


def test_a_stretch_lasts_until_the_first_frame_after_it() -> None:
    assert found(0.5, "..xxx...") == [(1.0, 2.5)]


def test_a_stretch_shorter_than_asked_is_not_reported() -> None:
    assert found(1.0, "..x..xx..") == [(2.5, 3.5)]


def test_a_stretch_open_at_the_end_lasts_to_the_end() -> None:
    assert found(1.0, "...xx") == [(1.5, 2.5)]


def test_a_stretch_of_just_the_minimum_survives_the_rounding_of_times() -> None:
    stretches = Stretches(2.0)
    stretches.see(0.1, True)
    assert stretches.end(2.1 - 1e-9) == [(0.1, 2.1)]


def test_what_shows_late_counts_from_when_it_began() -> None:
    stretches = Stretches(1.0)
    stretches.see(0.5, True, since=0.0)
    stretches.see(1.0, True, since=0.5)
    stretches.see(1.5, False)
    assert stretches.end(2.0) == [(0.0, 1.5)]


def test_nothing_seen_is_nothing_found() -> None:
    assert Stretches(1.0).end(5.0) == []
