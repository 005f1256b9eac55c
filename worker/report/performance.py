"""How it went: seconds, rates and tries. Nothing of this is part of the results."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from worker.items import Json
from worker.queue.beat import Beat
from worker.queue.finals import Spent
from worker.report.files import shown

SLOWEST = 5
SLOWEST_KEPT = 1000
"""candidates, before the slowest of them are sorted out"""


def performance(spent: Iterable[Spent], beats: Sequence[Beat], claims: int) -> dict[str, Json]:
    """`claims`: how often shards were claimed; more attempts than shards mean that some were taken over, or
    that jobs which raised were tried again."""
    wall, (items, went) = wall_seconds(beats), _of_items(spent, beats, claims)
    waited = [beat.info["waited_share"] for beat in beats if beat.info.get("waited_share") is not None]
    return {
        "wall_s": wall,
        "items_per_s": round(items / wall, 4) if wall else None,
        "device_wait_share": round(math.fsum(waited) / len(waited), 4) if waited else None,
        **went,
    }


def spent_together(beats: Iterable[Beat]) -> dict[str, float]:
    """What the workers' devices did, by their tasks' own account."""
    together: defaultdict[str, float] = defaultdict(float)
    for beat in beats:
        for key, value in (beat.info.get("spent") or {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                together[key] += value
    return dict(together)


def wall_seconds(beats: Sequence[Beat]) -> float | None:
    """From the first worker's start to the last beat, pauses between runs included."""
    spans = [
        (beat.at - beat.info["wall_s"], beat.at) for beat in beats if beat.info.get("wall_s") is not None
    ]
    if not spans:
        return None
    return round(float(max(end for _, end in spans) - min(start for start, _ in spans)), 1)


def _of_items(spent: Iterable[Spent], beats: Sequence[Beat], claims: int) -> tuple[int, dict[str, Json]]:
    """How many; and the rest in one go, for there may be a million of them."""
    costs = array("d")
    workers: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
    slowest: list[tuple[float, str, Json]] = []
    again = 0
    for input, seconds, worker, attempts in spent:
        again += attempts - 1
        cost = seconds or 0.0
        costs.append(cost)
        if worker:
            workers[worker].append(cost)
        slowest.append((-cost, input, worker))
        if len(slowest) > SLOWEST_KEPT:
            slowest = _first(slowest)
    return len(costs), {
        "attempts": claims + again,
        "workers": _workers(workers, beats),
        "item_s": _seconds(sorted(costs)),
        "slowest": [
            {"input": shown(input), "seconds": -cost, "worker": worker}
            for cost, input, worker in _first(slowest)
        ],
    }


def _first(slowest: list[tuple[float, str, Json]]) -> list[tuple[float, str, Json]]:
    return sorted(slowest, key=lambda one: one[:2])[:SLOWEST]


def _workers(seconds: Mapping[str, Sequence[float]], beats: Sequence[Beat]) -> list[Mapping[str, Json]]:
    """Every worker that answered something that counts, or that left a beat."""
    infos = {beat.worker: beat.info for beat in beats}
    return [
        {
            "id": worker,
            "device": infos.get(worker, {}).get("device"),
            "host": infos.get(worker, {}).get("host"),
            "items": len(seconds.get(worker, ())),
            "seconds": round(math.fsum(seconds.get(worker, ())), 3),
            "rate_per_s": infos.get(worker, {}).get("rate_per_s"),
            "waited_share": infos.get(worker, {}).get("waited_share"),
            **_planned(infos.get(worker, {})),
        }
        for worker in sorted(seconds.keys() | infos.keys())
    ]


def _planned(info: Mapping[str, Json]) -> Mapping[str, Json]:
    """What was expected of its device, beside what was measured."""
    planned = (info.get("spent") or {}).get("planned")
    return {"planned": planned} if planned else {}


def _seconds(costs: Sequence[float]) -> Mapping[str, Json]:
    """How the seconds that items took are spread; `costs` are sorted."""
    if not costs:
        return {"total": 0.0, "median": None, "p90": None, "max": None}
    return {
        "total": round(math.fsum(costs), 3),
        "median": costs[len(costs) // 2],
        "p90": costs[len(costs) * 9 // 10],
        "max": costs[-1],
    }
