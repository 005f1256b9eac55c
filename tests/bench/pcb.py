"""How well the embedded baseline finds DeepPCB's defects, each group of boards held out in turn; how fast.

The boards are not part of the project: their folder is told by --data or WORKER_TEST_DATA."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pool
from pathlib import Path

from tests.bench.table import Figure, not_here, show
from worker.boards import prompt
from worker.boards.baseline import inspect
from worker.boards.coordinates import Coordinates
from worker.boards.copper import read as read_copper
from worker.boards.copper import smoothed
from worker.boards.deeppcb import Pair, read
from worker.boards.defect import TYPES
from worker.boards.demo import SIDE
from worker.boards.learning import Lesson, compared, held_out, lesson
from worker.evaluation.boxes import Score, coco, deeppcb
from worker.evaluation.counts import Interval

CORES = 2
_EACH = 5
"""one board of so many is timed"""
_REACH = 6
"""pixels: of 4 to 7, what did best on every tenth board"""


def figures(folder: Path) -> Iterator[Figure]:
    pairs, _ = read(folder)
    yield Figure(*speed(pairs[::_EACH]), "62")
    with Pool(CORES) as processes:
        lessons = processes.map(lesson, pairs, chunksize=8)
    boards = held_out(pairs, lessons)
    score, beside = deeppcb(boards), coco(boards)
    held = f"{len({pair.group for pair in pairs})} groups held out in turn, {score.labelled} defects"
    yield Figure(f"F, {held}", told(score.f1, score.f1_interval), "98.2 %")
    yield Figure("precision and recall", f"{score.precision:.1%}, {score.recall:.1%}")
    yield Figure("AP, pooled", told(score.ap, score.ap_interval), "98.6 %")
    yield Figure("COCO mAP 50, and 50-95", f"{beside['map50']:.1%}, {beside['map50_95']:.1%}")
    with Pool(CORES) as processes:
        alone = held_out(pairs, processes.map(without_template, pairs, chunksize=8))
    score = deeppcb(alone)
    yield Figure(
        "without templates, each board beside itself smoothed: F, precision, recall",
        f"{told(score.f1, score.f1_interval)}, {score.precision:.1%}, {score.recall:.1%}",
    )
    yield Figure("without templates: AP, pooled", told(score.ap, score.ap_interval))
    yield Figure(
        "without templates: F of each type",
        ", ".join(f"{kind} {deeppcb(alone, kind).f1:.0%}" for kind in TYPES),
    )
    yield Figure("least tokens a box: ours, with keys, as Qwen's examples have it", tokens(pairs))
    for group in sorted({pair.group for pair in pairs}):
        names = {pair.tested.name for pair in pairs if pair.group == group}
        yield Figure(
            f"F and AP, group {group} ({len(names)} boards)",
            both(deeppcb([b for b in boards if b.name in names])),
        )


def without_template(pair: Pair) -> Lesson:
    """A board's own copper, smoothed, is all that says what it should be; networks learn from that anew."""
    tested = read_copper(pair.tested)
    return compared(smoothed(tested, _REACH), tested, pair.defects)


def tokens(pairs: Sequence[Pair]) -> str:
    """What Qwen's tokenizer cuts an answer into before it merges anything: each digit is one."""
    try:
        from tokenizers import Regex, pre_tokenizers
        from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
    except ImportError as error:
        return not_here(f"needs {error.name}")
    cut = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    where = Coordinates("qwen3-vl", SIDE, SIDE)
    forms: list[list[str]] = [[], [], []]
    for pair in pairs:
        boxes = [(one.type, where.written(one.box)) for one in pair.defects]
        forms[0].append(prompt.answer(pair.defects, where))
        forms[1].append(json.dumps([{"type": k, "box": b} for k, b in boxes], separators=(",", ":")))
        forms[2].append(json.dumps([{"bbox_2d": b, "label": k} for k, b in boxes]))
    count = sum(len(pair.defects) for pair in pairs)
    each = (sum(len(cut.pre_tokenize_str(text)) for text in texts) / count for texts in forms)
    return ", ".join(f"{one:.1f}" for one in each)


def both(score: Score) -> str:
    return f"{score.f1:.1%}, {score.ap or 0:.1%}"


def told(value: float | None, interval: Interval | None) -> str:
    low, high = interval or (0.0, 0.0)
    return f"{value or 0:.2%} ({low:.1%} to {high:.1%})"


def speed(pairs: Sequence[Pair]) -> tuple[str, str]:
    """Of reading both pictures, aligning, comparing and judging."""
    with Pool(CORES) as processes:
        processes.map(look, pairs[:CORES])
        began = time.perf_counter()
        seconds = processes.map(look, pairs, chunksize=4)
        wall = time.perf_counter() - began
    pace, cpu = len(pairs) / wall, len(pairs) * CORES / sum(seconds)
    return f"boards a second on {CORES} cores; by the CPU seconds alone", f"{pace:.0f}; {cpu:.0f}"


def look(pair: Pair) -> float:
    """The CPU seconds of one."""
    began = time.process_time()
    inspect(read_copper(pair.template), read_copper(pair.tested))
    return time.process_time() - began


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("WORKER_TEST_DATA"))
    told = parser.parse_args(arguments)
    folder = Path(told.data or "") / "deeppcb" / "PCBData"
    if told.data is None or not folder.is_dir():
        why = "set WORKER_TEST_DATA to a folder with deeppcb/PCBData"
        show("pcb", [Figure("defects on boards held out by group", not_here(why))])
        return 1
    show("pcb", figures(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
