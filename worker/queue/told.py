"""What `worker status --json` says elsewhere, as it is here."""

from __future__ import annotations

from worker.items import Json
from worker.queue.census import FailedItem
from worker.queue.progress import Progress, WorkerLine


def progress_of(told: Json) -> Progress:
    """The other way of Progress.as_json."""
    shards, items, eta = told["shards"], told["items"], told["eta_s"]
    return Progress(
        task=told["task"],
        fingerprint=told["fingerprint"],
        shards=shards["total"],
        done=shards["done"],
        claimed=shards["claimed"],
        total=items["total"],
        answered=items["answered"],
        failed=items["failed"],
        rate_per_s=told["rate_per_s"],
        eta_s=(eta[0], eta[1]) if eta else None,
        workers=[WorkerLine(one["id"], one["live"], one["beat_age_s"], one, True) for one in told["workers"]],
        failures=told["failures"]["kinds"],
        examples=[FailedItem(**one) for one in told["failures"]["examples"]],
        inbox=told["inbox"],
        refused=told["refused"],
        superseded=told["superseded"],
    )
