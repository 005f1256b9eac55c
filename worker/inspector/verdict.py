"""What a model said of boards beside what is true: DeepPCB's F, COCO's mAP, and the worst of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.boards import reading
from worker.boards.defect import Box, Defect
from worker.engines.reply import UnreadableError
from worker.evaluation import boxes
from worker.evaluation.boxes import Board
from worker.inspector.samples import Sample, document
from worker.items import Json

ANSWERS = "answers.jsonl"
WORST_MOST = 12


@dataclass(frozen=True, slots=True)
class Answered:
    """`found` is what can be read of the answer; `wrong`, why the rest cannot."""

    name: str
    labelled: Sequence[Defect]
    found: Sequence[Defect]
    wrong: Sequence[str]
    said: str

    @property
    def board(self) -> Board:
        return Board(self.name, self.labelled, self.found)

    @property
    def missed(self) -> int:
        """Defects that are not found, and what was found that is none."""
        told = len(self.labelled) + len(self.found)
        return told - round(boxes.rates([self.board]).f1 * told)


def judge(rows: Sequence[Sample], said: Sequence[str]) -> list[Answered]:
    return [_answered(row, text) for row, text in zip(rows, said, strict=True)]


def _answered(row: Sample, said: str) -> Answered:
    try:
        found = reading.read(said, row.where)
    except UnreadableError as error:
        return Answered(row.name, row.defects, (), [str(error)], said)
    return Answered(row.name, row.defects, found.defects, found.wrong, said)


def measured(answers: Sequence[Answered]) -> Mapping[str, float]:
    """`readable`: the share of the answers in which nothing is wrong in form."""
    boards = [one.board for one in answers]
    rates, coco = boxes.rates(boards), boxes.coco(boards)
    return {
        "f1": rates.f1,
        "precision": rates.precision,
        "recall": rates.recall,
        "map50": coco["map50"] or 0.0,
        "map50_95": coco["map50_95"] or 0.0,
        "readable": sum(not one.wrong for one in answers) / len(answers),
    }


def worst(answers: Iterable[Answered]) -> list[Answered]:
    """Those with anything wrong, what errs most first."""
    erring = [(one.missed + bool(one.wrong), one) for one in answers]
    ranked = sorted((pair for pair in erring if pair[0]), key=lambda pair: (-pair[0], pair[1].name))
    return [one for _, one in ranked[:WORST_MOST]]


def written(answers: Iterable[Answered]) -> str:
    return "".join(f"{json.dumps(_line(one), ensure_ascii=False)}\n" for one in answers)


def read(text: str) -> list[Answered]:
    return [
        Answered(one["picture"], _defects(one["labelled"]), _defects(one["found"]), one["wrong"], one["said"])
        for one in map(json.loads, text.splitlines())
    ]


def _line(one: Answered) -> Json:
    return {
        "picture": one.name,
        "labelled": document(one.labelled),
        "found": document(one.found),
        "wrong": list(one.wrong),
        "said": one.said,
    }


def _defects(told: Iterable[Sequence[Json]]) -> list[Defect]:
    return [Defect(kind, Box(*sides)) for kind, *sides in told]
