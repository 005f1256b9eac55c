"""What a task says of one job: a heading for each chapter, and its curves, tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from worker.items import Result
from worker.report.drawings import curves, matrix
from worker.report.moments import anchor
from worker.report.pictures import Pictures
from worker.report.words import both, word
from worker.tasks.chapters import Chapter, Curves, Matrix, Sheet

Text = Callable[[object], str]
Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def chapters(
    result: Result, told: Sequence[Chapter], pictures: Pictures, heading: str, text: Text, table: Table
) -> str:
    """All of one item, one below the other. `heading` is HTML already."""
    each = []
    for one in told:
        parts = "".join(_parts(result, one, pictures, text, table))
        each.append(f'<h4>{both(*one.title)}</h4><div class="parts">{parts}</div>')
    each.append(f"<h4>{word('files')}</h4>{pictures.others(result)}")
    return f'<article class="box item" id="{anchor(result)}"><h3>{heading}</h3>{"".join(each)}</article>'


def _parts(result: Result, told: Chapter, pictures: Pictures, text: Text, table: Table) -> Iterator[str]:
    for part in told.parts:
        if isinstance(part, Curves):
            yield curves(part, both(*part.title), text)
        elif isinstance(part, Matrix):
            yield matrix(part, text)
        elif isinstance(part, Sheet):
            yield table(
                [both(*one) for one in part.columns], [[text(one) for one in row] for row in part.rows]
            )
        else:
            yield pictures.captioned(result, {name: text(one) for name, one in part.pictures.items()})
