"""Progress on a terminal, redrawn in place, or as plain text where there is none."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from worker.cli.table import bar, cut, table
from worker.duration import spoken
from worker.harmless import harmless
from worker.items import Json
from worker.queue.progress import Progress
from worker.queue.text import dumps
from worker.redact import redact, redact_json

UP_AND_CLEAR = "\x1b[{}A\x1b[J"


class Screen:
    def __init__(self, out: TextIO, *, in_place: bool) -> None:
        self._out = out
        self._in_place = in_place and out.isatty()
        self._shown = 0

    def show(self, lines: Sequence[str]) -> None:
        if self._in_place:
            size = shutil.get_terminal_size()
            # a line that wraps, or that has scrolled away, cannot be drawn over
            lines = [cut(line, size.columns - 1) for line in lines][: size.lines - 1]
            if self._shown:
                self._out.write(UP_AND_CLEAR.format(self._shown))
            self._shown = len(lines)
        self._out.write("".join(line + "\n" for line in lines))
        self._out.flush()

    def leave(self) -> None:
        """What stands there stays: somebody else writes below it."""
        self._shown = 0


def json_line(value: Json) -> str:
    """Without secrets. Where stdout has fewer letters it is escaped: Python's own way to say an emoji is no
    JSON."""
    line = dumps(redact_json(value))
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(line))
    return line


def lines(progress: Progress) -> list[str]:
    """What a person wants to know first stands first."""
    done, total = progress.answered, progress.total
    share = f"{done / total:.0%}" if total else "nothing enqueued"
    shown = [f"{progress.task}  {bar(done, total)}  {done:,} of {total:,} items  {share}", _pace(progress)]
    if progress.workers:
        rows = [["worker", "device", "items/s", "beat", "in hand"]]
        for worker in progress.workers:
            beat = f"{worker.beat_age_s:.0f} s ago" + ("" if worker.live else ", silent")
            device, item = (str(worker.info.get(key) or "-") for key in ("device", "item"))
            hand = f"{redact(item)}{_job(worker.info.get('job') or {})}"
            rows.append([worker.id[:8], device, f"{worker.rate:.3g}", beat, hand])
        shown += ["", *table(rows)]
    if progress.failed:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in progress.failures.items())
        shown += ["", f"{progress.failed:,} failed: {harmless(kinds)}"]
        examples = [[f"  {redact(one.input)}", one.kind, redact(one.message)] for one in progress.examples]
        shown += table(examples)
    if progress.superseded:
        shown += ["", f"{progress.superseded:,} superseded: their files have another content by now"]
    if progress.inbox:
        shown += ["", f"{len(progress.inbox):,} inbox files wait until they stand still"]
    if progress.refused:
        one = progress.refused[0]
        where = f"{one['file']} line {one['line']} {one['why']}"
        shown += ["", f"{len(progress.refused):,} lines refused, the first: {harmless(redact(where))}"]
    return shown


def _job(job: Mapping[str, Json]) -> str:
    """step 120 of 1,000  loss 0.531  about 6 min left"""
    said = [f"step {job['step']:,}" + (f" of {job['steps']:,}" if "steps" in job else "")] if job else []
    said += [
        f"{name} {value if isinstance(value, str) else f'{value:.4g}'}"
        for name, value in job.get("figures", {}).items()
    ]
    said += [f"about {spoken(job['eta_s'])} left"] if "eta_s" in job else []
    return "".join(f"  {one}" for one in said)


def _pace(progress: Progress) -> str:
    free = progress.shards - progress.done - progress.claimed
    shards = f"shards: {progress.done:,} done, {progress.claimed:,} claimed, {free:,} free"
    if progress.done == progress.shards:
        return shards
    if progress.eta_s is None:
        working = any(worker.live for worker in progress.workers)
        return f"{shards}; {'no rate is known yet' if working else 'nobody works on them now'}"
    low, high = progress.eta_s
    return f"{shards}; {progress.rate_per_s:.3g} items/s, {spoken(low)} to {spoken(high)} left"
