"""The shape of an output tells the family; each family's numbers become the same kind of boxes."""

from __future__ import annotations

import numpy as np
import pytest

from worker.engines.coco import Floats, family
from worker.errors import UsageError

PERSON, CAR, KITE = 0, 2, 33


def fastest(kind: int, sureness: float) -> Floats:
    """In the cell of row 3, column 5 of 22: a box half as wide and a quarter as high as the picture."""
    output = np.zeros((1, 85, 22, 22), np.float32)
    output[0, :5, 3, 5] = sureness, np.arctanh(0.5), 0, 0, -np.log(3)
    output[0, 5 + kind, 3, 5] = sureness
    return output


def v8(kind: int, sureness: float) -> Floats:
    output = np.zeros((1, 84, 40), np.float32)
    output[0, :4, 7] = 160, 96, 320, 160
    output[0, 4 + kind, 7] = sureness
    return output


def v5(kind: int, sureness: float) -> Floats:
    output = np.zeros((1, 40, 85), np.float32)
    output[0, 7, :5] = 160, 96, 320, 160, np.sqrt(sureness)
    output[0, 7, 5 + kind] = np.sqrt(sureness)
    return output


@pytest.mark.parametrize(
    ("output", "name", "box"),
    [
        (fastest(CAR, 0.5), "FastestDet", (5.5 / 22 - 0.25, 3 / 22 - 0.125, 0.5, 0.25)),
        (v8(CAR, 0.5), "YOLOv8", (0, 0.025, 0.5, 0.25)),
        (v5(CAR, 0.5), "YOLOv5", (0, 0.025, 0.5, 0.25)),
    ],
)
def test_a_box_is_told_in_shares_of_the_picture(output: Floats, name: str, box: tuple[float, ...]) -> None:
    found = family(output.shape, 640, 640)
    seen = found.decode(output, 0.25)
    assert found.name == name
    assert seen.boxes[0] == pytest.approx(box, abs=1e-5)
    assert (seen.scores.tolist(), seen.classes.tolist()) == ([pytest.approx(0.5)], [CAR])


@pytest.mark.parametrize("make", [fastest, v8, v5])
def test_what_is_no_road_user_or_too_faint_is_passed_over(make) -> None:  # type: ignore[no-untyped-def]
    decode = family(make(PERSON, 0.9).shape, 640, 640).decode
    counts = [len(decode(make(*what), 0.25).boxes) for what in ((PERSON, 0.9), (KITE, 0.9), (PERSON, 0.2))]
    assert counts == [1, 0, 0]


@pytest.mark.parametrize("shape", [(1, 1000), (1, 84), (2, 84, 8400), (1, 6, 8400), (1, 91, 22, 22), ()])
def test_an_output_of_no_known_shape_is_refused_in_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="is not known: it takes a COCO detector") as refused:
        family(shape, 640, 640)
    assert "\n" not in str(refused.value)
