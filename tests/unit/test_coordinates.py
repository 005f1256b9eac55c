"""Boxes between pixels of the original, the resized picture and what a model writes; and as boards turn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny_models
from worker.boards import demo
from worker.boards.coordinates import FAMILIES, RESIZING, Coordinates, Family, scaled
from worker.boards.defect import Box
from worker.boards.turn import TURNS, Turn
from worker.engines.resizing import Resizing

SIDES = st.integers(8, 3000)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Box, int, int]:
    """In a picture of that size, that no model would refuse."""
    width = draw(SIDES)
    height = draw(st.integers(max(8, width // 100), min(3000, width * 100)))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    return Box(left, top, right, bottom), width, height


def sides(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


@given(boxes(), st.sampled_from(FAMILIES))
def test_a_box_comes_back_from_what_a_model_writes(drawn: tuple[Box, int, int], family: Family) -> None:
    box, width, height = drawn
    where = Coordinates(family, width, height)
    written = where.written(box)
    assert 0 <= written[0] < written[2] <= where.size[0]
    assert 0 <= written[1] < written[3] <= where.size[1]
    back = where.read(written)
    # half a unit of what it was counted in; a whole one where a box would have become empty
    units = (width / where.size[0], height / where.size[1]) * 2
    for one, other, unit in zip(sides(back), sides(box), units, strict=True):
        assert abs(one - other) <= unit + 1e-6
    assert where.written(back) == written


@given(boxes())
def test_pixels_of_the_resized_picture_and_back(drawn: tuple[Box, int, int]) -> None:
    box, width, height = drawn
    where = Coordinates("qwen3-vl", width, height)
    resized = scaled(box, (width, height), where.resized)
    assert sides(scaled(resized, where.resized, (width, height))) == pytest.approx(sides(box), abs=1e-6)
    thousandths = scaled(resized, where.resized, where.size)
    assert sides(where.read([round(one) for one in sides(thousandths)])) == pytest.approx(
        sides(box), abs=max(width, height) / 1000
    )


def test_each_family_counts_in_its_own_units() -> None:
    assert Coordinates("qwen3-vl", 640, 640).written(Box(0, 64, 320, 640)) == [0, 100, 500, 1000]
    assert Coordinates("qwen3-vl", 650, 640).resized == (640, 640)
    assert Coordinates("qwen2.5-vl", 640, 640).size == (644, 644)
    small = Coordinates("qwen2.5-vl", 640, 480, Resizing(28, 3136, 100_000))
    assert small.size == small.resized == (364, 252)
    assert small.written(Box(0, 0, 640, 480)) == [0, 0, 364, 252]


def test_pictures_are_resized_as_the_processors_do() -> None:
    """By the function that both families' processors call."""
    pytest.importorskip("transformers")
    tiny_models.mend_torchvision()
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    chance = np.random.default_rng(0)
    for resizing in (*RESIZING.values(), Resizing(28, 3136, 1_003_520), Resizing(32, 3136, 100_000)):
        named = {"min_pixels": resizing.least, "max_pixels": resizing.most}
        for wide, high in [(640, 640), (1, 1), (14, 42), *chance.integers(1, 6000, (2000, 2)).tolist()]:
            if max(wide, high) > 200 * min(wide, high):
                with pytest.raises(ValueError, match="too long and thin"):
                    resizing.of(wide, high)
            else:
                assert resizing.of(wide, high) == smart_resize(high, wide, resizing.factor, **named)[::-1]


@given(boxes(), st.integers(0, 3), st.booleans())
def test_four_quarter_turns_or_two_flips_change_nothing(
    drawn: tuple[Box, int, int], quarters: int, flipped: bool
) -> None:
    box, width, height = drawn
    assert TURNS[0].box(box, width, height) == box
    moved, size = Turn(quarters, flipped).box(box, width, height), (width, height)
    assert moved.area == box.area
    size = Turn(quarters, flipped).size(*size)
    assert moved.left >= 0 <= moved.top
    assert (moved.right <= size[0], moved.bottom <= size[1]) == (True, True)
    for _ in range(4):
        moved, size = Turn(1).box(moved, *size), Turn(1).size(*size)
    moved, size = Turn(-quarters).box(moved, *size), Turn(-quarters).size(*size)
    assert (Turn(0, flipped).box(moved, *size), size) == (box, (width, height))


@pytest.mark.parametrize("turn", TURNS)
def test_what_was_labelled_lies_in_the_box_that_moved_with_it(turn: Turn) -> None:
    template, tested, defects = demo.board(3)
    height, width = 600, 640
    tested = tested[:height]
    moved = turn.picture(tested)
    assert moved.shape[::-1] == turn.size(width, height)
    for one in defects:
        if one.box.bottom <= height:
            there, was = turn.defect(one, width, height), one
            assert there.type == was.type
            seen, before = (
                picture[int(box.top) : int(box.bottom), int(box.left) : int(box.right)]
                for picture, box in ((moved, there.box), (tested, was.box))
            )
            assert np.array_equal(turn.picture(before), seen)
    assert template.any()
