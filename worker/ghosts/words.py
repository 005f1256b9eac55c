"""What is said of an emergence, in Chinese and in English. The keys of the output are the same in both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from worker.ghosts.danger import Risk
from worker.ghosts.incident import Evidence, Incident, ObjectKind, Side
from worker.items import Json

Lang = Literal["zh", "en"]

KINDS: dict[ObjectKind, dict[Lang, str]] = {
    "person": {"zh": "行人", "en": "pedestrian"},
    "rider": {"zh": "骑车人", "en": "rider"},
    "vehicle": {"zh": "车辆", "en": "vehicle"},
    "unknown": {"zh": "未知物体", "en": "something moving"},
}
HIDERS: dict[str, dict[Lang, str]] = {
    "car": {"zh": "汽车", "en": "a car"},
    "bus": {"zh": "公交车", "en": "a bus"},
    "truck": {"zh": "卡车", "en": "a truck"},
    "train": {"zh": "列车", "en": "a train"},
    "": {"zh": "物体", "en": "an object"},
}
"""as engines call them; the last: what an engine has no word for"""
SIDES: dict[Side, dict[Lang, str]] = {
    "left": {"zh": "从左侧", "en": "from the left"},
    "right": {"zh": "从右侧", "en": "from the right"},
    "ahead": {"zh": "在前方", "en": "ahead"},
}
RISKS: dict[Risk, dict[Lang, str]] = {
    "high": {"zh": "高", "en": "high"},
    "medium": {"zh": "中", "en": "medium"},
    "low": {"zh": "低", "en": "low"},
}
IMPACTS: dict[Risk, dict[Lang, str]] = {
    "high": {"zh": "主车需要紧急制动或避让", "en": "the car must brake at once or swerve"},
    "medium": {"zh": "主车需要明显减速", "en": "the car must slow down clearly"},
    "low": {"zh": "主车需要注意观察", "en": "the driver must watch it"},
}
COLUMNS: dict[Lang, tuple[str, ...]] = {
    "zh": ("鬼探头", "时间", "对象", "风险", "时长", "备注"),
    "en": ("Ghost", "When", "What", "Risk", "Length", "Notes"),
}
PROPOSALS = (
    "Proposals, no verdicts: motion knows neither what moves nor what hid it; a detector (--model) does.",
    "仅为提示，不是结论：motion 不知道是什么在动、被什么遮挡；检测器（--model）知道。",
)
"""what the reader of a screen must know, in English and in Chinese"""
AGAIN: dict[Lang, str] = {"zh": "{} 中已报告", "en": "told already in {}"}
"""of a window that overlaps with this one"""
YES_NO: dict[Lang, tuple[str, str]] = {"zh": ("是", "否"), "en": ("yes", "no")}


def describe(incident: Incident, lang: Lang) -> str:
    """One sentence that says no more than the evidence does."""
    evidence = incident.evidence
    kind, side = KINDS[incident.kind][lang], SIDES[evidence.side][lang]
    if lang == "zh":
        said = f"{kind}{side}突然出现"
    else:
        said = f"a {kind} appears suddenly {side}" if incident.kind != "unknown" else f"{kind} appears {side}"
    return said + "".join(_details(evidence, lang))


def _details(evidence: Evidence, lang: Lang) -> list[str]:
    said = []
    if evidence.hidden_by is not None:
        what = HIDERS.get(evidence.hidden_by_kind or "", HIDERS[""])[lang]
        said.append(f"，此前被{what}遮挡" if lang == "zh" else f", hidden before by {what}")
    if evidence.time_to_collision_s is not None:
        left = f"{evidence.time_to_collision_s:.1f}"
        said.append(f"，约{left}秒后可能碰撞" if lang == "zh" else f", about {left} s from a collision")
    return said


def evidence_line(evidence: Mapping[str, Json], lang: Lang) -> str:
    """What the verdict rests on, from an answer's own keys."""
    grows, sure = evidence["expansion_per_s"], evidence["confidence"]
    if lang == "zh":
        return f"首次可见 {evidence['first_seen_s']:.1f} 秒；每秒变大 {grows:.0%}；把握 {sure:.2f}（0 到 1）"
    return f"first seen at {evidence['first_seen_s']:.1f} s; grows {grows:.0%} a second; sureness {sure:.2f}"
