"""pcb-inspect: which defects a printed circuit board has, where, and what to do about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from worker.boards.deeppcb import TEMPLATE, TESTED, template_of
from worker.boards.defect import HINTS, NAMES, TYPES, Box, Defect
from worker.errors import ItemError
from worker.items import Answer, Failure, Item, Json, Result
from worker.tasks.task import MapTask, Params

if TYPE_CHECKING:
    from worker.boards.copper import Mask


class PcbInspectParams(Params):
    lang: Literal["zh", "en"] = "en"
    """of the texts; the keys never change"""
    sure: float = Field(default=0.5, ge=0, le=1)
    """what is less likely is no defect; it stands among the candidates"""
    pictures: bool = True
    """keep the picture of each board that has defects, with their boxes"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one board in the table."""

    columns: tuple[str, str, str]
    none: str


_WORDS = {
    "en": Verdict(("Defects", "Types", "What to do"), "none"),
    "zh": Verdict(("缺陷数", "类型", "处理建议"), "无"),
}


class PcbInspect(MapTask[PcbInspectParams, Answer]):
    name = "pcb-inspect"
    about = "defects of printed circuit boards: six types, boxes, and what to do about them"
    params_type = PcbInspectParams
    suffixes = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
    engines: ClassVar = {"baseline": "worker.engines.baseline:Baseline"}
    headlines: ClassVar = {
        "boards": ("boards inspected", "检测板数"),
        "defective": ("boards with defects", "有缺陷的板"),
        "defects": ("defects", "缺陷数"),
    }
    paretos: ClassVar = {"types": ("defects by type", "按类型统计的缺陷")}
    seconds_per_item = 0.05
    batch = 64

    def prepare(self, item: Item) -> Answer:
        """All of the work: it needs no device."""
        if item.file is None:
            raise ItemError("missing", "there is no file to look at")
        from worker.boards.copper import read
        from worker.engines.baseline import Baseline

        params, file = self.params_of(item), item.file
        tested = read(file)
        if TEMPLATE in file.stem:
            return _answer("template", tested, (), params)
        return _answer("board", tested, Baseline.inspect(_template(file), tested), params)

    def answer(self, samples: Sequence[Answer]) -> Sequence[Answer | Failure]:
        return samples

    def summarise(self, results: Iterable[Result]) -> Mapping[str, Json]:
        """Templates are no boards: they only stand in the folder."""
        keys = [r.outcome.keys for r in results if isinstance(r.outcome, Answer)]
        boards = [k for k in keys if k["role"] == "board"]
        types = Counter(one["type"] for k in boards for one in k["defects"])
        return {
            "boards": len(boards),
            "templates": len(keys) - len(boards),
            "defective": sum(bool(k["defects"]) for k in boards),
            "defects": types.total(),
            "types": {kind: types[kind] for kind in TYPES},
        }

    def exports(self, results: Iterable[Result]) -> Mapping[str, bytes]:
        from worker.boards.conversion import Picture, coco

        boards = (
            Picture(
                one.input,
                one.outcome.keys["width"],
                one.outcome.keys["height"],
                [
                    Defect(each["type"], Box(*each["box"]), each["confidence"])
                    for each in one.outcome.keys["defects"]
                ],
            )
            for one in results
            if isinstance(one.outcome, Answer) and one.outcome.keys["role"] == "board"
        )
        return {"coco.json": coco(boards, scored=True)}

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        lang, defects = self.params.lang, result.outcome.keys["defects"]
        types = Counter(one["type"] for one in defects)
        told = ", ".join(f"{NAMES[kind][lang]} {types[kind]}" for kind in TYPES if types[kind])
        hints = "; ".join(HINTS[kind][lang] for kind in TYPES if types[kind])
        values = (str(len(defects)), told or _WORDS[lang].none, hints)
        return dict(zip(_WORDS[lang].columns, values, strict=True))


def _template(tested: Path) -> Mask:
    from worker.boards.copper import read

    file = template_of(tested)
    if TESTED not in tested.stem or not file.is_file():
        beside = file.name if TESTED in tested.stem else f"…{TEMPLATE} for a board …{TESTED}"
        raise ItemError("template", f"there is no {beside} beside it, and the baseline compares with that")
    return read(file)


def _answer(role: str, copper: Mask, found: Sequence[Defect], params: PcbInspectParams) -> Answer:
    height, width = copper.shape
    sure = [one for one in found if one.confidence >= params.sure]
    keys: dict[str, Json] = {
        "role": role,
        "width": width,
        "height": height,
        "defects": [
            {**_told(one), "name": NAMES[one.type][params.lang], "hint": HINTS[one.type][params.lang]}
            for one in sure
        ],
        "candidates": [_told(one) for one in found if one.confidence < params.sure],
    }
    if not (sure and params.pictures):
        return Answer(keys)
    from worker.boards.marking import marked

    return Answer(keys, {"marked.jpg": marked(copper, sure)})


def _told(one: Defect) -> dict[str, Json]:
    box = one.box
    return {
        "type": one.type,
        "box": [box.left, box.top, box.right, box.bottom],
        "confidence": one.confidence,
    }
