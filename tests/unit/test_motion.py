"""The engine motion on drawn scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from tests.scenes import FPS, Draw, box, film, passing, world
from worker.engines.choice import Choice
from worker.engines.motion import Motion
from worker.evaluation.labels import read_labels
from worker.ghosts.clip import look
from worker.ghosts.demo import make
from worker.ghosts.incident import Incident

ZOOM = 0.35
"""a second: a still world is reached in about three"""
PARKED = passing(150, 85, 55, 40, 0.7, seed=2)
APPEARS_S = 1.5


def emerging(side: Literal["left", "right"]) -> Draw:
    """From behind the parked car (or its mirror image) into the car's path, getting larger."""

    def where(time: float) -> tuple[float, float, float, float] | None:
        since = time - APPEARS_S
        if since < 0:
            return None
        size = 30 * np.exp(0.9 * since)
        left = 100 + 60 * since
        return (left if side == "left" else 480 - left - size), 130 - size / 2, size, size

    return box(where, seed=3)


def mirrored(frames: Iterator[tuple[float, Any]]) -> Iterator[tuple[float, Any]]:
    return ((time, np.ascontiguousarray(frame[:, ::-1])) for time, frame in frames)


def find(
    frames: Iterator[tuple[float, Any]], recall: Literal["balanced", "high"] = "balanced"
) -> Sequence[Incident]:
    engine = Motion(Choice("motion"))
    engine.open("cpu")
    return engine.find(frames, recall)


def emergence() -> Iterator[tuple[float, Any]]:
    return film(3.5, world(ZOOM), emerging("left"), PARKED)


def test_who_comes_out_from_behind_a_still_thing_is_found() -> None:
    (one,) = find(emergence())
    evidence = one.evidence
    assert APPEARS_S < one.start_s <= APPEARS_S + 0.6
    assert evidence.side == "left"
    assert evidence.hidden_by is not None
    assert evidence.hidden_by.left < evidence.track[0].box.left
    assert evidence.expansion > 0.2
    assert one.kind == "unknown"
    assert evidence.confidence <= 0.5
    for sighting in evidence.track:
        left = 100 + 60 * (sighting.time - APPEARS_S)
        assert sighting.box.right > left


def test_the_mirrored_scene_has_the_other_side() -> None:
    (one,) = find(mirrored(emergence()))
    assert one.evidence.side == "right"
    assert APPEARS_S < one.start_s <= APPEARS_S + 0.6


def test_the_same_frames_give_the_same_answer() -> None:
    assert find(emergence()) == find(emergence())


@pytest.mark.parametrize("wider", [2, 0.5])
def test_boxes_are_in_pixels_of_the_frames(wider: float) -> None:
    import cv2

    frames = (
        (t, cv2.resize(f, None, fx=wider, fy=wider, interpolation=cv2.INTER_AREA)) for t, f in emergence()
    )
    (one,) = find(frames)
    (plain,) = find(emergence())
    assert one.evidence.track[0].box.left / wider == pytest.approx(plain.evidence.track[0].box.left, abs=16)


ORDINARY: dict[str, list[Draw]] = {
    "a road that comes nearer": [world(ZOOM)],
    "parked cars on both sides": [world(ZOOM), PARKED, passing(330, 80, 110, 80, 0.5, seed=4)],
    "a car ahead that keeps its distance": [world(ZOOM), box(lambda _: (200, 85, 80, 60), seed=5)],
    "a pan": [world(0, pan=60)],
    "a bend": [world(ZOOM, pan=40)],
    "a car that stands": [world(0)],
}


@pytest.mark.parametrize("what", ORDINARY)
def test_ordinary_driving_gives_no_incident(what: str) -> None:
    assert find(film(4, *ORDINARY[what])) == []


def test_a_cut_is_no_incident() -> None:
    after = ((time + 2, 255 - frame) for time, frame in film(2, world(ZOOM, seed=9)))
    assert find(chain(film(2, world(ZOOM)), after)) == []


def test_who_walks_past_a_car_that_stands_is_only_proposed_when_more_is_asked_for() -> None:
    walker = box(lambda time: (60 + 60 * time, 100, 30 + 5 * time, 60), seed=6)
    assert find(film(4, world(0), walker)) == []
    assert find(
        film(4, world(0), box(lambda t: None if t < 1 else (60 + 60 * t, 100, 30, 60), seed=6)), "high"
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_clip_of_hardly_any_frames_gives_nothing(count: int) -> None:
    assert find(film(count / FPS, world(ZOOM))) == []


def test_of_the_drives_of_the_demonstration_the_ghosts_are_found_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path / "demo")
    engine = Motion(Choice("motion"))
    engine.open("cpu")
    for label in read_labels(tmp_path / "demo" / "labels.csv").labels:
        found = look(tmp_path / "demo" / label.clip, engine, key_frames=0).incidents
        assert len(found) == label.positive, label.clip
        assert all(abs(one.start_s - at) <= 2 for one, at in zip(found, label.times, strict=True)), label.clip


def test_a_trail_is_handed_out_while_the_clip_goes_on() -> None:
    """So that no more than the last seconds of it are held."""
    shown = []

    def frames() -> Iterator[tuple[float, Any]]:
        for time, frame in film(9.0, world(ZOOM), emerging("left"), PARKED):
            shown.append(time)
            yield time, frame

    watched = Motion(Choice("motion")).watch(frames())
    assert watched is not None
    first = next(iter(watched.ways))
    assert first.times[0] < 3
    assert shown[-1] < 8
