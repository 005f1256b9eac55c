"""Pictures with their classes: folders by class, CSV files, data sets of Hugging Face on this disk."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from worker.errors import ItemError
from worker.media.endings import PICTURES
from worker.media.picture import opened, rgb
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
    if place.suffix.lower() == ".csv" and place.is_file():
        found = [*_csv(place, root or place.parent)]
    elif _saved(place):
        found = [*_hugging_face(place)]
    elif place.is_dir():
        found = [*_folders(place)]
    else:
        raise ItemError(NO_DATA, f"{place} is no folder by class, no CSV file and no saved data set")
    if not found:
        lie = "a line for each" if place.is_file() else "they lie in a folder for each class"
        raise ItemError(NO_DATA, f"{place} has no pictures: {lie}")
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
    if twice := [name for name, times in Counter(classes).items() if times > 1]:
        raise ItemError(NO_DATA, f"model.classes names {twice[0]} twice")
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

    return np.asarray(rgb(picture).resize((side, side), Image.Resampling.BICUBIC))


def _folders(place: Path) -> Iterator[Labelled]:
    for folder in sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith(".")):
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in PICTURES:
                name = file.relative_to(place).as_posix()
                yield Labelled(_text(name), _text(folder.name), partial(opened, file))


def _text(name: str) -> str:
    """A name on a disk may have bytes that are no text, and could not be written down."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _csv(place: Path, root: Path) -> Iterator[Labelled]:
    whole = root.resolve()
    with place.open(encoding="utf-8-sig", newline="") as lines:
        table = csv.DictReader(lines, strict=True)
        try:
            names = table.fieldnames or ()
            file = next((one for one in _FILES if one in names), None)
            label = next((one for one in _LABELS if one in names), None)
            if file is None or label is None:
                raise ItemError(
                    NO_DATA,
                    f"{place} needs a column {' or '.join(_FILES)}, and one {' or '.join(_LABELS)}, "
                    "named in its first line, with commas between",
                )
            for row in table:
                name, said = (row[file] or "").strip(), (row[label] or "").strip()
                wrong = "too-many-commas" if None in row else _wrong(root / name, whole, name, said)
                yield Labelled(name or f"line {table.line_num}", said, partial(opened, root / name), wrong)
        except UnicodeDecodeError:
            raise ItemError(NO_DATA, f"{place} is not written in UTF-8: save it as CSV UTF-8") from None
        except csv.Error as error:
            raise ItemError(NO_DATA, f"{place}, line {table.line_num}: {error}") from None


def _wrong(path: Path, root: Path, name: str, label: str) -> str:
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
    try:
        loaded: Any = datasets.load_from_disk(str(place))
    except Exception as error:  # on bad bytes its reader raises nearly anything
        why = " ".join(str(error).split())
        raise ItemError(NO_DATA, f"{place} is no whole data set of Hugging Face: {why}") from None
    if not isinstance(loaded, datasets.Dataset):
        raise ItemError(NO_DATA, f"{place} has several parts ({', '.join(loaded)}): name the folder of one")
    label = next((one for one in _LABELS if one in loaded.features), None)
    if "image" not in loaded.features or label is None:
        raise ItemError(NO_DATA, f"{place} needs the columns image and label")
    names = getattr(loaded.features[label], "names", None)
    for at, value in enumerate(loaded[label]):
        said = _said(value, names)
        yield Labelled(str(at), said, partial(_row, loaded, at), "" if said else "no-class")


def _said(value: Any, names: Sequence[str] | None) -> str:
    """-1 is how the library says that nobody knows the class."""
    if value is None or (names and not 0 <= value < len(names)):
        return ""
    return names[value] if names else str(value)


def _row(loaded: Any, at: int) -> Image.Image:
    picture: Image.Image = loaded[at]["image"]
    return picture
