"""report.html: one file that a person opens, with everything in it but large pictures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import TypeAlias

from worker.duration import spoken
from worker.items import Failure, Json, Result
from worker.redact import redact
from worker.report.chapters import chapters
from worker.report.files import read_file, shown
from worker.report.moments import anchor, moments
from worker.report.pareto import pareto
from worker.report.pictures import Pictures
from worker.report.scoring import scoring
from worker.report.words import LANGUAGES, both, word
from worker.tasks.chapters import Chapter
from worker.tasks.task import Moment

TEMPLATE = Path(__file__).with_name("report.html")
ROWS_MOST = 5000
"""a browser shows so many at once without a pause; all stand in final_results.json"""
MOMENTS_EMBED_MOST = 48 << 20
"""bytes of the pictures of moments, up to which the report holds them: it is mailed around"""
TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""characters that turn the order of letters around: gpj.exe would look like exe.jpg"""
Told: TypeAlias = Mapping[str, Sequence[Moment]]
"""what was found, by item"""
HEADLINES = {"task", "fingerprint", "total", "ok", "failed", "failures", "refused", "superseded", "notice"}


@dataclass(frozen=True, slots=True)
class Report:
    summary: Mapping[str, Json]
    results: Sequence[Result]
    row: Callable[[Result], Mapping[str, str]]
    moments: Callable[[Result], Sequence[Moment]]
    performance: Mapping[str, Json]
    provenance: Mapping[str, Json]
    out: Path
    """where files/ lies already"""
    headlines: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """the task's keys of the summary that are cards, and what these are called in English and in Chinese"""
    paretos: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """the task's keys of the summary that are drawn as bars"""
    notice: tuple[str, str] | None = None
    """what a reader must know first, in English and in Chinese"""
    chapters: Callable[[Result, Callable[[str], bytes]], Sequence[Chapter]] = lambda *_: ()
    score: Mapping[str, Json] | None = None
    """against labels, if there are any"""


def render(report: Report, lang: str = "en") -> str:
    assert lang in LANGUAGES
    page = TEMPLATE.read_text(encoding="utf-8")
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    summary = report.summary
    sections = dict(_sections(report))
    return Template(page).substitute(
        lang=lang,
        title=_text(summary["task"]),
        fingerprint=_text(summary["fingerprint"]),
        notice=f'<p class="notice">{both(*report.notice)}</p>' if report.notice else "",
        headlines="".join(_headlines(report)),
        cards="".join(_cards(report)),
        share=f'<i style="flex:{int(summary["ok"])}"></i><i style="flex:{int(summary["failed"])}"></i>',
        links="".join(f'<a href="#{name}">{word(name)}</a>' for name in sections),
        sections="\n".join(
            f'<section><h2 id="{name}">{word(name)}</h2>{html}</section>' for name, html in sections.items()
        ),
        script_hash=f"sha256-{digest}",
    )


def _headlines(report: Report) -> Iterator[str]:
    for key, names in report.headlines.items():
        if report.summary.get(key) is not None:
            yield _card(both(*names), report.summary[key])


def _cards(report: Report) -> Iterator[str]:
    summary, went = report.summary, report.performance
    yield _card(word("items"), summary["total"])
    yield _card(word("ok"), summary["ok"], "good")
    yield _card(word("failed"), summary["failed"], "bad" if summary["failed"] else "")
    if summary.get("superseded"):
        yield _card(word("superseded"), summary["superseded"])
    if went.get("wall_s") is not None:
        yield _card(word("wall"), spoken(went["wall_s"]))
    if went.get("items_per_s") is not None:
        yield _card(word("rate"), f"{went['items_per_s']:.3g}")
    if went.get("device_wait_share") is not None:
        yield _card(word("waited"), f"{went['device_wait_share']:.0%}")


def _card(name: str, value: Json, kind: str = "") -> str:
    """A share is told in per cent; the name is HTML already."""
    if isinstance(value, float):
        text = f"{value:.1%}"
    else:
        text = f"{value:,}" if isinstance(value, int) else str(value)
    return f'<div class="card {kind}"><b>{_text(text)}</b><span>{name}</span></div>'


def _sections(report: Report) -> Iterator[tuple[str, str]]:
    """Name and HTML, in the order of the page."""
    answered, failed = _first_rows(report)
    told = {result.item: found for result in answered if (found := report.moments(result))}
    long = {
        result.item: said
        for result in answered
        if (said := report.chapters(result, partial(read_file, report.out, result)))
    }
    if report.score:
        yield "score", scoring(report.score, _text, _table)
    if drawn := [
        pareto(both(*names), report.summary[key], _text, _table)
        for key, names in report.paretos.items()
        if report.summary.get(key)
    ]:
        yield "pareto", "<br>".join(drawn)
    if answered:
        yield "rows", _rows(report, answered, told.keys() | long.keys())
    if long:
        yield "chapters", "".join(_chapters(report, answered, long))
    if told:
        yield "moments", "".join(_moments(report, answered, told))
    if failed:
        yield "failures", _failures(report.summary, failed)
    if report.summary["refused"]:
        lines = [
            [_text(one["file"]), _text(one["line"]), _text(one["why"])] for one in report.summary["refused"]
        ]
        yield "refused", _table(map(word, ["file", "line", "why"]), lines)
    known = HEADLINES | report.headlines.keys() | report.paretos.keys()
    own = [[_text(key), _value(value)] for key, value in report.summary.items() if key not in known]
    if own:
        yield "summary", _table(map(word, ["what", "value"]), own)
    yield "time", _time(report.performance)
    pretty = json.dumps(report.provenance, ensure_ascii=False, indent=2)
    yield "provenance", f'<div class="box"><pre class="mark">{_text(pretty)}</pre></div>'


