"""`worker collect`: a finished queue becomes a folder of answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from worker.errors import UnfinishedError, UsageError
from worker.items import Failure, Json, Result
from worker.queue import intake, layout, recipe
from worker.queue.answers import DamagedQueueError, Done, final_answers, read_done
from worker.queue.beat import Beat
from worker.queue.claims import newest_claims
from worker.queue.intake import AT_ONCE, at_once
from worker.queue.progress import read_taken, refused_lines
from worker.queue.recipe import Run
from worker.queue.store import Store
from worker.report import html
from worker.report.files import own, relative_paths, write_json, write_whole
from worker.report.performance import performance
from worker.report.provenance import provenance
from worker.report.record import document, encoded
from worker.tasks import params, registry


@dataclass(frozen=True, slots=True)
class Collected:
    out: Path
    summary: Mapping[str, Json]

    @property
    def failed(self) -> int:
        return int(self.summary["failed"])

    @property
    def report(self) -> Path:
        return self.out / "report.html"


def default_out(url: str) -> Path:
    """Beside a local queue; in this folder for one that lies elsewhere."""
    scheme, separator, place = url.partition("://")
    if not separator or scheme == "file":
        folder = Path(place if separator else url)
        folder = folder if folder.name not in ("", "..") else folder.resolve()
        return folder.with_name(f"{folder.name}-results")
    return Path(place.partition("?")[0].rstrip("/").rpartition("/")[2] + "-results")


def collect(store: Store, out: Path) -> Collected:
    """Everything is read and checked before the first file is written; summary.json comes last."""
    run = recipe.require(store)
    names = finished_shards(store)
    results = _read(store, names)
    task_type = registry.find(run.recipe.task)
    task = task_type(params.validate(task_type, run.recipe.params))
    plain = [replace(result, run={}) for result in results]  # a summary must not know how it went
    refused = refused_lines(read_taken(store, [e.name for e in store.list(layout.TAKEN)]))
    summary = {**summarise(run, results, refused), **_own_keys(task.summarise(plain))}
    beats = [Beat.decode(data) for e in store.list(layout.WORKERS) if (data := store.get(e.name))]
    newest = newest_claims(e.name for e in store.list(layout.CLAIMS))
    epochs = {shard: newest[shard].epoch for shard in names if shard in newest}
    went = performance(results, beats, sum(epochs.values()))
    origin = provenance(run, store.url, beats, intake.roots(store), epochs)
    try:
        own(out, run.fingerprint)
        _copy_files(store, out, results)
        head = {"task": run.recipe.task, "fingerprint": run.fingerprint}
        write_whole(out / "final_results.json", document(head, map(encoded, results)))
        write_json(out / "performance.json", went)
        write_json(out / "provenance.json", origin)
        report = html.Report(summary, plain, task.row, went, origin, out)
        write_whole(out / "report.html", [html.render(report).encode(errors="replace")])
        write_json(out / "summary.json", summary)
    except OSError as error:
        raise UsageError(f"{error.filename or out}: {error.strerror}; free room there or give another --out") from None
    return Collected(out, summary)
