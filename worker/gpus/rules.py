"""What was wrong with a value, from what pydantic says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from worker.gpus.refusals import Reason, Refusal, Said

LONGEST = 100
"""characters of what was said"""
_OBJECT = Said(
    "a JSON object is needed, with the header Content-Type: application/json",
    "应为 JSON 对象，并带上请求头 Content-Type: application/json",
)
_WHOLE, _NUMBER = "应为整数", "应为数字"
_TIME = Said("a time is needed, such as 2026-01-31T12:00:00Z", "应为时间，例如 2026-01-31T12:00:00Z")
_BOTH: Mapping[str, Said] = {
    "extra_forbidden": Said(
        "there is no such key: see /docs, and of params worker plan TASK",
        "没有这个键：见 /docs，params 的键见 worker plan TASK",
    ),
    "missing": Said("it is needed", "必须填写"),
    "json_invalid": Said("{error}", "应为有效的 JSON（{error}）"),
    **dict.fromkeys(("model_attributes_type", "model_type", "dict_type"), _OBJECT),
    **dict.fromkeys(("datetime_from_date_parsing", "datetime_parsing", "datetime_type"), _TIME),
}
_CHINESE: Mapping[str, str] = {
    "greater_than": "应大于 {gt}",
    "greater_than_equal": "应不小于 {ge}",
    "less_than": "应小于 {lt}",
    "less_than_equal": "应不大于 {le}",
    "multiple_of": "应为 {multiple_of} 的倍数",
    "finite_number": "应为有限的数字",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), "应为 true 或 false"),
    "string_type": "应为字符串",
    "string_unicode": "应为有效的 Unicode 文本",
    "string_too_long": "最多 {max_length} 个字符",
    "string_too_short": "至少 {min_length} 个字符",
    "too_long": "最多 {max_length} 项",
    "literal_error": "应为 {expected}",
}


def wrong(error: Mapping[str, Any], name: str) -> Refusal:
    kind = error["type"]
    said: object = json.dumps(error.get("input"), default=_shown, ensure_ascii=False)[:LONGEST]
    if kind == "json_invalid":
        name, where = "body", error["loc"][-1]
        said = Said(f"no JSON at character {where}", f"非 JSON（第 {where} 个字符）")
    elif kind == "missing":
        said = Said("missing", "空")
    return Refusal(Reason.WRONG_VALUE, name=name, said=said, rule=rule(error))


def rule(error: Mapping[str, Any]) -> Said:
    kind, facts = error["type"], error.get("ctx", {})
    if both := _BOTH.get(kind):
        return Said(both.english.format(**facts), both.chinese.format(**facts))
    chinese = _CHINESE.get(kind, "").format(**facts).replace(" or ", " 或 ")
    return Said(error["msg"], chinese or error["msg"])


def _shown(what: object) -> str:
    return what.decode("utf-8", "replace") if isinstance(what, bytes) else str(what)
