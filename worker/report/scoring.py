"""The score of a run in its report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from worker.evaluation.score import FIGURES
from worker.items import Json
from worker.report.words import word

Text = Callable[[Json], str]
Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def scoring(score: Mapping[str, Json], text: Text, table: Table) -> str:
    """Headings and cells come as the report makes them: escaped, and in both languages."""
    return "<br>".join(_tables(score, text, table))


def _tables(score: Mapping[str, Json], text: Text, table: Table) -> Iterator[str]:
    found = score["confusion"]
    yield table(
        ["", word("said_yes"), word("said_no")],
        [
            [word("true"), text(found["true_yes"]), text(found["false_no"])],
            [word("false"), text(found["false_yes"]), text(found["true_no"])],
        ],
    )
    yield table(
        [*map(word, ("what", "value", "interval", "always_yes", "always_no"))],
        [[word(name), *map(text, _figure(score, name))] for name in FIGURES]
        + [
            [
                word("time_hits"),
                text(f"{score['time_hits']['hits']} / {score['time_hits']['of']}"),
                "",
                "",
                "",
            ]
        ]
        + [
            [word(name), text(f"{screen[name]} / {screen[whole]}"), "", "", ""]
            for screen in filter(None, [score["screen"]])
            for name, whole in (("let_through", "clips"), ("ghosts_let_through", "ghosts"))
        ],
    )
    if score["wrong"]:
        rows = [
            [
                text(one["clip"]),
                text(one["label"]),
                text(_times(one["label_times_s"])),
                word(one["said"]),
                text(_spans(one)),
            ]
            for one in score["wrong"]
        ]
        yield table([*map(word, ("wrong", "label", "label_time", "said", "incidents"))], rows)
    left_out = [
        *([text(one["clip"]), text(one["failure"])] for one in score["failed"]),
        *([text(clip), word("not_there")] for clip in score["missing"]),
        *([text(f"{one['row']}: {one['text']}"), text(one["why"])] for one in score["unusable_rows"]),
    ]
    if left_out:
        yield table([*map(word, ("left_out", "why"))], left_out)


def _figure(score: Mapping[str, Json], name: str) -> list[str]:
    value, interval = score[name]["value"], score[name]["interval"]
    span = f"{interval[0]:.2f}–{interval[1]:.2f}" if interval else "–"
    return [_number(value), span, _number(score["always_yes"][name]), _number(score["always_no"][name])]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _times(times: Sequence[float]) -> str:
    return ", ".join(f"{time:g} s" for time in times)


def _spans(one: Mapping[str, Json]) -> str:
    return ", ".join(f"{start:g}–{end:g} s" for start, end in one["incidents_s"])
