"""What a model is asked about a board, and the form of its answer: in training and in inspection alike."""

from __future__ import annotations

import json
from collections.abc import Iterable

from worker.boards.coordinates import Coordinates, Family
from worker.boards.defect import TYPES, Defect, Lang
from worker.items import Json

BOXES_MOST = 24
"""in an answer that is held to the form: a weak model would go on for ever"""
_TYPES = ", ".join(TYPES)
_PAIR: dict[Lang, str] = {
    "en": "The first picture is the template of a printed circuit board, the second is the board. ",
    "zh": "第一张图是电路板的模板, 第二张图是待检的板。",
}
_ASK: dict[Lang, str] = {
    "en": "List the defects of this printed circuit board as a JSON array of "
    '["type",left,top,right,bottom], where type is one of ' + _TYPES + " and the sides are whole numbers, "
    "{units}. Answer [] if there are none.",
    "zh": '以 JSON 数组列出这块电路板的缺陷, 每项为 ["type",左,上,右,下], type 取 '
    + _TYPES
    + " 之一, 坐标为整数, {units}。没有缺陷时回答 []。",
}
_UNITS: dict[Family, dict[Lang, str]] = {
    "qwen3-vl": {"en": "in thousandths of the picture", "zh": "以图片的千分之一为单位"},
    "qwen2.5-vl": {"en": "in pixels", "zh": "以像素为单位"},
}
_AGAIN: dict[Lang, str] = {
    "en": "\n\nAn earlier answer could not be used: {why}. Answer with the JSON array alone, in that form.",
    "zh": "\n\n先前的回答无法使用: {why}。请只用上述形式的 JSON 数组回答。",
}


def ask(lang: Lang, family: Family, *, pair: bool = False) -> str:
    """`pair`: the template is shown before the board."""
    return _PAIR[lang] * pair + _ASK[lang].format(units=_UNITS[family][lang])


def ask_again(lang: Lang, prompt: str, why: str) -> str:
    return prompt + _AGAIN[lang].format(why=why)


def answer(defects: Iterable[Defect], where: Coordinates) -> str:
    """`[["open",12,34,56,78]]`, from top to bottom: as few tokens a box as JSON can have, and in an order
    that can be learnt."""
    told = ([one.type, *where.written(one.box)] for one in defects)
    return json.dumps(sorted(told, key=lambda one: (one[2], one[1])), separators=(",", ":"))


def schema(where: Coordinates) -> Json:
    wide, high = where.size
    box: list[Json] = [
        {"enum": list(TYPES)},
        *({"type": "integer", "minimum": 0, "maximum": most} for most in (wide, high, wide, high)),
    ]
    one = {"type": "array", "prefixItems": box, "items": False, "minItems": len(box), "maxItems": len(box)}
    return {"type": "array", "items": one, "maxItems": BOXES_MOST}
