"""The end of a run, for people: how much was answered, what failed, and where to read on."""

from __future__ import annotations

from worker.cli.table import table
from worker.report.collect import Collected


def outcome(collected: Collected) -> list[str]:
    summary = collected.summary
    rows = [[name, f"{summary[name]:,}"] for name in ("total", "ok", "failed")]
    rows += [[f"  {kind}", f"{count:,}"] for kind, count in summary["failures"].items()]
    if summary["refused"]:
        rows.append(["refused lines", f"{len(summary['refused']):,}"])
    return [*table(rows), f"see {collected.report}"]
