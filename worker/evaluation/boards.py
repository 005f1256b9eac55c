"""Inspected boards beside their labels: DeepPCB's own files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from worker.boards.deeppcb import Odd, Pair, read
from worker.boards.defect import Box, Defect
from worker.errors import UsageError
from worker.evaluation.boxes import Board, document, told_apart
from worker.evaluation.verdicts import FILE
from worker.items import Json


@dataclass(frozen=True, slots=True)
class Matched:
    boards: Sequence[Board]
    failed: Sequence[str]
    """labelled, but their items failed: their defects count as not found"""
    missing: Sequence[str]
    """labelled, but not in the results: they do not count"""
    odd: Sequence[Odd]
    negatives: Sequence[Board] = ()
    """templates that were looked at as boards are"""

    def document(self) -> dict[str, Json]:
        return {
            **document(self.boards),
            "pictures": told_apart(self.boards, self.negatives),
            "failed": list(self.failed),
            "missing": list(self.missing),
            "odd": [{"file": one.file, "line": one.line, "why": one.why} for one in self.odd],
        }


def score_boards(results: Path, labels: Path) -> Matched:
    """`results`: a folder that `worker collect` wrote, or its final_results.json."""
    pairs, odd = read(labels)
    return match(_lines(results), pairs, odd)


def match(lines: Mapping[str, Mapping[str, Json]], pairs: Sequence[Pair], odd: Sequence[Odd] = ()) -> Matched:
    """`lines`: of final_results.json, by the name of the picture's file."""
    there = [pair for pair in pairs if pair.tested.name in lines]
    failed = [pair.tested.name for pair in there if lines[pair.tested.name]["status"] != "ok"]
    templates = dict.fromkeys(pair.template.name for pair in pairs if pair.template.name in lines)
    negatives = [Board(name, (), _defects(lines[name])) for name in templates if lines[name].get("inspected")]
    if negatives:
        failed += [name for name in templates if lines[name]["status"] != "ok"]
    return Matched(
        [Board(pair.tested.name, pair.defects, _defects(lines[pair.tested.name])) for pair in there],
        failed,
        [pair.tested.name for pair in pairs if pair.tested.name not in lines],
        odd,
        negatives,
    )


def _lines(place: Path) -> dict[str, Mapping[str, Json]]:
    file = place / FILE if place.is_dir() else place
    try:
        results = json.loads(file.read_bytes())["results"]
        for one in results:
            _defects(one)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; name a folder that worker collect wrote") from None
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{file} holds no inspected boards ({type(error).__name__}: {error})") from None
    return {PurePosixPath(one["input"]).name: one for one in results}


def _defects(line: Mapping[str, Json]) -> list[Defect]:
    """Those that are told, and the candidates."""
    if line["status"] != "ok":
        return []
    return [
        Defect(one["type"], Box(*one["box"]), one["confidence"])
        for one in (*line["defects"], *line["candidates"])
    ]
