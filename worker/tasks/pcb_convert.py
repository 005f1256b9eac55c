"""pcb-convert: DeepPCB's labelled boards become chat samples, COCO's JSON and YOLO's text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from worker import signs
from worker.boards.deeppcb import Look, Pair, Size, read_list, split
from worker.boards.defect import TYPES, Lang
from worker.errors import ItemError
from worker.items import Answer, Failure, Item, Json, Result
from worker.tasks.task import MapTask, Params

if TYPE_CHECKING:
    from worker.boards.conversion import Picture

_SHOWN = 12
"""boards on the contact sheet"""


class PcbConvertParams(Params):
    lang: Lang = "en"
    """of the question in the chat samples"""
    family: Literal["qwen3-vl", "qwen2.5-vl"] = "qwen3-vl"
    """of the model that will learn: how it writes boxes"""
    pair: bool = False
    """each picture is shown behind its template: then ask so, too"""
    held_out: float = Field(default=0.2, ge=0, lt=1)
    """at most this share of the boards is kept for validation: whole groups, whose boards look alike"""


class PcbConvert(MapTask[PcbConvertParams, Answer]):
    name = "pcb-convert"
    about = "DeepPCB's lists of labelled boards into chat samples, COCO JSON and YOLO text, split by group"
    params_type = PcbConvertParams
    suffixes = frozenset({".txt"})
    seconds_per_item = 30.0

    def prepare(self, item: Item) -> Answer:
        """An item is a list of DeepPCB's: trainval.txt. All of the work: it needs no device."""
        if item.file is None:
            raise ItemError("missing", "there is no list to read")
        params = self.params_of(item)
        size = cache(_size)
        pairs, odd = read_list(item.file, size)
        if not pairs:
            why = f": {odd[0].why}" if odd else ""
            raise ItemError("no-boards", f"it lists no board with its template and labels{why}")
        held = split([pair.group for pair in pairs], params.held_out)
        parts = {
            "train": [pair for pair in pairs if pair.group not in held],
            "val": [pair for pair in pairs if pair.group in held],
        }
        files: dict[str, bytes] = {"contact_sheet.jpg": _sheet(pairs)}
        for name, part in parts.items():
            files |= _written(name, _pictures(part, item.file.parent, params.pair, size), params)
        keys: dict[str, Json] = {
            "splits": {name: _counts(part) for name, part in parts.items()},
            "held_out": sorted(held),
            "odd": [{"file": one.file, "line": one.line, "why": one.why} for one in odd],
        }
        return Answer(keys, files)

    def answer(self, samples: Sequence[Answer]) -> Sequence[Answer | Failure]:
        return samples

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        keys = result.outcome.keys
        boards = {f"{name} boards": str(one["boards"]) for name, one in keys["splits"].items()}
        defects = sum(sum(one["types"].values()) for one in keys["splits"].values())
        return {**boards, "Defects": str(defects), "Odd lines": str(len(keys["odd"]))}


def _counts(pairs: Sequence[Pair]) -> dict[str, Json]:
    types = Counter(one.type for pair in pairs for one in pair.defects)
    return {
        "boards": len(pairs),
        "templates": len(pairs),
        "groups": dict(sorted(Counter(pair.group for pair in pairs).items())),
        "types": {kind: types[kind] for kind in TYPES},
    }


def _pictures(pairs: Sequence[Pair], root: Path, paired: bool, size: Look) -> list[Picture]:
    from worker.boards.conversion import pictures

    sizes = {f: size(f) for pair in pairs for f in (pair.tested, pair.template)}
    return pictures(pairs, root, sizes, paired=paired)


def _size(file: Path) -> Size:
    """Of a picture that can be read to its end."""
    from worker.boards.asking import opened

    signs.give()
    return opened(file).size


def _written(name: str, found: Sequence[Picture], params: PcbConvertParams) -> dict[str, bytes]:
    from worker.boards.conversion import chat, coco, yolo

    return {
        f"{name}.jsonl": chat(found, params.family, params.lang),
        f"{name}-coco.json": coco(found),
        f"{name}-yolo.zip": yolo(found),
    }


def _sheet(pairs: Sequence[Pair]) -> bytes:
    """Evenly chosen boards with their labelled boxes, to look at."""
    from worker.boards.copper import read
    from worker.boards.marking import sheet

    chosen = pairs[:: max(1, len(pairs) // _SHOWN)][:_SHOWN]
    return sheet([(read(pair.tested), pair.defects) for pair in chosen])
