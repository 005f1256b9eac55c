"""What there is most of, first: bars, and what they make up together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from worker.items import Json

Text = Callable[[Json], str]
Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def pareto(heading: str, counts: Mapping[str, int], text: Text, table: Table) -> str:
    """`heading` is HTML already."""
    rows = []
    whole, together = sum(counts.values()), 0
    most = max(counts.values(), default=0)
    for name, count in sorted(counts.items(), key=lambda one: -one[1]):
        together += count
        bar = f'<div class="line"><i style="left:0;width:{100 * count / (most or 1):.1f}%"></i></div>'
        rows.append([text(name), text(count), bar, text(f"{together / (whole or 1):.1%}")])
    return table([heading, "#", "", "Σ %"], rows)
