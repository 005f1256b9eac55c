"""What the outputs of COCO detectors mean. An output's shape tells of which family its model is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from worker.errors import UsageError

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

LABELS = {0: "person", 1: "bicycle", 2: "car", 3: "motorcycle", 5: "bus", 6: "train", 7: "truck"}
"""the classes of road users; all others are passed over"""
CLASSES = 80
_WANTED = np.array(list(LABELS))


@dataclass(frozen=True, slots=True)
class Seen:
    """Boxes as shares of the input's width and height."""

    boxes: Floats
    """n x (left, top, width, height)"""
    scores: Floats
    classes: npt.NDArray[np.intp]


Decode: TypeAlias = Callable[[Floats, float], Seen]
"""a model's output, and the least score → what it saw"""


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    blue_first: bool
    """how it wants its colours"""
    decode: Decode


def family(shape: Sequence[int], width: int, height: int) -> Family:
    """`shape` of the output, for an input so large."""
    match list(shape):
        case [1, channels, rows, columns] if channels == 5 + CLASSES and rows > 1 and columns > 1:
            return Family("FastestDet", True, _fastest)
        case [1, channels, boxes] if channels == 4 + CLASSES and boxes > 0:
            return Family("YOLOv8", False, lambda out, least: _v8(out, least, width, height))
        case [1, boxes, channels] if channels == 5 + CLASSES and boxes > 0:
            return Family("YOLOv5", False, lambda out, least: _v5(out, least, width, height))
    raise UsageError(
        f"a model whose output is {'x'.join(map(str, shape))} is not known: it takes a COCO detector "
        "like FastestDet (1x85xHxW), YOLOv8 (1x84xN) or YOLOv5 (1xNx85)"
    )


def _fastest(output: Floats, least: float) -> Seen:
    """A grid of cells with how sure, where in the cell, how large, and what."""
    rows, columns = output.shape[2:]
    cells = output[0].reshape(5 + CLASSES, -1)
    (maybe,) = np.nonzero(cells[0] ** 0.6 > least)
    cells = cells[:, maybe]
    scores, classes = _best(cells[5:])
    scores = cells[0] ** 0.6 * scores**0.4
    good = (scores > least) & np.isin(classes, _WANTED)
    where, (across, down, width, height) = maybe[good], cells[1:5, good]
    x, y = (np.tanh(across) + where % columns) / columns, (np.tanh(down) + where // columns) / rows
    return _seen(x, y, _sigmoid(width), _sigmoid(height), scores[good], classes[good])


def _v8(output: Floats, least: float, width: int, height: int) -> Seen:
    return _rows(output[0, :4], *_best(output[0, 4:]), least, width, height)


def _v5(output: Floats, least: float, width: int, height: int) -> Seen:
    columns = output[0].T
    scores, classes = _best(columns[5:])
    return _rows(columns[:4], columns[4] * scores, classes, least, width, height)


def _rows(
    boxes: Floats, scores: Floats, classes: npt.NDArray[np.intp], least: float, width: int, height: int
) -> Seen:
    (good,) = np.nonzero((scores > least) & np.isin(classes, _WANTED))
    x, y, w, h = boxes[:, good]
    return _seen(x / width, y / height, w / width, h / height, scores[good], classes[good])


def _best(scores: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    classes = scores.argmax(0)
    return np.take_along_axis(scores, classes[None], 0)[0], classes


def _seen(x: Floats, y: Floats, w: Floats, h: Floats, scores: Floats, classes: npt.NDArray[np.intp]) -> Seen:
    return Seen(np.stack([x - w / 2, y - h / 2, w, h], 1), scores, classes)


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-values))
