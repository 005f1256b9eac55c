"""pcb-inspect: which defects a printed circuit board has, where, and what to do about them."""

from __future__ import annotations

import time
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
from worker.tasks.task import Params
from worker.tasks.vision import VisionTask

if TYPE_CHECKING:
    from worker.boards.asking import Question
    from worker.boards.reading import Said
    from worker.engines.asking import Asked


class PcbInspectParams(Params):
    lang: Literal["zh", "en"] = "en"
    """of the texts; the keys never change"""
    sure: float = Field(default=0.5, ge=0, le=1)
    """what is less likely is no defect; it stands among the candidates"""
    pictures: bool = True
    """keep the picture of each board that has defects, with their boxes"""
    templates: bool = False
    """look at the templates as at boards: they have no defects, and show how often some are told"""
    pair: bool = False
    """show a model the template before the board: if it has learnt so"""
    second: Literal["none", "baseline"] = "none"
    """baseline: where there is a template, what it sees is told beside what a model says"""
    family: Literal["qwen3-vl", "qwen2.5-vl"] = "qwen3-vl"
    """of engine openai: boxes in thousandths, or in pixels. Engine qwen sees to that itself"""
    max_tokens: int = Field(default=512, ge=16)
    """the longest reply of a language model; a box takes about 20"""
    quantise: Literal["none", "nf4"] = "none"
    """nf4: a language model's weights in 4 bits, where 16 do not fit"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one board in the table."""

    columns: tuple[str, str, str]
    none: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A board that a model is asked about."""

    question: Question
    params: PcbInspectParams


_WORDS = {
    "en": Verdict(("Defects", "Types", "What to do"), "none"),
    "zh": Verdict(("缺陷数", "类型", "处理建议"), "无"),
}


class PcbInspect(VisionTask[PcbInspectParams, Shown]):
    name = "pcb-inspect"
    about = "defects of printed circuit boards: six types, boxes, and what to do about them"
    params_type = PcbInspectParams
    suffixes = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
    engines: ClassVar = {
        "baseline": "worker.engines.baseline:Baseline",
        "qwen": "worker.engines.qwen:Qwen",
        "openai": "worker.engines.openai:OpenAi",
    }
    gpu_is_idle: ClassVar = frozenset({"baseline", "openai"})
    headlines: ClassVar = {
        "boards": ("boards inspected", "检测板数"),
        "defective": ("boards with defects", "有缺陷的板"),
        "defects": ("defects", "缺陷数"),
    }
    paretos: ClassVar = {"types": ("defects by type", "按类型统计的缺陷")}
    seconds_per_item = 0.05
    batch = 64

    def open(self, device: str) -> None:
        from worker.engines.latency import Latencies

        self._latencies = Latencies()
        super().open(device)

    def beside(self, input: str) -> Sequence[str]:
        """Its template, if that is looked at."""
        board = Path(input)
        wanted = self._vision is None or self.params.pair or self.params.second != "none"
        return [template_of(board).as_posix()] if wanted and board.stem.endswith(TESTED) else []

    def prepare(self, item: Item) -> Answer | Shown:
        """All of the baseline's work; or what a model is asked."""
        if item.file is None:
            raise ItemError("missing", "there is no file to look at")
        params, file = self.params_of(item), item.file
        role = "template" if file.stem.endswith(TEMPLATE) else "board"
        if role == "template" and not params.templates:
            return _unseen(file)
        if self._vision:
            return Shown(self._question(file, role, params), params)
        from worker.boards.copper import read
        from worker.boards.marking import marked

        tested = read(file)
        found = _compared(file)
        keys = _keys(role, (tested.shape[1], tested.shape[0]), found, params)
        sure = _sure(found, params)
        return Answer(keys, {"marked.jpg": marked(tested, sure)} if sure and params.pictures else {})

    def answer(self, samples: Sequence[Shown]) -> Sequence[Answer | Failure]:
        """Of a model; the baseline has answered where boards are prepared."""
        from worker.engines.asking import ask

        assert self._vision
        began = time.perf_counter()
        said = ask(self._vision, [one.question for one in samples])
        self._latencies.add(time.perf_counter() - began, len(samples))
        self.batch = self._vision.batch  # memory may have run out
        return [
            one if isinstance(one, Failure) else _told_by_model(shown.question, one, shown.params)
            for shown, one in zip(samples, said, strict=True)
        ]

    def spent(self) -> Mapping[str, Json]:
        return {**self._vision.spent(), **self._latencies.told()} if self._vision else {}

    def figures(self, spent: Mapping[str, float], summary: Mapping[str, Json]) -> Mapping[str, Json]:  # noqa: ARG002
        from worker.engines import figures, latency

        return latency.figures(figures.figures(spent))

    def summarise(self, results: Iterable[Result]) -> Mapping[str, Json]:
        """Templates are no boards, also where they are looked at."""
        keys = [r.outcome.keys for r in results if isinstance(r.outcome, Answer)]
        boards = [k for k in keys if k["role"] == "board"]
        templates = [k for k in keys if k["role"] == "template"]
        told = [one for k in boards for one in k["defects"]]
        types = Counter(one["type"] for one in told)
        summary: dict[str, Json] = {
            "boards": len(boards),
            "templates": len(templates),
            "defective": sum(bool(k["defects"]) for k in boards),
            "defects": types.total(),
            "types": {kind: types[kind] for kind in TYPES},
        }
        if any(k["inspected"] for k in templates):
            summary["false_alarms"] = sum(bool(k["defects"]) for k in templates)
        if asked := [k for k in keys if "wrong" in k]:
            summary["repaired"] = sum(k["repaired"] for k in asked)
            summary["partly_read"] = sum(bool(k["wrong"]) for k in asked)
        if seen := [k for k in boards if k.get("second")]:
            beside = [one for k in seen for one in k["defects"]]
            summary["second"] = {
                "boards": len(seen),
                "agreed": sum(one["second"] == one["type"] for one in beside),
                "other_type": sum(one["second"] not in (None, one["type"]) for one in beside),
                "not_seen": sum(one["second"] is None for one in beside),
                "seen_alone": sum(len(k["second"]["alone"]) for k in seen),
            }
        return summary

    def exports(self, results: Iterable[Result]) -> Mapping[str, bytes]:
        from worker.boards.conversion import Picture, coco

        seen = (
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
            if isinstance(one.outcome, Answer) and one.outcome.keys["inspected"]
        )
        return {"coco.json": coco(seen, scored=True)}

    def row(self, result: Result) -> Mapping[str, str]:
        assert isinstance(result.outcome, Answer)
        lang, defects = self.params.lang, result.outcome.keys["defects"]
        types = Counter(one["type"] for one in defects)
        told = ", ".join(f"{NAMES[kind][lang]} {types[kind]}" for kind in TYPES if types[kind])
        hints = "; ".join(HINTS[kind][lang] for kind in TYPES if types[kind])
        values = (str(len(defects)), told or _WORDS[lang].none, hints)
        return dict(zip(_WORDS[lang].columns, values, strict=True))

    def _question(self, file: Path, role: str, params: PcbInspectParams) -> Question:
        from worker.boards.asking import question
        from worker.boards.coordinates import FAMILIES

        assert self._vision
        is_tested = file.stem.endswith(TESTED)
        has_second = params.second != "none" and is_tested and template_of(file).is_file()
        return question(
            file,
            _template(file) if params.pair else None,
            role=role,
            family=next((one for one in FAMILIES if one == self._vision.family), params.family),
            resizing=self._vision.resizing,
            lang=params.lang,
            max_tokens=params.max_tokens,
            second=_sure(_compared(file), params) if has_second else None,
        )


