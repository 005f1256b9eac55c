"""The end of a run, for people: how much was answered, what failed, and where to read on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from worker.cli.table import table
from worker.harmless import harmless
from worker.items import Json
from worker.redact import redact
from worker.report.collect import Collected
from worker.report.html import HEADLINES
from worker.tasks import registry

KINDS_MOST = 3


def outcome(collected: Collected) -> list[str]:
    summary = collected.summary
    rows = [[name, f"{summary[name]:,}"] for name in ("total", "ok", "failed")]
    rows += [[f"  {kind}", f"{count:,}"] for kind, count in summary["failures"].items()]
    if summary["refused"]:
        rows.append(["refused lines", f"{len(summary['refused']):,}"])
    if summary["superseded"]:
        rows.append(["superseded", f"{summary['superseded']:,}"])
    own = {key: value for key, value in summary.items() if key not in HEADLINES}
    headlines = registry.find(summary["task"]).headlines
    return [*_told(collected.rows), *table(rows), *findings(own, headlines), f"see {collected.report}"]


def _told(rows: Sequence[Mapping[str, str]]) -> list[str]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not any(columns):
        return []
    return [*table([columns, *([harmless(redact(row.get(c, ""))) for c in columns] for row in rows)]), ""]


def findings(own: Mapping[str, Json], headlines: Collection[str] = ()) -> list[str]:
    """What the task itself counted: plain values in one line, how many of which kind in another. Nothing is
    said of zeros, but for its headlines: of these "none" is the news."""
    values = [
        _said(key, one)
        for key, one in own.items()
        if isinstance(one, str | int | float) and (one or key in headlines)
    ]
    counts = [f"{_words(key)}: {_first(one)}" for key, one in own.items() if isinstance(one, dict) and one]
    return [harmless(redact(line)) for line in (", ".join(values), "; ".join(counts)) if line]


def _said(key: str, value: str | float) -> str:
    name, _, unit = key.rpartition("_")
    return f"{_words(name)} {_words(value)} s" if unit == "s" else f"{_words(key)} {_words(value)}"


def _first(counts: Mapping[str, Json]) -> str:
    said = [f"{key} {_words(value)}" for key, value in [*counts.items()][:KINDS_MOST]]
    return ", ".join([*said, f"{len(counts) - KINDS_MOST} more"] if len(counts) > KINDS_MOST else said)


def _words(value: Json) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value).replace("_", " ")
