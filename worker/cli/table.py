"""Plain-text tables and bars that stay straight with Chinese, emoji and hostile names."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import category, combining, east_asian_width

from worker.harmless import ZERO_WIDTH_JOINER, harmless


def width(text: str) -> int:
    return sum(_width(c) for c in text)


def cut(text: str, columns: int) -> str:
    """At most so many columns, with … where something was left out."""
    if width(text) <= columns:
        return text
    kept, used = "", 1
    for c in text:
        used += _width(c)
        if used > columns:
            break
        kept += c
    return kept + "…"


def table(rows: Sequence[Sequence[str]], *, most: int = 60) -> list[str]:
    """Lines with straight columns; the first row is the heading. `most` columns a cell."""
    cells = [[cut(harmless(cell), most) for cell in row] for row in rows]
    widths = [max(width(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(cell + " " * (wide - width(cell)) for cell, wide in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def bar(part: int, whole: int, columns: int = 30) -> str:
    """Full only when everything is there."""
    full = columns * part // whole if whole else columns
    return "█" * full + "░" * (columns - full)


def _width(c: str) -> int:
    if combining(c) or c == ZERO_WIDTH_JOINER or category(c) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(c) in "WF" else 1
