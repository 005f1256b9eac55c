"""Scores of boxes, on numbers that were worked out by hand."""

from __future__ import annotations

import pytest

from worker.boards.defect import Box, Defect
from worker.evaluation.boxes import Board, coco, deeppcb, document, told_apart

HERE, THERE = Box(0, 0, 30, 30), Box(100, 100, 130, 130)


def found(kind: str, box: Box, confidence: float) -> Defect:
    return Defect(kind, box, confidence)


def test_a_box_that_shares_more_than_a_third_is_right() -> None:
    third = Box(0, 0, 30, 10)  # an IoU of 0.333…
    less = Box(0, 0, 30, 9)
    assert deeppcb([Board("a", [found("open", HERE, 1)], [found("open", third, 0.9)])]).f1 == 1
    assert deeppcb([Board("a", [found("open", HERE, 1)], [found("open", less, 0.9)])]).f1 == 0


def test_another_type_is_wrong_wherever_it_lies() -> None:
    score = deeppcb([Board("a", [found("open", HERE, 1)], [found("short", HERE, 0.9)])])
    assert (score.precision, score.recall, score.ap) == (0, 0, 0)


def test_a_defect_is_found_once() -> None:
    twice = [found("open", HERE, 0.9), found("open", HERE, 0.8)]
    score = deeppcb([Board("a", [found("open", HERE, 1), found("open", THERE, 1)], twice)])
    assert (score.precision, score.recall, score.f1) == (0.5, 0.5, 0.5)
    assert score.ap == 0.5


def test_ap_is_pooled_over_boards_and_takes_what_is_not_sure() -> None:
    boards = [
        Board("a", [found("open", HERE, 1)], [found("open", HERE, 0.3)]),
        Board("b", [found("spur", HERE, 1)], [found("spur", HERE, 0.9), found("spur", THERE, 0.6)]),
    ]
    score = deeppcb(boards)
    assert score.ap == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert (score.precision, score.recall) == (0.5, 0.5)  # 0.3 is not told


def test_types_are_scored_on_their_own() -> None:
    board = Board("a", [found("open", HERE, 1), found("spur", THERE, 1)], [found("open", HERE, 0.9)])
    types = document([board])["types"]
    assert types["open"]["f1"]["value"] == 1
    assert types["spur"]["f1"]["value"] == 0
    assert types["short"]["ap"]["value"] is None


def test_the_interval_holds_the_figure_and_narrows_with_the_boards() -> None:
    good = Board("a", [found("open", HERE, 1)], [found("open", HERE, 0.9)])
    bad = Board("b", [found("open", HERE, 1)], [found("open", THERE, 0.8)])
    few, many = deeppcb([good, bad] * 3), deeppcb([good, bad] * 60)
    widths = []
    for score in (few, many):
        assert score.f1_interval
        low, high = score.f1_interval
        assert low <= score.f1 <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_coco_is_what_pycocotools_says() -> None:
    """Its own figures for these boxes, noted down: stats[1] and stats[0] of COCOeval."""
    boards = [
        Board(
            "a",
            [found("open", Box(10, 10, 50, 50), 1), found("short", Box(100, 100, 160, 140), 1)],
            [
                found("open", Box(12, 11, 52, 51), 0.9),
                found("open", Box(200, 200, 240, 240), 0.95),
                found("short", Box(100, 105, 150, 140), 0.7),
            ],
        ),
        Board(
            "b",
            [found("open", Box(300, 20, 330, 60), 1), found("open", Box(305, 25, 335, 65), 1)],
            [found("open", Box(303, 22, 332, 62), 0.8), found("open", Box(300, 20, 330, 62), 0.6)],
        ),
    ]
    figures = coco(boards)
    assert figures["map50"] == pytest.approx(0.875, abs=1e-4)
    assert figures["map50_95"] == pytest.approx(0.4704, abs=1e-4)


def test_without_a_box_there_is_nothing_to_score() -> None:
    score = document([Board("a", [], [])])
    assert score["coco"]["map50"] is None
    assert score["deeppcb"]["ap"]["value"] is None


def test_pictures_are_told_apart_with_templates_as_negatives() -> None:
    some = [Defect("open", Box(0, 0, 9, 9), 0.9)]
    boards = [
        Board(str(n), some, some if n < 3 else [Defect("open", Box(0, 0, 9, 9), 0.4)]) for n in range(4)
    ]
    assert told_apart(boards, []) is None
    told = told_apart(boards, [Board(f"t{n}", (), some if n == 0 else ()) for n in range(6)])
    assert told is not None
    assert (told["with_defects"], told["missed"], told["without"], told["false_alarms"]) == (4, 1, 6, 1)
    shares = {name: told[name]["value"] for name in ("precision", "recall", "specificity", "f1")}
    assert shares == {"precision": 0.75, "recall": 0.75, "specificity": 0.8333, "f1": 0.75}
    for name, value in shares.items():
        low, high = told[name]["interval"]
        assert low < value < high
