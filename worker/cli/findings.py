"""The doctor's findings, for people: what blocks first, and behind each what to type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import click

from worker.doctor.examination import Examination
from worker.harmless import harmless
from worker.redact import redact

LOOKS: Mapping[str, Mapping[str, Any]] = {
    "blocker": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow"},
    "ok": {"dim": True},
}


def lines(examination: Examination) -> list[str]:
    findings = examination.findings
    wide = max(len(one.check) for one in findings)
    shown = []
    for one in findings:
        begin = f"{one.level:<7}  {one.check:<{wide}}  "
        text = begin + harmless(redact(one.found))
        if one.remedy:
            text += "\n" + " " * len(begin) + "→ " + harmless(redact(one.remedy))
        shown.append(click.style(text, **LOOKS[one.level]))
    counts = Counter(one.level for one in findings)
    some = [
        f"{counts[level]} {level}{'s' * (counts[level] > 1)}"
        for level in ("blocker", "warning")
        if counts[level]
    ]
    verdict = "this machine fits" if examination.fits else "this machine does not fit"
    return [*shown, "", ": ".join([verdict, *([", ".join(some)] if some else [])])]
