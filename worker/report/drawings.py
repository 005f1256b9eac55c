"""Curves and matrices as SVG that stands in the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from worker.report.words import word
from worker.tasks.chapters import Curves, Matrix

Text = Callable[[object], str]

_WIDE, _HIGH = 520, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 10, 26
_COLOURS = ("var(--accent)", "var(--good)", "var(--bad)", "#b7791f", "#8b5cf6", "#0e9aa7")
_POINTS_MOST = 400
_NAMED_MOST = 150
"""names beside a matrix: of more it would be a picture that nobody reads"""


def curves(told: Curves, heading: str, text: Text) -> str:
    """`heading` is HTML already."""
    every = [point for line in told.lines.values() for point in line]
    if not every:
        return ""
    first, last = min(x for x, _ in every), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)
    if high == low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2

    def at(x: float, y: float) -> str:
        right = _LEFT + (x - first) / (last - first or 1) * (_WIDE - _LEFT - _RIGHT)
        down = _TOP + (high - y) / (high - low) * (_HIGH - _TOP - _BOTTOM)
        return f"{right:.1f},{down:.1f}"

    drawn = []
    for step in range(3):
        y = low + (high - low) * step / 2
        left, down = at(first, y).split(",")
        drawn.append(f'<path class="grid" d="M{left},{down}H{_WIDE - _RIGHT}"/>')
        drawn.append(f'<text x="{_LEFT - 8}" y="{float(down) + 4:.1f}" text-anchor="end">{y:.3g}</text>')
    for x, anchor, right in ((first, "start", _LEFT), (last, "end", _WIDE - _RIGHT)):
        drawn.append(f'<text x="{right}" y="{_HIGH - 6}" text-anchor="{anchor}">{x:g}</text>')
    names = []
    for number, (name, line) in enumerate(told.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [at(x, y) for x, y in _thinned(line)]
        drawn.append(f'<polyline style="stroke:{colour}" points="{" ".join(points)}"/>')
        drawn += [
            f'<circle cx="{one.split(",")[0]}" cy="{one.split(",")[1]}" r="2.5" style="fill:{colour}"/>'
            for one in points
            if len(points) <= 40
        ]
        names.append(f'<span><i style="background:{colour}"></i>{text(name)}</span>')
    legend = f'<div class="legend soft">{"".join(names)}</div>'
    svg = f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img">{"".join(drawn)}</svg>'
    return f'<figure class="curves"><figcaption>{heading}</figcaption>{svg}{legend}</figure>'


def matrix(told: Matrix, text: Text) -> str:
    """Each cell as dark as its share of its row."""
    count = len(told.names)
    if count > _NAMED_MOST:
        return ""
    cell = 28 if count <= 12 else 16 if count <= 40 else 10
    letters = min(cell, 12)
    margin = 12 + round(0.62 * letters * max(map(_width, told.names)))
    whole: defaultdict[int, int] = defaultdict(int)
    for (row, _), often in told.counts.items():
        whole[row] += often
    size = margin + cell * count + 2
    drawn = [
        f'<rect class="paper" x="{margin}" y="{margin}" width="{cell * count}" height="{cell * count}"/>'
    ]
    for at, name in enumerate(told.names):
        middle = margin + cell * at + cell / 2 + letters / 3
        said = text(name)
        drawn.append(f'<text x="{margin - 5}" y="{middle:.1f}" text-anchor="end">{said}</text>')
        drawn.append(f'<text transform="translate({middle:.1f},{margin - 5}) rotate(-90)">{said}</text>')
    for (row, column), often in sorted(told.counts.items()):
        share = often / whole[row]
        kind = "right" if row == column else "wrong"
        title = text(f"{told.names[row]} → {told.names[column]}: {often} ({share:.0%})")
        drawn.append(
            f'<rect class="{kind}" x="{margin + cell * column}" y="{margin + cell * row}" width="{cell}" '
            f'height="{cell}" fill-opacity="{0.12 + 0.88 * share:.2f}"><title>{title}</title></rect>'
        )
        if cell == 28:
            x, y = margin + cell * column + cell / 2, margin + cell * row + cell / 2 + 4
            drawn.append(f'<text class="number" x="{x}" y="{y}" text-anchor="middle">{often}</text>')
    style = f'style="font-size:{letters}px;max-width:{size}px;min-width:{0.8 * size:.0f}px"'
    svg = f'<svg viewBox="0 0 {size} {size}" {style} role="img">{"".join(drawn)}</svg>'
    return f'<div class="matrix"><p class="soft">{word("matrix")}</p>{svg}</div>'


def _width(name: str) -> float:
    """In letters: those of Chinese are twice as wide."""
    return sum(2 if ord(one) > 0x2E80 else 1 for one in name)


def _thinned(line: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """The mean of neighbours where there are more points than pixels."""
    if len(line) <= _POINTS_MOST:
        return line
    cuts = [round(at * len(line) / _POINTS_MOST) for at in range(_POINTS_MOST + 1)]
    return [
        (line[end - 1][0], sum(y for _, y in line[start:end]) / (end - start))
        for start, end in pairwise(cuts)
    ]
