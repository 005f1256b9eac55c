"""Makes the baseline's weights from DeepPCB's boards: `python -m worker.boards.learning FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import click
import numpy as np

from worker.boards.baseline import WEIGHTS, Measured, judge, measure, sides
from worker.boards.copper import Floats, Mask
from worker.boards.copper import read as read_copper
from worker.boards.deeppcb import Pair, read
from worker.boards.defect import TYPES, Box, Defect
from worker.boards.differences import Difference
from worker.boards.network import Network, fit, save
from worker.evaluation.boxes import Board, document

NETWORKS = 3
_EXPECTED = 9
"""pixels that a labelled box reaches beyond its difference, on each side"""
_SAME, _PIECE = 0.33, 0.1
"""a difference is a labelled one from here; the nearest one of a label already from there"""


@dataclass(frozen=True, slots=True)
class Lesson:
    board: Measured
    kinds: Floats
    sides: Floats


def lesson(pair: Pair) -> Lesson:
    return compared(read_copper(pair.template), read_copper(pair.tested), pair.defects)


def compared(template: Mask, tested: Mask, labelled: Sequence[Defect]) -> Lesson:
    board = measure(template, tested)
    found = board.differences
    kinds = np.zeros(len(found), int)
    learnt = np.zeros((len(found), 4), np.float32)
    overlaps = np.array([[_expected(one).iou(each.box) for each in labelled] for one in found])
    for n, one in enumerate(found):
        if not labelled:
            break
        nearest = int(overlaps[n].argmax())
        best = n == int(overlaps[:, nearest].argmax())
        if overlaps[n, nearest] > (_PIECE if best else _SAME):
            kinds[n] = TYPES.index(labelled[nearest].type) + 1
            learnt[n] = sides(one, labelled[nearest].box)
    return Lesson(board, kinds, learnt)


def learn(lessons: Sequence[Lesson]) -> list[Network]:
    traits, kinds, learnt = (
        np.concatenate(values)
        for values in zip(*((one.board.traits, one.kinds, one.sides) for one in lessons), strict=True)
    )
    return [fit(traits, kinds, learnt, len(TYPES) + 1, seed=seed) for seed in range(NETWORKS)]


def _expected(one: Difference) -> Box:
    return Box(one.left - _EXPECTED, one.top - _EXPECTED, one.right + _EXPECTED, one.bottom + _EXPECTED)


def held_out(pairs: Sequence[Pair], lessons: Sequence[Lesson]) -> list[Board]:
    """Every board, as inspected by networks that saw none of its group."""
    boards: list[Board] = []
    for group in sorted({pair.group for pair in pairs}):
        networks = learn([one for pair, one in zip(pairs, lessons, strict=True) if pair.group != group])
        boards += [
            Board(pair.tested.name, pair.defects, judge(one.board, networks))
            for pair, one in zip(pairs, lessons, strict=True)
            if pair.group == group
        ]
    return boards


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=WEIGHTS, help="where the weights go")
@click.option("--check", is_flag=True, help="hold each group out in turn, print the figures, write nothing")
def main(folder: Path, out: Path, check: bool) -> None:
    """Learn from FOLDER, DeepPCB's PCBData."""
    pairs, odd = read(folder)
    click.echo(f"{len(pairs)} boards, {len(odd)} odd lines", err=True)
    with Pool() as processes:
        lessons = processes.map(lesson, pairs, chunksize=8)
    if check:
        click.echo(json.dumps(document(held_out(pairs, lessons)), indent=2))
    else:
        save(out, learn(lessons))


if __name__ == "__main__":
    main()
