"""Who comes into the way suddenly is told; who could be seen coming, stands, or only passes, is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.boxes import FPS, SCENE, around, dashing, path, seen
from worker.ghosts import emergence as rules_of
from worker.ghosts.danger import BRAKING_S
from worker.ghosts.emergence import AFTER_S, RULES, Rules, emergence, emergences, hider
from worker.ghosts.incident import Incident

SUDDEN = path(2.0, 3.2, dashing(2.0))


def found(one: object, rules: Rules = RULES["balanced"]) -> Incident | None:
    return emergence(one, SCENE, rules)  # type: ignore[arg-type]


def test_a_rider_who_dashes_in_is_told_with_what_it_rests_on() -> None:
    incident = found(SUDDEN)
    assert incident is not None
    assert (incident.kind, incident.start_s, incident.evidence.side) == ("rider", 2.0, "left")
    assert incident.evidence.first_seen_s == 2.0
    assert incident.evidence.expansion == pytest.approx(1.25, abs=0.01)
    assert incident.evidence.time_to_collision_s == pytest.approx(0.8, abs=0.01)
    assert incident.evidence.confidence == pytest.approx(0.7)
    assert incident.evidence.track[0].box == dashing(2.0)(2.0)
    assert incident.start_s < incident.end_s <= 3.2


def test_the_same_from_the_right_and_from_ahead() -> None:
    def mirrored(at: float):  # type: ignore[no-untyped-def]
        return lambda t: around(at - 120 * (t - 2), 380, 70 * 3.5 ** (t - 2), 110 * 3.5 ** (t - 2))

    sides = [found(path(2.0, 3.2, mirrored(at))) for at in (1100, 860)]
    assert [one.evidence.side for one in sides if one] == ["right", "ahead"]


def test_who_was_in_view_for_long_is_no_ghost() -> None:
    def strolls_then_runs(t: float):  # type: ignore[no-untyped-def]
        return dashing(3.0)(max(t, 3.0))

    assert found(path(1.0, 4.2, strolls_then_runs)) is None
    assert found(path(2.8, 4.2, strolls_then_runs)) is not None


def test_what_is_there_when_the_clip_begins_did_not_emerge() -> None:
    assert found(path(0.0, 1.2, dashing(0.0))) is None


def test_who_comes_in_from_the_border_was_not_hidden() -> None:
    assert found(path(2.0, 3.2, dashing(2.0, left=75))) is None


def test_who_stands_at_the_roadside_stays_as_far_beside_as_he_was() -> None:
    """The car drives by: he grows, and goes outward in step."""

    def stands(t: float):  # type: ignore[no-untyped-def]
        by = 3.5 ** (t - 2)
        return around(800 - 400 * by, 380, 80 * by, 120 * by)

    assert found(path(2.0, 3.2, stands)) is None


def test_who_moves_away_is_no_danger() -> None:
    assert found(path(2.0, 3.2, dashing(2.0, grows=-0.5, size=200))) is None


def test_who_grows_slowly_leaves_time() -> None:
    assert found(path(2.0, 3.2, dashing(2.0, grows=0.2, size=120))) is None


def test_who_walks_past_a_car_that_stands_comes_into_nobodys_way() -> None:
    assert found(replace(SUDDEN, speed=0.0)) is None


def test_a_detector_that_is_not_sure_is_not_believed() -> None:
    assert found(path(2.0, 3.2, dashing(2.0), score=0.48)) is None
    assert found(path(2.0, 3.2, dashing(2.0), score=0.48), RULES["high"]) is not None


def test_what_is_above_the_horizon_is_not_on_the_road() -> None:
    def sign(t: float):  # type: ignore[no-untyped-def]
        box = dashing(2.0)(t)
        return around(box.left + box.width / 2, 60, box.width, box.height)

    assert found(path(2.0, 2.9, sign)) is None


def test_its_evidence_ends_with_it() -> None:
    """He is followed for long; what he did later is no part of it."""
    one = found(path(2.0, 6.0, lambda t: dashing(2.0)(min(t, 3.2))))
    assert one is not None
    assert one.end_s - AFTER_S / 2 < one.evidence.track[-1].time <= one.end_s < 4.5


def test_who_stays_is_looked_at_no_longer_than_he_may_be_in_view(monkeypatch: pytest.MonkeyPatch) -> None:
    stays = path(2.0, 6.0, lambda _: around(500, 380, 70, 110))
    asked: list[int] = []
    monkeypatch.setattr(rules_of, "_in_the_way", lambda _track, at, *_: asked.append(at))
    assert found(stays) is None
    assert len(asked) == FPS * RULES["balanced"].in_view_s // 1 + 1


def test_what_balanced_tells_is_of_high_risk() -> None:
    """As docs/ghost-probing.md says: it asks for a growth that is a collision within a second."""
    assert 1 / RULES["balanced"].growth <= BRAKING_S < 1 / RULES["high"].growth


def test_pieces_of_one_event_are_told_once_by_the_surest() -> None:
    surer = path(2.1, 3.2, dashing(2.0), score=0.9)
    elsewhere = path(2.0, 3.2, lambda t: around(1600 - dashing(2.0)(t).left, 380, 70 * 3.5 ** (t - 2), 110))
    told = emergences([SUDDEN, surer, elsewhere], SCENE, RULES["high"])
    assert [one.evidence.confidence for one in told if one.evidence.side == "left"] == [pytest.approx(0.9)]
    assert len(told) == 2


def test_no_track_is_no_incident() -> None:
    assert emergences([], SCENE, RULES["high"]) == []


def test_it_was_hidden_by_the_larger_vehicle_that_it_touches() -> None:
    child = around(500, 400, 40, 90)
    bus, far = seen(around(400, 350, 220, 260), "bus"), seen(around(900, 350, 220, 260), "truck")
    small = seen(around(530, 400, 20, 20), "car")
    person = seen(around(510, 390, 200, 260), "person")
    assert hider(child, [far, small, person, bus]) == bus
    assert hider(child, [far, small, person]) is None
