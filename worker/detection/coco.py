"""A data set as COCO's JSON has it: pictures, and annotations that name them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from worker import signs
from worker.detection.dataset import NO_DATA, Box, DataSet, Fault, Labels, Picture, Root, outside
from worker.errors import ItemError
from worker.items import Json

_PARTS = ("images", "annotations", "categories")


def read(file: Path, images: Path, split: str, root: Root) -> DataSet:
    """`images`: the folder that its file names are seen from."""
    told = _told(file)
    where = root.name(file)
    numbers, classes = _classes(told["categories"], file.name)
    pictures: list[Picture] = []
    faults: list[Fault] = []
    boxes: defaultdict[Any, list[Box]] = defaultdict(list)
    odd: list[Fault] = []
    known = {one["id"] for one in told["images"]}
    if len(known) < len(told["images"]):
        raise ItemError(NO_DATA, f"{file.name}: two of its images have one id")
    for annotation in told["annotations"]:
        _take(annotation, numbers, known, boxes, odd, (split, where))
    for one in told["images"]:
        signs.give()
        name = str(one["file_name"])
        picture = images / name
        if "\0" in name or not root.holds_file(picture):
            faults.append(outside(split, where, 0, name))
        elif not picture.is_file():
            faults.append(Fault("missing-picture", split, where, 0, f"there is no {root.name(picture)}"))
        else:
            size = (one["width"], one["height"]) if one.get("width") and one.get("height") else None
            labels = Labels(where, tuple(boxes.pop(one["id"], ())))
            pictures.append(Picture(split, root.name(picture), picture, partial(_given, labels), size))
    return DataSet(root.folder, classes, pictures, faults + odd)


def _given(labels: Labels) -> Labels:
    return labels


def _told(file: Path) -> Mapping[str, Json]:
    try:
        told = json.loads(file.read_bytes(), object_pairs_hook=_slim)
    except (OSError, ValueError, RecursionError) as error:
        raise ItemError(NO_DATA, f"{file.name} cannot be read: {error}") from None
    if not isinstance(told, dict) or not all(isinstance(told.get(part), list) for part in _PARTS):
        raise ItemError(NO_DATA, f"{file.name} is no data set of COCO: it has {', '.join(_PARTS)}")
    for one in told["images"]:
        if not isinstance(one, dict) or not {"id", "file_name"} <= one.keys() or not _plain(one["id"]):
            raise ItemError(NO_DATA, f"{file.name}: an image without id or file_name: {str(one)[:80]}")
    return told


def _slim(pairs: list[tuple[str, Json]]) -> Json:
    """Outlines are dropped as they are read: they are most of such a file, and not needed."""
    return {key: value for key, value in pairs if key != "segmentation"}


def _plain(id: Json) -> bool:
    return isinstance(id, int | str)


def _classes(categories: Json, name: str) -> tuple[dict[Any, int], list[str]]:
    """What a category's number is here, and the names in the order of their numbers."""
    try:
        ordered = sorted(categories, key=lambda one: one["id"])
        numbers = {one["id"]: at for at, one in enumerate(ordered)}
        names = [str(one["name"]) for one in ordered]
    except (TypeError, KeyError):
        raise ItemError(NO_DATA, f"{name}: a category without id or name") from None
    if not names or len(numbers) < len(names):
        raise ItemError(NO_DATA, f"{name}: it has no categories, or two with one id")
    return numbers, names


def _take(
    annotation: Json,
    numbers: Mapping[Any, int],
    known: set[Any],
    boxes: defaultdict[Any, list[Box]],
    odd: list[Fault],
    where: tuple[str, str],
) -> None:
    """Into `boxes`, or into `odd`."""
    split, file = where
    if not isinstance(annotation, dict):
        odd.append(Fault("odd-line", split, file, 0, f"no annotation: {str(annotation)[:60]}"))
        return
    id = annotation.get("id")
    line = id if isinstance(id, int) else 0
    image = annotation.get("image_id")
    if not _plain(image) or image not in known:
        odd.append(Fault("orphan-label", split, file, line, f"no image has the id {str(image)[:40]}"))
    elif annotation.get("iscrowd"):
        odd.append(Fault("crowd", split, file, line, "a box about several at once"))
    elif (box := _four(annotation.get("bbox"))) is None:
        odd.append(
            Fault(
                "odd-line",
                split,
                file,
                line,
                f"its bbox is not four numbers: {str(annotation.get('bbox'))[:60]}",
            )
        )
    else:
        category = annotation.get("category_id")
        kind = numbers.get(category, -1) if _plain(category) else -1
        left, top, wide, high = box
        boxes[image].append(Box(kind, left, top, left + wide, top + high, line))


def _four(said: Json) -> list[float] | None:
    if not isinstance(said, list):
        return None
    try:
        sides = [float(side) for side in said]
    except (TypeError, ValueError, OverflowError):
        return None
    return sides if len(sides) == 4 and all(map(math.isfinite, sides)) else None
