"""Which form a data set has, and that it is read as such."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from worker.detection import coco, deeppcb, yolo
from worker.detection.dataset import NO_DATA, TRAIN, VAL, DataSet, Root, writable
from worker.errors import ItemError


def read(file: Path, root: str = "", images: str = "", val: str = "", val_images: str = "") -> DataSet:
    """All but `file` is seen from its folder. `val`: another file of the same form, to measure by."""
    folder = file.resolve().parent
    file = folder / file.name
    kept = Root(folder / root)
    kept.require(file, "the item")
    if file.suffix.lower() in (".yaml", ".yml"):
        if images or val or val_images:
            raise ItemError(NO_DATA, f"{file.name} names its pictures itself: leave out images=, val=")
        found = yolo.read(file, kept)
    else:
        parts = [_part(file, folder / images, TRAIN, kept)]
        if val:
            other = kept.require(folder / val, "val=")
            beside = folder / val_images if val_images else other.parent
            parts.append(_part(other, beside, VAL, kept))
            if list(parts[0].classes) != list(parts[1].classes):
                raise ItemError(NO_DATA, f"{file.name} and {other.name} name different classes")
        found = DataSet(
            kept.folder,
            parts[0].classes,
            [one for part in parts for one in part.pictures],
            [one for part in parts for one in part.faults],
        )
    found = replace(found, classes=[writable(name) for name in found.classes])
    if twice := [name for name, times in Counter(found.classes).items() if times > 1]:
        raise ItemError(NO_DATA, f"{file.name} names the class {twice[0]} twice")
    if not found.pictures:
        first = f", the first: {found.faults[0].why}" if found.faults else ""
        raise ItemError(NO_DATA, f"{file.name} names no picture that is there{first}")
    return found


def _part(file: Path, images: Path, split: str, root: Root) -> DataSet:
    if file.suffix.lower() == ".json":
        return coco.read(file, root.require(images, "images="), split, root)
    return deeppcb.read(file, split, root)
