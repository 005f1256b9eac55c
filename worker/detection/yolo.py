"""A data set as YOLO's yaml names it: splits are folders, lists of pictures, or several of both."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path

from worker import signs
from worker.detection import labels
from worker.detection.dataset import (
    NO_DATA,
    TEST,
    TRAIN,
    VAL,
    DataSet,
    Fault,
    Labels,
    Picture,
    Root,
    outside,
    read_text,
)
from worker.errors import ItemError
from worker.items import Json
from worker.media.endings import PICTURES

_KEYS = {TRAIN: TRAIN, VAL: VAL, "validation": VAL, TEST: TEST}
_NO_LABELS = {"classes.txt", "notes.txt", "readme.txt"}
"""texts that tools leave beside labels"""


def read(file: Path, root: Root) -> DataSet:
    told = _told(file)
    classes = _classes(told, file.name)
    base = _base(told, file, root)
    faults: list[Fault] = []
    pictures: list[Picture] = []
    owner: dict[Path, str] = {}
    lists: set[Path] = set()
    for key, split in _KEYS.items():
        for place in _places(told, key, base, file, root):
            lists |= {place} if place.is_file() else set()
            for picture, where, line in _pictures(place, file.name):
                signs.give()
                named = root.name(place) if line else where
                if not root.holds_file(picture):
                    faults.append(outside(split, named, line, root.name(picture)))
                elif line and not picture.is_file():
                    faults.append(Fault("missing-picture", split, named, line, f"there is no {picture.name}"))
                else:
                    text = labels_of(picture)
                    if owner.setdefault(text, picture.name) != picture.name:
                        why = f"{owner[text]} has the same labels: {root.name(text)}"
                        faults.append(Fault("shared-labels", split, root.name(picture), 0, why))
                    else:
                        pictures.append(_picture(split, picture, text, root))
    faults += _orphans(owner, lists, pictures, root)
    return DataSet(root.folder, classes, pictures, faults)


def labels_of(picture: Path) -> Path:
    """…/images/train/a.jpg → …/labels/train/a.txt; beside the picture where no folder is called images."""
    head, middle, tail = str(picture).rpartition("/images/")
    return Path(f"{head}/labels/{tail}" if middle else tail).with_suffix(".txt")


def _told(file: Path) -> Mapping[str, Json]:
    try:
        import yaml
    except ImportError:
        raise ItemError(NO_DATA, f"{file.name} needs a reader of YAML: pip install pyyaml") from None
    try:
        told = yaml.safe_load(read_text(file))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ItemError(NO_DATA, f"{file.name} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(told, dict) or TRAIN not in told:
        raise ItemError(NO_DATA, f"{file.name} is no data set: it says train:, val: and names:")
    return told


def _classes(told: Mapping[str, Json], name: str) -> list[str]:
    names, count = told.get("names"), told.get("nc")
    if names is None and isinstance(count, int):
        return [f"class{number}" for number in range(count)]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise ItemError(NO_DATA, f"{name}: names are not numbered from 0 on without a gap")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ItemError(NO_DATA, f"{name} names no classes: names: [cat, dog], or {{0: cat, 1: dog}}")
    if count not in (None, len(names)):
        raise ItemError(NO_DATA, f"{name}: nc is {count}, and there are {len(names)} names")
    return [str(one) for one in names]


def _base(told: Mapping[str, Json], file: Path, root: Root) -> Path:
    base = root.require(file.parent / str(told.get("path") or "."), file.name)
    if not base.is_dir():
        raise ItemError(NO_DATA, f"{file.name}: path is {base}, which is no folder: it is seen from the file")
    return base


def _places(told: Mapping[str, Json], key: str, base: Path, file: Path, root: Root) -> Iterator[Path]:
    said = told.get(key) or []
    for one in said if isinstance(said, list) else [said]:
        place = base / str(one)
        if not place.exists() and str(one).startswith("../"):  # as ultralytics forgives it
            place = base / str(one)[3:]
        place = Path(os.path.normpath(root.require(place, f"{file.name}, {key}:")))
        if not place.exists():
            raise ItemError(NO_DATA, f"{file.name}: {key} names {place}, and nothing is there")
        yield place


def _pictures(place: Path, named: str) -> Iterator[tuple[Path, str, int]]:
    """Each with the file and the line that names it."""
    if place.is_dir():
        for folder, folders, files in os.walk(place):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            for name in sorted(files):
                if Path(name).suffix.lower() in PICTURES and not name.startswith("."):
                    yield Path(folder, name), named, 0
        return
    for number, line in enumerate(read_text(place).splitlines(), 1):
        if line.strip() and "\0" not in line:
            yield Path(os.path.normpath(place.parent / line.strip())), place.name, number


def _picture(split: str, file: Path, text: Path, root: Root) -> Picture:
    read = partial(_labels, text, root, split)
    return Picture(split, root.name(file), file, read)


def _labels(text: Path, root: Root, split: str) -> Labels | None:
    name = root.name(text)
    if not root.holds_file(text):
        return Labels(name, (), (outside(split, name, 0, name),), shares=True)
    return labels.read(text, name, split, labels.yolo, shares=True)


def _orphans(
    known: Mapping[Path, str], lists: set[Path], pictures: list[Picture], root: Root
) -> Iterator[Fault]:
    """Labels of a picture that is nowhere, not even outside of the splits."""
    beside: defaultdict[Path, dict[Path, str]] = defaultdict(dict)
    for one in pictures:
        beside[labels_of(one.file).parent].setdefault(one.file.parent, one.split)

    @cache
    def stems(folder: Path) -> set[str]:
        return {one.stem for one in folder.iterdir() if one.suffix.lower() in PICTURES}

    for folder in sorted(beside):
        if not folder.is_dir() or not root.holds(folder):
            continue
        for text in sorted(folder.iterdir()):
            if text.suffix != ".txt" or text.name in _NO_LABELS or text in known or text in lists:
                continue
            if not any(text.stem in stems(images) for images in beside[folder]):
                split = next(iter(beside[folder].values()))
                yield Fault("orphan-label", split, root.name(text), 0, "there is no picture of this name")
