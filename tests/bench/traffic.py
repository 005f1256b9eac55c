"""What a run asks of its store, counted on the wire; and what waiting workers ask of it."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.counter import Tally, counting
from tests.bench.peers import IN_AZURE, address, must, named, peers
from tests.bench.table import Figure, not_here, show
from tests.bench.tails import Tail
from tests.bench.waiting import ITEM_S, takeovers, waiting
from tests.servers import azurite, azurite_queue
from tests.simulator import Faults
from tests.workers import end_all, run
from worker.queue.protocol import shard_size

COUNT = 1_000
IDLE = 49
DAY_H = 24
SEEDS = range(3)


def figures() -> Iterator[Figure]:
    try:
        yield from of_a_run()
    except pytest.skip.Exception as skipped:
        yield Figure(f"requests for {COUNT:,} items", not_here(skipped))
    try:
        yield of_a_peer()
    except (Exception, pytest.skip.Exception) as error:
        yield Figure(f"requests for {COUNT:,} items, {named(IN_AZURE[0].package)}", not_here(error))
    yield from of_idle_workers()
    yield from of_takeovers()


def of_a_run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, azurite(Path(folder)) as blobs:
        url = blobs.env["AZURITE_BLOB_STORAGE_URL"]
        with counting(int(url.rpartition(":")[2])) as (port, tally):
            env = {**blobs.env, "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}"}
            queue = blobs.fresh()
            texts = Path(folder) / "texts.txt"
            texts.write_text("\n".join(f"item {number}" for number in range(COUNT)))
            for what, arguments in (
                ("enqueue", ("enqueue", queue, "--task", "shout", texts)),
                ("run by one worker", ("run", queue, "--batch", "64")),
                ("collect", ("collect", queue, "--out", Path(folder) / "out")),
            ):
                must(*run(*arguments, env=env, timeout=300))
                yield Figure(f"requests for {COUNT:,} items on blobs: {what}", told(tally))
                tally.clear()
            end_all()


def of_a_peer() -> Figure:
    peer = IN_AZURE[0]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        azurite_queue(Path(folder)) as service,
        counting(service) as (port, tally),
    ):
        peers(peer, lambda: address(port), COUNT)
    return Figure(
        f"requests for {COUNT:,} items: {named(peer.package)}, {peer.keeps}, enqueue and run", told(tally)
    )


def of_idle_workers() -> Iterator[Figure]:
    busy = Tail(
        1,
        Faults(),
        items=COUNT,
        shard_size=shard_size(ITEM_S),
        workers=1,
        seconds_per_item=ITEM_S,
        spread=lambda chance: ITEM_S * chance.uniform(0.5, 1.5),
    )
    busy.run(until=1e6)
    a_minute = busy.world.calls.total() * 60 / (busy.done_at or 0)
    sim = waiting(IDLE, hours=DAY_H)
    rates = []
    for start_h, end_h in ((0, 1 / 6), (2, 3)):
        sim.go_on(start_h * 3600)
        before = sim.calls_of_the_idle
        sim.go_on(end_h * 3600)
        rates.append((sim.calls_of_the_idle - before) / (end_h - start_h) / 60)
    sim.go_on(DAY_H * 3600)
    a_day = sim.calls_of_the_idle
    sim.world.close()
    yield Figure(
        f"{IDLE} workers wait beside a long shard, TTL {sim.ttl:g} s (in virtual time)",
        f"together {rates[0]:.0f} requests a minute in the first ten, {rates[1]:.1f} after two hours; "
        f"a busy one with items of {ITEM_S:g} s and shards of a minute {a_minute:.1f}",
        "together no more than a busy one",
    )
    yield Figure(f"the same, the first day: requests of all {IDLE}", f"{a_day:,}")


def of_takeovers() -> Iterator[Figure]:
    for idle, busy, deaths, minutes, lookout in (
        (1, 1, 1, 120, False),
        (IDLE, 1, 1, 120, False),
        (IDLE, 1, 1, 120, True),
        (20, 20, 10, 20, False),
        (20, 20, 10, 120, False),
    ):
        taken = [
            spent
            for seed in SEEDS
            for spent in takeovers(
                idle, busy=busy, deaths=deaths, lookout=lookout, hours=minutes / 60, seed=seed
            )
        ]
        assert len(taken) == deaths * len(SEEDS), "not taken over within an hour"
        who = f"{deaths} of {busy} busy machines" + (" and the one that looks out" if lookout else "")
        yield Figure(
            f"{who} gone at once, {idle} waiting for {minutes} minutes (in virtual time)",
            f"taken over: median {statistics.median(taken):.0f} s, worst {max(taken):.0f} s",
        )


def told(tally: Tally) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.calls.items()))
    return f"{tally.total:,} ({kinds}); {tally.sent / 1e3:,.0f} kB up, {tally.received / 1e3:,.0f} kB down"


if __name__ == "__main__":
    show("traffic", figures())
