"""What was found in a film, and when: a time line, a few words and pictures for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from worker.items import Result
from worker.report.pictures import Pictures
from worker.tasks.task import Moment

Escape = Callable[[object], str]


def moments(result: Result, found: Sequence[Moment], pictures: Pictures, heading: str, text: Escape) -> str:
    """All of one item, one below the other. `heading` is HTML already."""
    each = "".join(_moment(result, one, pictures, text) for one in found)
    return f'<article class="box item"><h3>{heading}</h3>{each}</article>'


def _moment(result: Result, one: Moment, pictures: Pictures, text: Escape) -> str:
    lines = "".join(f"<p>{text(line)}</p>" for line in one.lines)
    when = f"{one.start_s:.1f}–{one.end_s:.1f} s"
    return (
        f'<section class="moment {one.level}"><h4>{text(one.title)} <span class="soft">{when}</span></h4>'
        f"{_line(one)}{lines}{pictures.gallery(result, one.pictures)}</section>"
    )


def _line(one: Moment) -> str:
    """Where in the item it lies; never so short that nobody sees it."""
    whole = max(one.of_s, one.end_s, 1e-6)
    left, wide = 100 * one.start_s / whole, max(1.0, 100 * (one.end_s - one.start_s) / whole)
    bar = f'<i style="left:{min(left, 99):.1f}%;width:{min(wide, 100 - min(left, 99)):.1f}%"></i>'
    return (
        f'<div class="line">{bar}</div><div class="ends soft"><span>0</span><span>{whole:.1f} s</span></div>'
    )
