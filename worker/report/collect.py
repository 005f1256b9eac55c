"""`worker collect`: a finished queue becomes a folder of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.errors import UnfinishedError, UsageError
from worker.evaluation.score import score
from worker.items import Json, Result
from worker.jobs.checkpoints import hash_file
from worker.queue import intake, layout, recipe
from worker.queue.answers import DamagedQueueError
from worker.queue.beat import Beat
from worker.queue.claims import newest_claims
from worker.queue.finals import FinalAnswers, read_finals
from worker.queue.progress import read_taken, refused_lines
from worker.queue.recipe import Run
from worker.queue.store import Store, at_once, in_order
from worker.queue.superseded import Superseded
from worker.report.files import refuse_other, relative_paths, slug, write_json, write_whole
from worker.report.html import ROWS_MOST, Report, render
from worker.report.log import log_lines
from worker.report.performance import performance, spent_together
from worker.report.provenance import provenance
from worker.report.record import document, encoded, record
from worker.report.words import LANGUAGES
from worker.tasks import params, registry

ROWS_SHORT = 12
"""so many items are told one by one where the command was given"""
SCORE = "evaluation.json"


@dataclass(frozen=True, slots=True)
class Collected:
    out: Path
    summary: Mapping[str, Json]
    rows: Sequence[Mapping[str, str]] = ()
    """of a short list: what was answered, as the report's table has it"""

    @property
    def complete(self) -> bool:
        """Nothing failed, and no line of an inbox file was refused."""
        return not self.summary["failed"] and not self.summary["refused"]

    @property
    def report(self) -> Path:
        return self.out / "report.html"


def collect(store: Store, out: Path, labels: Path | None = None) -> Collected:
    """Everything is read and checked before the first file is written; summary.json comes last."""
    run = recipe.require(store)
    refuse_other(out, run.fingerprint)
    shards = finished_shards(store)
    results = read_finals(store, shards)
    task_type = registry.find(run.recipe.task)
    task = task_type(params.validate(task_type, run.recipe.params))
    plain = results.plain()  # a summary must not know how it went
    first = [*task.together(plain.first(ROWS_MOST))]
    gone = Superseded(store).look()
    refused = _refused(store)
    lang = getattr(task.params, "lang", LANGUAGES[0])
    notice = task.notices.get(run.recipe.engine or "")
    summary = _summary(run, results, task.summarise(task.together(plain)), refused, len(gone))
    if notice:
        summary["notice"] = notice[LANGUAGES.index(lang)]
    beats = read_beats(store)
    newest = newest_claims(e.name for e in store.list(layout.CLAIMS))
    epochs = {shard: newest[shard].epoch for shard in shards if shard in newest}
    scored = score(labels, map(record, plain)).document() if labels else None
    went = performance(results.spent(), beats, sum(epochs.values()))
    went |= {
        key: value for key, value in task.figures(spent_together(beats), summary).items() if key not in went
    }
    origin = provenance(run, store.url, beats, intake.roots(store), epochs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / SCORE).unlink(missing_ok=True)  # first: it may be the score of other answers
        _copy_files(store, out, results.with_files())
        head = {"task": run.recipe.task, "fingerprint": run.fingerprint}
        write_whole(out / "final_results.json", document(head, map(encoded, task.together(results))))
        for name, content in task.exports(task.together(plain)).items():
            write_whole(out / slug(name), [content])
        write_whole(out / f"{slug(task.name)}.log", log_lines(results.events(), beats, refused))
        write_json(out / "performance.json", went)
        write_json(out / "provenance.json", origin)
        page = render(
            Report(
                summary=summary,
                results=first,
                row=task.row,
                moments=task.moments,
                chapters=task.chapters,
                performance=went,
                provenance=origin,
                out=out,
                headlines=task.headlines,
                paretos=task.paretos,
                notice=notice,
                score=scored,
            ),
            lang,
        )
        write_whole(out / "report.html", [page.encode(errors="replace")])
        if scored:
            write_json(out / SCORE, scored)
        write_json(out / "summary.json", summary)
    except OSError as error:
        remedy = "free room there, or give another --out"
        raise UsageError(f"{error.filename or out}: {error.strerror}; {remedy}") from None
    short = first if len(plain) <= ROWS_SHORT else ()
    return Collected(out, summary, [{"": one.input, **task.row(one)} for one in short if one.ok])


def finished_shards(store: Store) -> list[str]:
    """Every shard of the queue; an error while one is open."""
    names = sorted(layout.shard_of(entry.name) for entry in store.list(layout.ITEMS))
    open_ones = set(names) - {layout.shard_of(entry.name) for entry in store.list(layout.DONE)}
    if open_ones:
        raise UnfinishedError(
            f"{len(open_ones)} of {len(names)} shards of {store.url} are not done yet: "
            f"go on with worker run {store.url}, or look with worker status {store.url}"
        )
    return names


def read_beats(store: Store) -> list[Beat]:
    contents = at_once(store.get, [entry.name for entry in store.list(layout.WORKERS)])
    return [beat for data in contents if data and (beat := Beat.decode(data))]


def _refused(store: Store) -> list[Mapping[str, Json]]:
    return refused_lines(read_taken(store, [entry.name for entry in store.list(layout.TAKEN)]))


def _summary(
    run: Run,
    results: FinalAnswers,
    own: Mapping[str, Json],
    refused: Sequence[Mapping[str, Json]],
    superseded: int,
) -> dict[str, Json]:
    total, kinds = len(results), results.kinds()
    summary: dict[str, Json] = {
        "task": run.recipe.task,
        "fingerprint": run.fingerprint,
        "total": total,
        "ok": total - kinds.total(),
        "failed": kinds.total(),
        "failures": dict(sorted(kinds.items())),
        "refused": [dict(line) for line in refused],
        "superseded": superseded,
    }
    return summary | {key: value for key, value in own.items() if key not in summary}


def _copy_files(store: Store, out: Path, results: Iterable[Result]) -> None:
    """A file that is there already, from a collect that was cut off, is not fetched again."""
    wanted = (
        (result.files[name], out / path)
        for result in results
        for name, path in relative_paths(result).items()
    )
    for _ in in_order(lambda one: _copy_file(store, *one), wanted):
        pass


def _copy_file(store: Store, name: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and layout.file_of(hash_file(file).sha256) == name:
        return
    try:
        store.download(name, file)
    except FileNotFoundError:
        raise DamagedQueueError(f"{store.url}/{name} is missing, an answer's file: restore it") from None