def _template(file: Path) -> Path:
    """A template is its own."""
    template, is_tested = template_of(file), file.stem.endswith(TESTED)
    if file.stem.endswith(TEMPLATE):
        return file
    if not is_tested or not template.is_file():
        beside = template.name if is_tested else f"…{TEMPLATE} for a board …{TESTED}"
        raise ItemError("template", f"there is no {beside} beside it, and it is compared with that")
    return template


def _compared(file: Path) -> Sequence[Defect]:
    """By the baseline."""
    from worker.boards.copper import read
    from worker.engines.baseline import Baseline

    return Baseline.inspect(read(_template(file)), read(file))


def _unseen(template: Path) -> Answer:
    from worker.boards.copper import read

    height, width = read(template).shape
    seen = {"role": "template", "inspected": False, "width": width, "height": height}
    return Answer({**seen, "defects": [], "candidates": []})


def _told_by_model(asked: Question, heard: Asked[Said], params: PcbInspectParams) -> Answer:
    from worker.boards.marking import marked_on
    from worker.boards.second_opinion import beside

    found = heard.said.defects
    keys = _keys(asked.role, (asked.where.width, asked.where.height), found, params)
    keys |= {"repaired": heard.repaired, "wrong": list(heard.said.wrong)}
    if heard.said.wrong:
        keys["said"] = heard.reply.text
    sure = _sure(found, params)
    if asked.second is not None:
        there, alone = beside(sure, asked.second)
        for one, second in zip(keys["defects"], there, strict=True):
            one["second"] = second
        keys["second"] = {"engine": "baseline", "alone": [_told(one) for one in alone]}
    if not (sure and params.pictures):
        return Answer(keys)
    picture = asked.request.frames[-1][..., ::-1]
    return Answer(keys, {"marked.jpg": marked_on(picture, [asked.as_shown(one) for one in sure])})


def _keys(
    role: str, size: tuple[int, int], found: Sequence[Defect], params: PcbInspectParams
) -> dict[str, Json]:
    return {
        "role": role,
        "inspected": True,
        "width": size[0],
        "height": size[1],
        "defects": [
            {**_told(one), "name": NAMES[one.type][params.lang], "hint": HINTS[one.type][params.lang]}
            for one in _sure(found, params)
        ],
        "candidates": [_told(one) for one in found if one.confidence < params.sure],
    }


def _sure(found: Sequence[Defect], params: PcbInspectParams) -> list[Defect]:
    return [one for one in found if one.confidence >= params.sure]


def _told(one: Defect) -> dict[str, Json]:
    box = one.box
    return {
        "type": one.type,
        "box": [box.left, box.top, box.right, box.bottom],
        "confidence": one.confidence,
    }
