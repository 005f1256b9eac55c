"""Scores of boxes, as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from worker.cli.table import table
from worker.harmless import harmless
from worker.items import Json

_SHOWN = 10


def lines(document: Mapping[str, Json]) -> Iterator[str]:
    whole, coco = document["deeppcb"], document["coco"]
    yield f"{document['boards']} boards with an answer and labels, {whole['labelled']} defects"
    yield ""
    rows = [["", "defects", "precision", "recall", "F", "95 %", "AP", "95 %", "COCO 50", "50-95"]]
    rows += [
        [kind, *_figures(one), *map(_number, (coco["types"].get(kind) or _NONE).values())]
        for kind, one in document["types"].items()
    ]
    rows.append(["all", *_figures(whole), _number(coco["map50"]), _number(coco["map50_95"])])
    yield from table(rows)
    yield from ("", _pictures(document["pictures"]))
    for name, what in (("failed", "have no answer"), ("missing", "are not in the results")):
        if document[name]:
            more = f" and {len(document[name]) - _SHOWN} more" if len(document[name]) > _SHOWN else ""
            shown = ", ".join(map(harmless, document[name][:_SHOWN]))
            yield f"\n{len(document[name])} labelled boards {what}: {shown}{more}"
    for one in document["odd"]:
        where = f"{one['file']}, line {one['line']}" if one["line"] else one["file"]
        yield f"{harmless(where)} is not used: {harmless(one['why'])}"


def _pictures(apart: Mapping[str, Json] | None) -> str:
    if apart is None:
        return "no template was looked at as a board: inspect with --set templates=true to see false alarms"
    shares = (
        f"{name} {_number(apart[name]['value'])} ({_span(apart[name]['interval'])})"
        for name in ("precision", "recall", "specificity", "f1")
    )
    return (
        f"{apart['with_defects']} pictures with defects, {apart['missed']} of them missed; "
        f"{apart['without']} without, {apart['false_alarms']} false alarms: {', '.join(shares)}"
    )


_NONE: Mapping[str, None] = {"ap50": None, "ap50_95": None}


def _figures(one: Mapping[str, Json]) -> list[str]:
    return [
        str(one["labelled"]),
        _number(one["precision"]),
        _number(one["recall"]),
        _number(one["f1"]["value"]),
        _span(one["f1"]["interval"]),
        _number(one["ap"]["value"]),
        _span(one["ap"]["interval"]),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _span(interval: list[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}"
