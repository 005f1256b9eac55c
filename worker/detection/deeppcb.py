"""DeepPCB's lists: `picture.jpg labels.txt` a line, and what is looked at is the board, not its template."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from worker.boards.deeppcb import TESTED
from worker.boards.defect import TYPES
from worker.detection import labels
from worker.detection.dataset import NO_DATA, DataSet, Fault, Picture, Root, outside, read_text
from worker.errors import ItemError


def read(file: Path, split: str, root: Root) -> DataSet:
    where = root.name(file)
    pictures: list[Picture] = []
    faults: list[Fault] = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        words = line.replace("\0", "?").split()
        if len(words) != 2:
            if words:
                faults.append(Fault("odd-line", split, where, number, f"not two names: {line[:60]!r}"))
            continue
        picture, text = (file.parent / word for word in words)
        tested = picture.with_stem(picture.stem + TESTED)
        if not root.holds_file(tested) or not root.holds_file(text):
            faults.append(outside(split, where, number, line))
        elif not tested.is_file():
            faults.append(Fault("missing-picture", split, where, number, f"there is no {root.name(tested)}"))
        else:
            read = partial(labels.read, text, root.name(text), split, labels.deeppcb, shares=False)
            pictures.append(Picture(split, root.name(tested), tested, read))
    if not pictures and faults:
        raise ItemError(NO_DATA, f"{file.name} is no list of DeepPCB: line {faults[0].line}: {faults[0].why}")
    return DataSet(root.folder, TYPES, pictures, faults)
