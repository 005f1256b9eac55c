"""How busy a worker keeps an endpoint whose answers take now short and now long, and what that costs."""

from __future__ import annotations

import heapq
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.table import Figure, show
from tests.endpoint import Call, Handler, Turn, completion, serving
from tests.workers import finish, run, worker

ITEMS = 240
AT_ONCE = 8
MEDIAN_S, SPREAD = 0.4, 0.8
"""of a lognormal: one answer in twenty takes four times as long as the median"""


def figures() -> Iterator[Figure]:
    shares = [kept_busy(seed) for seed in (1, 2, 3)]
    yield Figure(
        f"openai, {AT_ONCE} at once, {ITEMS} answers of {MEDIAN_S:g} s, lognormal {SPREAD:g}: "
        "least time that is possible, whoever is free asking the next, as a share of ours",
        " ".join(f"{share:.2f}" for share in shares),
        "0.90",
    )


def kept_busy(seed: int) -> float:
    """From the first question to the last answer, against who asks the next one at that very moment."""
    chance = random.Random(seed)
    lasts = [chance.lognormvariate(0.0, SPREAD) * MEDIAN_S for _ in range(ITEMS)]
    ends: list[float] = []
    with serving() as server, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server.turns = [lasting(seconds, ends) for seconds in lasts]
        queue = Path(folder) / "queue"
        recipe = ("--task", "asking", "--engine", "openai", "--model", "bench")
        run("enqueue", queue, *recipe, *(f"q{n}" for n in range(ITEMS)))
        keys = {"OPENAI_BASE_URL": server.url, "AZURE_OPENAI_ENDPOINT": "", "NO_PROXY": "127.0.0.1"}
        code, said = finish(
            worker("run", queue, env={**keys, "WORKER_CONCURRENCY": f"{AT_ONCE}"}), timeout=600
        )
        assert code == 0, said
        assert server.most_busy <= AT_ONCE
        begun = min(call.at for call in server.asked)
    return least(lasts) / (max(ends) - begun)


def least(lasts: Sequence[float]) -> float:
    free = [0.0] * AT_ONCE
    for seconds in lasts:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def lasting(seconds: float, ends: list[float]) -> Turn:
    def turn(call: Call, handler: Handler) -> None:
        handler.told.over.wait(call.at + seconds - time.monotonic())
        ends.append(time.monotonic())
        handler.send(200, completion())

    return turn


if __name__ == "__main__":
    show("openai", figures())
