"""Chat samples about boards, as pcb-convert writes them: pictures, a question, and what is to be answered."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np

from worker.boards import asking, prompt, reading
from worker.boards.coordinates import FAMILIES, Coordinates, Family
from worker.boards.defect import Defect, Lang
from worker.boards.turn import TURNS, Turn
from worker.engines.qwen_sight import NAMES, Sight
from worker.engines.reply import UnreadableError
from worker.errors import ItemError
from worker.items import Json
from worker.media.rgb import Rgb
from worker.training.settings import WRONG


@dataclass(frozen=True, slots=True)
class Sample:
    prompt: str
    """behind its pictures"""
    answer: str
    files: Sequence[Path]
    """its pictures, the last of which is the board"""
    name: str
    """of that one, below the folder of all"""
    where: Coordinates
    """of that one"""
    defects: Sequence[Defect]
    """which the answer tells"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample as it goes to the model."""

    prompt: str
    frames: Sequence[Rgb]
    answer: str


def read(file: Path, root: Path, sight: Sight) -> list[Sample]:
    """`root`: of the pictures, none of which may lie elsewhere. `sight`: of the model that will learn."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise ItemError(WRONG, f"{file} cannot be read: {error}; pcb-convert writes such files") from None
    found = [
        _sample(f"{file.name}, line {number}", line, root.resolve(), sight)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not found:
        raise ItemError(WRONG, f"{file} has no samples: with pcb-convert another held_out gives some")
    return found


def _sample(where: str, line: str, root: Path, sight: Sight) -> Sample:
    family = cast(Family, NAMES[sight.family])
    try:
        asked, answered = json.loads(line)["messages"]
        if (asked["role"], answered["role"]) != ("user", "assistant"):
            raise ValueError("it needs a question of the user and an answer of the assistant")
        *pictures, words = asked["content"]
        names = [str(one["image"]) for one in pictures if one["type"] == "image"]
        asking_for, answer = words["text"], answered["content"]
        if not names or len(names) != len(pictures) or not isinstance(answer, str):
            raise ValueError("a question is pictures and then a text, and its answer a text")
        files = [(root / name).resolve() for name in names]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ItemError(WRONG, f"{where} is no chat sample of pcb-convert ({why})") from None
    _require_question(where, asking_for, family, pair=len(names) > 1)
    if outside := [name for name, one in zip(names, files, strict=True) if not one.is_relative_to(root)]:
        raise ItemError(WRONG, f"{where} names {outside[0]}, which is not below {root}")
    *_, size = sizes = [_size(where, one) for one in files]
    if len(set(sizes)) > 1:
        raise ItemError(WRONG, f"{where}: {names[0]} and {names[-1]} have different sizes")
    usual, own = Coordinates(family, *size), Coordinates(family, *size, sight.resizing)
    try:  # what is too long and thin for a model has no size
        is_usual = own.resized == usual.resized or own.size == usual.size
    except ValueError as error:
        raise ItemError(WRONG, f"{where}, {names[-1]}: {error}") from None
    defects = _defects(where, answer, usual)
    if not is_usual:
        answer = prompt.answer(defects, own)
    return Sample(asking_for, answer, files, names[-1], own, defects)


def _require_question(where: str, asked: str, family: Family, *, pair: bool) -> None:
    """To the letter what inspection asks. Each family is asked in words of its own."""
    of = {one: [prompt.ask(lang, one, pair=pair) for lang in get_args(Lang)] for one in FAMILIES}
    if asked in of[family]:
        return
    if other := next((one for one in FAMILIES if asked in of[one]), None):
        raise ItemError(
            WRONG, f"{where} is for {other}, and the model is {family}: convert with --set family={family}"
        )
    raise ItemError(WRONG, f"{where} asks what inspection would not ask: convert again, by pcb-convert")


def _size(where: str, file: Path) -> tuple[int, int]:
    """Of a picture that can be read to its end: none stops a training in the middle."""
    if not file.is_file():
        raise ItemError(
            WRONG, f"{where}: {file} is not there; data.pictures is the folder that such names begin in"
        )
    try:
        return asking.opened(file).size
    except ItemError as error:
        raise ItemError(error.kind, f"{where}: {error.message}") from None


def _defects(where: str, answer: str, coordinates: Coordinates) -> Sequence[Defect]:
    try:
        said = reading.read(answer, coordinates)
    except UnreadableError as error:
        raise ItemError(WRONG, f"{where}: its answer cannot be read: {error}") from None
    if said.wrong:
        raise ItemError(WRONG, f"{where}: of its answer {said.wrong[0]}")
    return said.defects


class Samples:
    """A data set as torch's loader wants it."""

    def __init__(self, rows: Sequence[Sample], turned: int | None = None) -> None:
        """`turned`: the seed of how boards are flipped and turned; None: they are shown as they are."""
        self.rows = rows
        self._turned = turned
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Each time through they are turned otherwise, whoever goes on with it."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: int) -> Shown:
        row = self.rows[at]
        if self._turned is None:
            return shown(row)
        return shown(row, random.Random(f"{self._turned} {self._epoch} {at}").choice(TURNS))


def shown(row: Sample, turn: Turn = TURNS[0]) -> Shown:
    frames = [_frame(file, row.where, turn) for file in row.files]
    if turn == TURNS[0]:
        return Shown(row.prompt, frames, row.answer)
    size = row.where.width, row.where.height
    turned = (turn.defect(one, *size) for one in row.defects)
    where = Coordinates(row.where.family, *turn.size(*size), row.where.resizing)
    return Shown(row.prompt, frames, prompt.answer(turned, where))


def _frame(file: Path, where: Coordinates, turn: Turn) -> Rgb:
    """As inspection shows it."""
    picture = asking.opened(file)
    size = Coordinates(where.family, *picture.size, where.resizing).resized
    return turn.picture(np.array(asking.resized(picture, size)))


def document(defects: Sequence[Defect]) -> list[Json]:
    return [[one.type, one.box.left, one.box.top, one.box.right, one.box.bottom] for one in defects]
