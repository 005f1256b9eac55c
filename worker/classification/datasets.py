"""Pictures with their classes: folders by class, CSV files, data sets of Hugging Face on this disk."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from worker.errors import ItemError
from worker.media.endings import PICTURES
from worker.media.picture import opened
from worker.media.rgb import Rgb

NO_DATA = "no-data"
_FILES, _LABELS = ("file", "path", "image", "filename"), ("label", "class")
_MARKS = ("dataset_dict.json", "state.json")
"""of a data set that was saved to disk"""


@dataclass(frozen=True, slots=True)
class Labelled:
    """`name`: for people."""

    name: str
    label: str
    open: Callable[[], Image.Image]
    wrong: str = ""
    """it is of no use, and why"""


def read(place: Path, root: Path | None = None) -> list[Labelled]:
    """In an order that depends on nothing but their names. `root`: of the files that a CSV names."""
    if place.suffix == ".csv" and place.is_file():
        found = [*_csv(place, root or place.parent)]
    elif _saved(place):
        found = [*_hugging_face(place)]
    elif place.is_dir():
        found = [*_folders(place)]
    else:
        raise ItemError(NO_DATA, f"{place} is no folder by class, no CSV file and no saved data set")
    if not found:
        raise ItemError(NO_DATA, f"{place} has no pictures: they lie in a folder for each class")
    return found


def classes_of(rows: Mapping[str, Sequence[Labelled]], given: Sequence[str], count: int | None) -> list[str]:
    """Their names, in the order that the model's head has them."""
    counts = Counter(one.label for some in rows.values() for one in some if not one.wrong)
    classes = list(given) or sorted(counts)
    if count not in (None, len(classes)):
        few = ", ".join(name for name, _ in counts.most_common()[:-4:-1])
        raise ItemError(
            NO_DATA, f"num_labels is {count}, and there are {len(classes)} classes; the rarest are {few}"
        )
    if len(classes) < 2:
        raise ItemError(NO_DATA, "there is one class alone: nothing can be told apart")
    return classes


class Pictures:
    """A data set as torch's loader wants it."""

    def __init__(self, rows: Sequence[Labelled], classes: Sequence[str], side: int) -> None:
        self.rows = rows
        self.classes = classes
        self._numbers = {name: number for number, name in enumerate(classes)}
        self._side = side

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> tuple[Rgb, int]:
        row = self.rows[at]
        with row.open() as picture:
            return squared(picture, self._side), self._numbers[row.label]


def squared(picture: Image.Image, side: int) -> Rgb:
    import numpy as np

    return np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def _folders(place: Path) -> Iterator[Labelled]:
    for folder in sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith(".")):
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in PICTURES:
                yield Labelled(file.relative_to(place).as_posix(), folder.name, partial(opened, file))


def _csv(place: Path, root: Path) -> Iterator[Labelled]:
    with place.open(encoding="utf-8-sig", newline="") as lines:
        table = csv.DictReader(lines)
        names = table.fieldnames or ()
        file = next((one for one in _FILES if one in names), None)
        label = next((one for one in _LABELS if one in names), None)
        if file is None or label is None:
            raise ItemError(
                NO_DATA, f"{place} needs a column {' or '.join(_FILES)}, and one {' or '.join(_LABELS)}"
            )
        whole = root.resolve()
        for number, row in enumerate(table, 2):
            name, said = row[file] or f"line {number}", row[label] or ""
            yield Labelled(
                name, said, partial(opened, root / name), _wrong(root / name, whole, row[file], said)
            )


def _wrong(path: Path, root: Path, name: str | None, label: str) -> str:
    if not name or not label:
        return "no-class" if name else "no-name"
    try:
        return "" if path.resolve().is_relative_to(root) else "outside-root"
    except (RuntimeError, ValueError):  # links in a circle, a byte that no name has
        return "unreadable"


def _saved(place: Path) -> bool:
    return any((place / mark).is_file() for mark in _MARKS) or (
        place.name in ("train", "test") and (place.parent / _MARKS[0]).is_file()
    )


def _hugging_face(place: Path) -> Iterator[Labelled]:
    try:
        import datasets
    except ImportError:
        raise ItemError(NO_DATA, f"{place} is a data set of Hugging Face: pip install datasets") from None
    loaded: Any = datasets.load_from_disk(str(place))
    if not isinstance(loaded, datasets.Dataset):
        raise ItemError(NO_DATA, f"{place} has several parts ({', '.join(loaded)}): name the folder of one")
    label = next((one for one in _LABELS if one in loaded.features), None)
    if "image" not in loaded.features or label is None:
        raise ItemError(NO_DATA, f"{place} needs the columns image and label")
    names = getattr(loaded.features[label], "names", None)
    for at, value in enumerate(loaded[label]):
        yield Labelled(str(at), names[value] if names else str(value), partial(_row, loaded, at))


def _row(loaded: Any, at: int) -> Image.Image:
    picture: Image.Image = loaded[at]["image"]
    return picture
