"""What overlapping crops show twice counts once; a rider and what he rides are one."""

from __future__ import annotations

import pytest

from tests.boxes import around, seen
from worker.ghosts.detection import merge
from worker.ghosts.incident import Box


def test_one_thing_seen_twice_is_one_at_the_mean_place() -> None:
    (one,) = merge([seen(Box(100, 100, 40, 80), score=0.6), seen(Box(104, 100, 40, 80), score=0.3)])
    assert one.score == 0.6
    assert one.box.left == pytest.approx(101.33, abs=0.01)


def test_a_piece_that_a_crop_cut_off_belongs_to_the_whole() -> None:
    whole, piece = seen(Box(100, 100, 200, 100), "car", 0.8), seen(Box(100, 105, 60, 90), "truck", 0.5)
    assert merge([piece, whole]) == [whole]


def test_neighbours_stay_apart() -> None:
    both = [seen(Box(100, 100, 40, 80)), seen(Box(130, 100, 40, 80))]
    assert len(merge(both)) == 2


def test_a_rider_is_one_around_both() -> None:
    (rider,) = merge(
        [seen(around(300, 300, 40, 90), score=0.8), seen(around(300, 340, 60, 60), "motorcycle", 0.5)]
    )
    assert (rider.label, rider.kind, rider.score) == ("rider", "rider", 0.8)
    assert rider.box == Box(270, 255, 60, 115)


def test_who_walks_beside_a_parked_bicycle_rides_none() -> None:
    labels = {
        one.label
        for one in merge([seen(around(300, 300, 40, 90)), seen(around(390, 330, 80, 60), "bicycle")])
    }
    assert labels == {"person", "bicycle"}


def test_a_person_before_a_car_is_not_swallowed_by_it() -> None:
    assert len(merge([seen(around(300, 300, 40, 90)), seen(around(320, 300, 300, 150), "car", 0.9)])) == 2


def test_a_scooter_that_is_taken_for_a_car_as_well_is_one() -> None:
    box = around(300, 300, 80, 90)
    assert len(merge([seen(box, "car", 0.5), seen(around(302, 300, 80, 90), "motorcycle", 0.6)])) == 1