def _first_rows(report: Report) -> tuple[list[Result], list[Result]]:
    """As many answers and failures as are shown."""
    answered: list[Result] = []
    failed: list[Result] = []
    for result in report.results:
        rows = answered if result.ok else failed
        if len(rows) < ROWS_MOST:
            rows.append(result)
    return answered, failed


def _failures(summary: Mapping[str, Json], failed: Sequence[Result]) -> str:
    kinds = sorted(summary["failures"].items(), key=lambda one: (-one[1], one[0]))
    counts = [[_tag(kind), _text(n)] for kind, n in kinds]
    outcomes = [(r, r.outcome) for r in failed if isinstance(r.outcome, Failure)]
    each = [[_input(r.input), _tag(outcome.kind), _text(outcome.message)] for r, outcome in outcomes]
    tables = (
        _table(map(word, ["kind", "count"]), counts),
        _table(map(word, ["input", "kind", "message"]), each),
    )
    return "<br>".join(tables) + _how_many(summary["failed"])


def _moments(report: Report, answered: Sequence[Result], told: Told) -> Iterator[str]:
    found = [result for result in answered if result.item in told]
    pictures = Pictures(report.out, found, MOMENTS_EMBED_MOST)
    yield _beside(pictures)
    for result in found:
        yield moments(result, told[result.item], pictures, _input(result.input), _text)


def _chapters(
    report: Report, answered: Sequence[Result], long: Mapping[str, Sequence[Chapter]]
) -> Iterator[str]:
    found = [result for result in answered if result.item in long]
    pictures = Pictures(report.out, found, MOMENTS_EMBED_MOST)
    yield _beside(pictures)
    for result in found:
        yield chapters(result, long[result.item], pictures, _input(result.input), _text, _table)


def _rows(report: Report, answered: Sequence[Result], told: Collection[str]) -> str:
    """The task's own table, with the pictures of each item, or the way to what was found in it."""
    rows = [report.row(result) for result in answered]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    pictures = Pictures(report.out, [result for result in answered if result.item not in told])
    names = [word("input"), *map(_text, columns)] + ([word("files")] if pictures.any else [])
    cells = [
        [
            _linked(result) if result.item in told else _input(result.input),
            *(_text(row.get(column, "")) for column in columns),
            *([pictures.gallery(result, () if result.item in told else None)] if pictures.any else ()),
        ]
        for result, row in zip(answered, rows, strict=True)
    ]
    search = '<input id="filter" type="search" placeholder="⌕" aria-label="filter / 筛选">'
    return search + _beside(pictures) + _table(names, cells, name="items") + _how_many(report.summary["ok"])


def _beside(pictures: Pictures) -> str:
    return f'<p class="soft">{word("beside")}</p>' if pictures.linked else ""


def _time(went: Mapping[str, Json]) -> str:
    figures = {
        "claims": went["attempts"],
        **{name: went["item_s"][name] for name in ("median", "p90", "max")},
    }
    facts = [[word(name), _text(value)] for name, value in figures.items() if value is not None]
    slowest = [[_input(one["input"]), _text(one["seconds"])] for one in went["slowest"]]
    workers = [
        [_text(one["id"]), _text(one["device"] or ""), _text(one["items"]), _text(one["seconds"])]
        for one in went["workers"]
    ]
    two = _table(map(word, ["what", "value"]), facts) + _table(map(word, ["slowest", "seconds"]), slowest)
    table = _table(map(word, ["worker", "device", "answers", "seconds"]), workers)
    return f'<div class="two">{two}</div><br>{table}'


def _table(names: Iterable[str], rows: Iterable[Sequence[str]], *, name: str = "") -> str:
    """Names and cells are HTML already."""
    head = "".join(f"<th>{one}</th>" for one in names)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table class='sortable' id='{name}'>" if name else "<table class='sortable'>"
    return f'<div class="box">{table}<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def _text(value: Json) -> str:
    return _escaped(redact(str(value)))


def _input(input: str) -> str:
    """A name may be written from right to left; it must not turn the line around."""
    return f"<bdi>{_escaped(shown(input))}</bdi>"


def _linked(result: Result) -> str:
    return f'<a href="#{anchor(result)}">{_input(result.input)}</a>'


def _escaped(text: str) -> str:
    return escape(TURNS.sub("\ufffd", text))


def _tag(kind: str) -> str:
    return f'<span class="tag">{_text(kind)}</span>'


def _value(value: Json) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{_text(key)}: {_value(one)}" for key, one in value.items())
    return ", ".join(map(_value, value)) if isinstance(value, list) else _text(value)


def _how_many(count: int) -> str:
    if count <= ROWS_MOST:
        return ""
    return f'<p class="soft">{ROWS_MOST:,} {word("cut")} {count:,}: final_results.json</p>'
