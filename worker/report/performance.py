"""How it went: seconds, rates and tries. Nothing of this is part of the results."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from worker.items import Json, Result
from worker.queue.beat import Beat
from worker.report.files import shown

SLOWEST = 5


def performance(results: Sequence[Result], beats: Sequence[Beat], claims: int) -> dict[str, Json]:
    """`claims`: how often shards were claimed; more than there are shards means that some were taken over."""
    wall = wall_seconds(beats)
    waited = [beat.info["waited_share"] for beat in beats if beat.info.get("waited_share") is not None]
    return {
        "wall_s": wall,
        "items_per_s": round(len(results) / wall, 4) if wall else None,
        "device_wait_share": round(math.fsum(waited) / len(waited), 4) if waited else None,
        "attempts": claims,
        "workers": _workers(results, beats),
        "item_s": _seconds(results),
        "slowest": _slowest(results),
    }


def wall_seconds(beats: Sequence[Beat]) -> float | None:
    """From the first worker's start to the last beat, pauses between runs included."""
    spans = [
        (beat.at - beat.info["wall_s"], beat.at) for beat in beats if beat.info.get("wall_s") is not None
    ]
    if not spans:
        return None
    return round(float(max(end for _, end in spans) - min(start for start, _ in spans)), 1)


def _workers(results: Sequence[Result], beats: Sequence[Beat]) -> list[Mapping[str, Json]]:
    """Every worker that answered something that counts, or that left a beat."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for result in results:
        if worker := result.run.get("worker"):
            seconds[worker].append(_cost(result))
    infos = {beat.worker: beat.info for beat in beats}
    return [
        {
            "id": worker,
            "device": infos.get(worker, {}).get("device"),
            "host": infos.get(worker, {}).get("host"),
            "items": len(seconds[worker]),
            "seconds": round(math.fsum(seconds[worker]), 3),
            "rate_per_s": infos.get(worker, {}).get("rate_per_s"),
            "waited_share": infos.get(worker, {}).get("waited_share"),
        }
        for worker in sorted(seconds.keys() | infos.keys())
    ]


def _seconds(results: Sequence[Result]) -> Mapping[str, Json]:
    """How the seconds that items took are spread."""
    costs = sorted(_cost(result) for result in results)
    if not costs:
        return {"total": 0.0, "median": None, "p90": None, "max": None}
    return {
        "total": round(math.fsum(costs), 3),
        "median": costs[len(costs) // 2],
        "p90": costs[len(costs) * 9 // 10],
        "max": costs[-1],
    }


def _slowest(results: Sequence[Result]) -> list[Mapping[str, Json]]:
    slowest = sorted(results, key=lambda r: (-_cost(r), r.input))[:SLOWEST]
    return [{"input": shown(r.input), "seconds": _cost(r), "worker": r.run.get("worker")} for r in slowest]


def _cost(result: Result) -> float:
    return float(result.run.get("seconds") or 0.0)
