"""What people see in the output folder while the work goes on: batches in input order, and a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from worker.items import Json
from worker.queue.recipe import Run
from worker.queue.store import Store
from worker.queue.tally import Count, Tally
from worker.queue.text import encode
from worker.report.collect import read_beats
from worker.report.files import refuse_other, shown, write_whole
from worker.report.record import document, encoded

BATCH = 50


class Views:
    """For people alone: nothing reads them, and any worker may rewrite them at any time."""

    def __init__(self, store: Store, run: Run, out: Path) -> None:
        self._store = store
        self._run = run
        self._out = out
        self._tally = Tally(store, encoded)
        self._written: dict[str, bytes] = {}

    def refresh(self) -> None:
        refuse_other(self._out, self._run.fingerprint)
        self._out.mkdir(parents=True, exist_ok=True)
        count = self._tally.look()
        order = sorted(count.items, key=lambda item: (count.items[item].input, item))
        for start in range(0, len(order), BATCH):
            answered = [item for item in order[start : start + BATCH] if item in count.answers]
            if answered:
                self._write_batch(1 + start // BATCH, [count.answers[item] for item in answered])
        self._write("checkpoint.json", [encode(self._checkpoint(count, order)), b"\n"])

    def _write_batch(self, number: int, lines: Sequence[bytes]) -> None:
        head = {"task": self._run.recipe.task, "fingerprint": self._run.fingerprint, "batch": number}
        self._write(f"results_batch_{number:04}.json", document(head, lines))

    def _checkpoint(self, count: Count[bytes], order: Sequence[str]) -> Json:
        hands = {item for beat in read_beats(self._store) for item in beat.hand}

        def inputs(wanted: Iterable[str]) -> list[str]:
            return [shown(count.items[item].input) for item in wanted]

        done = inputs(i for i in order if i in count.answers and i not in count.failed)
        in_hand = inputs(i for i in order if i in hands and i in count.open)
        failed = inputs(i for i in order if i in count.failed)
        return {
            "task": self._run.recipe.task,
            "fingerprint": self._run.fingerprint,
            "counts": {
                "total": len(order),
                "done": len(done),
                "in_hand": len(in_hand),
                "failed": len(failed),
            },
            "done": done,
            "in_hand": in_hand,
            "failed": failed,
        }

    def _write(self, name: str, chunks: Iterable[bytes]) -> None:
        content = b"".join(chunks)
        digest = hashlib.sha256(content).digest()
        file = self._out / name
        if name not in self._written and file.exists():
            self._written[name] = hashlib.sha256(file.read_bytes()).digest()
        if self._written.get(name) != digest:
            write_whole(file, [content])
            self._written[name] = digest
