"""What a run asks of its store, counted on the wire; and what waiting workers ask of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.counter import Tally, counting
from tests.bench.peers import IN_AZURE, address, must, named, peers
from tests.bench.table import Figure, not_here, show
from tests.servers import azurite, azurite_queue
from tests.simulator import Faults, Simulation
from tests.workers import end_all, run
from worker.queue import layout
from worker.queue.text import decode

COUNT = 1_000
WORKERS = 50
ITEM_S = 10.0
SETTLED_S, WINDOW_S = 300.0, 600.0


def figures() -> Iterator[Figure]:
    try:
        yield from of_a_run()
    except pytest.skip.Exception as skipped:
        yield Figure(f"requests for {COUNT:,} items", not_here(skipped))
    try:
        yield of_a_peer()
    except (Exception, pytest.skip.Exception) as error:
        yield Figure(f"requests for {COUNT:,} items, {named(IN_AZURE[0].package)}", not_here(error))
    yield of_idle_workers()


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


def of_idle_workers() -> Figure:
    """In virtual time, with the real claims and hearts: one worker holds the only shard, the others wait."""
    sim = Simulation(1, Faults(until=0), items=200, shard_size=200, workers=WORKERS, seconds_per_item=ITEM_S)
    for number in range(WORKERS):
        sim._start(f"w{number}", delay=sim.world.random.uniform(0, 5))
    try:
        sim.world.run(1e9, stop=lambda: sim.world.time >= SETTLED_S)
        before = sim.world.calls_of.copy()
        sim.world.run(1e9, stop=lambda: sim.world.time >= SETTLED_S + WINDOW_S)
        rates = {name: (n - before[name]) * 60 / WINDOW_S for name, n in sim.world.calls_of.items()}
    finally:
        sim.world.close()
    busy = holder(sim)
    idle = [rate for name, rate in rates.items() if name != busy]
    return Figure(
        f"{len(idle)} workers wait, one works {ITEM_S:g} s an item, TTL {sim.ttl:g} s (in virtual time)",
        f"{sum(idle) / len(idle):.1f} store calls a minute each, {sum(idle):.0f} together; "
        f"the busy one {rates[busy]:.1f}",
        "together no more than a busy one",
    )


def holder(sim: Simulation) -> str:
    claim = next(data for name, data in sim.store.objects.items() if name.startswith(layout.CLAIMS))
    return str(decode(claim)["worker"])


def told(tally: Tally) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.calls.items()))
    return f"{tally.total:,} ({kinds}); {tally.sent / 1e3:,.0f} kB up, {tally.received / 1e3:,.0f} kB down"


if __name__ == "__main__":
    show("traffic", figures())
