"""report.html: one file that a person opens, with everything in it but large pictures."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from worker.items import Failure, Json, Result
from worker.redact import redact
from worker.report.files import relative_paths, shown
from worker.report.words import LANGUAGES, WORDS

HERE = Path(__file__).parent
ROWS_MOST = 5000
"""a browser shows so many at once without a pause; all stand in final_results.json"""
EMBED_MOST = 1 << 20
"""bytes of all pictures together, up to which the report holds them itself"""
PICTURES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".gif": "gif"}


@dataclass(frozen=True, slots=True)
class Report:
    summary: Mapping[str, Json]
    results: Sequence[Result]
    row: Callable[[Result], Mapping[str, str]]
    performance: Mapping[str, Json]
    provenance: Mapping[str, Json]
    out: Path
    """where files/ lies already"""


def render(report: Report, lang: str = "en") -> str:
    script = (HERE / "report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    summary = report.summary
    return Template((HERE / "report.html").read_text()).substitute(
        lang=lang,
        title=_text(summary["task"]),
        fingerprint=_text(summary["fingerprint"]),
        cards="".join(_cards(report)),
        share=f'<i style="flex:{int(summary["ok"])}"></i><i style="flex:{int(summary["failed"])}"></i>',
        sections="\n".join(_sections(report)),
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _cards(report: Report) -> Iterator[str]:
    summary, went = report.summary, report.performance
    yield _card("items", summary["total"])
    yield _card("ok", summary["ok"], "good")
    yield _card("failed", summary["failed"], "bad" if summary["failed"] else "")
    if went.get("wall_s") is not None:
        yield _card("wall", duration(went["wall_s"]))
    if went.get("items_per_s") is not None:
        yield _card("rate", f"{went['items_per_s']:.3g}")
    if went.get("device_wait_share") is not None:
        yield _card("waited", f"{went['device_wait_share']:.0%}")


def _card(word: str, value: Json, kind: str = "") -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return f'<div class="card"><b class="{kind}">{_text(text)}</b><span>{_word(word)}</span></div>'


def _sections(report: Report) -> Iterator[str]:
    failed = [result for result in report.results if not result.ok]
    if failed:
        yield _heading("failures")
        yield _failures(report.summary["failures"], failed)
    if report.summary.get("refused"):
        yield _heading("refused")
        lines = ([_text(one["file"]), _text(one["line"]), _text(one["why"])] for one in report.summary["refused"])
        yield _table(["file", "line", "why"], lines)
    own = {key: value for key, value in report.summary.items() if key not in _HEADLINES}
    if own:
        yield _heading("summary")
        yield _table(["what", "value"], ([_text(key), _value(value)] for key, value in own.items()))
    yield _items(report, [result for result in report.results if result.ok])
    yield _heading("time")
    yield _time(report.performance)
    yield _heading("provenance")
    yield f'<div class="box"><pre class="mark">{_text(_pretty(report.provenance))}</pre></div>'


_HEADLINES = {"task", "fingerprint", "total", "ok", "failed", "failures", "refused"}


def _failures(kinds: Mapping[str, int], failed: Sequence[Result]) -> str:
    counts = ([_tag(kind), _text(f"{n:,}")] for kind, n in sorted(kinds.items(), key=lambda k: (-k[1], k[0])))
    each = ([_input(r), _tag(_failure(r).kind), _text(redact(_failure(r).message))] for r in failed[:ROWS_MOST])
    return _table(["kind", "count"], counts) + "<br>" + _table(["input", "kind", "message"], each) + _cut(failed)


def _items(report: Report, answered: Sequence[Result]) -> str:
    """The task's own table, with the pictures that belong to each item."""
    rows = [report.row(result) for result in answered[:ROWS_MOST]]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    pictures = _Pictures(report.out, answered[:ROWS_MOST])
    names = ["input", *columns] + (["files"] if pictures.any else [])
    cells = (
        [_input(result), *(_text(row.get(column, "")) for column in columns)]
        + ([pictures.gallery(result)] if pictures.any else [])
        for result, row in zip(answered, rows, strict=False)
    )
    if not rows:
        return ""
    search = f'<input id="filter" type="search" placeholder="⌕" aria-label="{escape(WORDS["filter"][0])}">'
    return _heading("rows") + search + _table(names, cells, id="items") + _cut(answered)
