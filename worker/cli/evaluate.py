"""worker evaluate"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from worker.harmless import harmless
from worker.items import Json


@click.command("evaluate")
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    required=True,
    metavar="CSV|DIR",
    type=click.Path(path_type=Path),
    help="what is true: a CSV of clips, or a folder of boards with DeepPCB's labels",
)
@click.option("--json", "as_json", is_flag=True, help="for a machine")
def command(results: Path, labels: Path, as_json: bool) -> int:
    """Score RESULTS, a folder that `worker collect` wrote or its final_results.json, against labels."""
    from worker.cli import boxes
    from worker.evaluation.boards import score_boards
    from worker.evaluation.score import score
    from worker.evaluation.verdicts import read_results
    from worker.queue.text import dumps

    if labels.is_dir():
        document = score_boards(results, labels).document()
        click.echo(dumps(document) if as_json else "\n".join(boxes.lines(document)))
        return 0
    document = score(labels, read_results(results)["results"]).document()
    click.echo(dumps(document) if as_json else "\n".join(lines(document)))
    return 0


def lines(document: Mapping[str, Json]) -> Iterator[str]:
    from worker.cli.table import table
    from worker.evaluation.score import FIGURES

    found = document["confusion"]
    yield f"{document['clips']} clips with an answer and a label"
    yield ""
    yield from table(
        [
            ["", "said yes", "said no"],
            ["ghost", *_row(found, "true_yes", "false_no")],
            ["none", *_row(found, "false_yes", "true_no")],
        ]
    )
    yield ""
    rows = [["", "value", "95 %", "always yes", "always no"]]
    for name in FIGURES:
        figure = document[name]
        baselines = [_number(document[who].get(name)) for who in ("always_yes", "always_no")]
        rows.append([name.replace("_", " "), _number(figure["value"]), _span(figure["interval"]), *baselines])
    yield from table(rows)
    hits = document["time_hits"]
    yield ""
    yield f"{hits['hits']} of {hits['of']} ghosts found within {hits['within_s']:g} s of the labelled time"
    if screen := document["screen"]:
        yield (
            f"the screen let {screen['let_through']} of {screen['clips']} clips through, "
            f"and {screen['ghosts_let_through']} of {screen['ghosts']} ghosts "
            f"({_span(screen['recall_interval'])})"
        )
    yield ""
    yield from table(
        [
            ["category", "clips", "said yes"],
            *(
                [name, str(one["clips"]), str(one["said_yes"])]
                for name, one in document["categories"].items()
            ),
        ]
    )
    if document["wrong"]:
        yield ""
        yield from table([["wrong", "label", "said", "incidents"], *map(_wrong, document["wrong"])], most=110)
    yield from _troubles(document)


def _row(found: Mapping[str, int], *names: str) -> list[str]:
    return [str(found[name]) for name in names]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _span(interval: list[float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _wrong(one: Mapping[str, Json]) -> list[str]:
    times = "".join(f" at {time:g} s" for time in one["label_times_s"])
    spans = ", ".join(f"{start:g}–{end:g} s" for start, end in one["incidents_s"])
    said = one["said"] + " (the screen)" * one["screened_out"]
    return [one["clip"], one["label"] + times, said, spans]


def _troubles(document: Mapping[str, Json]) -> Iterator[str]:
    """What is not in the figures above."""
    if document["failed"]:
        yield f"\n{len(document['failed'])} labelled clips have no answer: " + _some(
            f"{one['clip']} ({one['failure']})" for one in document["failed"]
        )
    if document["missing"]:
        yield f"\n{len(document['missing'])} labelled clips are not in the results: " + _some(
            document["missing"]
        )
    if document["unlabelled"]:
        yield f"\n{document['unlabelled']} clips of the results have no label"
    for one in document["unusable_rows"]:
        where = f"row {one['row']}" if one["row"] else "a label"
        yield f"{where} is not used: {one['why']} ({harmless(one['text'])})"


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(map(harmless, every[:10])) + (f" and {len(every) - 10} more" if len(every) > 10 else "")
