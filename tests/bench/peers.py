"""The same trivial job here and in other queues, in turns on the same machine."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.bench.table import Figure, not_here, show
from tests.servers import azurite, azurite_queue
from tests.workers import ROOT, end_all, run
from worker.queue.emulator import ACCOUNT, KEY

COUNT, LONG_COUNT = 20_000, 100_000
BLOB_COUNT, BLOB_LONG_COUNT = 1_000, 3_000
ROUNDS = 3
"""the median of so many, in turns; the long lists, where a start weighs little, once"""
LIMIT_S = 600.0

Job = Callable[[], float]
"""→ seconds"""


@dataclass(frozen=True, slots=True)
class Peer:
    job: str
    package: str
    keeps: str
    """what survives a power cut, and where an answer is"""
    aim: str = ""


ON_DISK = (
    Peer("huey", "huey", "synced, results kept; an item in hand is lost with its worker", "5 times"),
    Peer("huey_unsynced", "huey", "`fsync=False`, results kept; a power cut may cost all"),
    Peer("persist_queue", "persist-queue", "synced, results in a second queue", "5 times"),
    Peer(
        "litequeue",
        "litequeue",
        "slower the longer the queue; a power cut costs the last items; no results",
        "2 times",
    ),
)
IN_AZURE = (
    Peer("ai4s_jobq", "ai4s-jobq", "no results; the emulator's queue is slower the longer it is", "10 times"),
)


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        places = (Path(folder) / str(number) for number in range(1000))
        for many, some, rounds in ((COUNT, ON_DISK, ROUNDS), (LONG_COUNT, ON_DISK[:1], 1)):
            found = in_turns(jobs(some, many, lambda: str(fresh(places))), rounds)
            yield from rows("in a folder", "synced, results kept", some, many, found)
        yield alone(places)
        for many, rounds in ((BLOB_COUNT, ROUNDS), (BLOB_LONG_COUNT, 1)):
            try:
                with azurite(fresh(places)) as blobs, azurite_queue(fresh(places)) as port:
                    theirs = partial(address, port)
                    found = in_turns(jobs(IN_AZURE, many, blobs.fresh, theirs, blobs.env), rounds)
            except pytest.skip.Exception as skipped:
                found = {job: not_here(skipped) for job in ("", *(p.job for p in IN_AZURE))}
            yield from rows("on Azurite", "results kept", IN_AZURE, many, found)


def jobs(
    some: Sequence[Peer],
    count: int,
    place: Callable[[], str],
    theirs: Callable[[], str] | None = None,
    env: Mapping[str, str] | None = None,
) -> dict[str, Job]:
    """Ours has no name."""
    mine: dict[str, Job] = {"": lambda: ours(place(), count, env)}
    return mine | {peer.job: partial(peers, peer, theirs or place, count) for peer in some}


def alone(places: Iterator[Path]) -> Figure:
    """What a start costs, where nothing makes up for it."""
    one = ON_DISK[0]
    found = in_turns(
        {"": lambda: ours(str(fresh(places)), 1), one.job: partial(peers, one, lambda: str(fresh(places)), 1)}
    )
    told = {
        name: spent if isinstance(spent, str) else f"{spent * 1e3:.0f} ms" for name, spent in found.items()
    }
    return Figure(
        f"one text, no worker running: `worker run` against {named(one.package)}, imports not counted",
        f"{told['']} against {told[one.job]}",
    )


def in_turns(jobs: Mapping[str, Job], rounds: int = ROUNDS) -> dict[str, float | str]:
    """→ the median seconds of each, or why there are none."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    broken: dict[str, str] = {}
    for _ in range(rounds):
        for name, job in jobs.items():
            if name not in broken:
                try:
                    taken[name].append(job())
                except Exception as error:
                    broken[name] = not_here(error)
    return {name: broken.get(name) or statistics.median(taken[name]) for name in jobs}


def rows(
    where: str, kept: str, peers: Sequence[Peer], count: int, found: Mapping[str, float | str]
) -> Iterator[Figure]:
    mine = found[""]
    figure = mine if isinstance(mine, str) else f"{count / mine:,.0f} items/s"
    yield Figure(f"{count:,} texts in upper case, {where}: `worker run`, {kept}, its start included", figure)
    for peer in peers:
        spent = found[peer.job]
        if isinstance(spent, str):
            figure = spent
        elif isinstance(mine, str):
            figure = f"{count / spent:,.0f} items/s"
        else:
            figure = f"{count / spent:,.0f} items/s; `worker run` is {spent / mine:.1f} times as fast"
        yield Figure(f"the same {count:,}: {named(peer.package)}, {peer.keeps}", figure, peer.aim)


def ours(queue: str, count: int, env: Mapping[str, str] | None = None) -> float:
    """Enqueue is not counted; the start of the worker and its last look at the queue are.

    As a worker that is installed it finds its modules compiled."""
    env = {**(env or {}), "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as texts:
        texts.write("\n".join(f"item {number}" for number in range(count)))
        texts.flush()
        must(*run("enqueue", queue, "--task", "shout", texts.name, env=env, timeout=LIMIT_S))
    began = time.perf_counter()
    must(*run("run", queue, "--batch", "64", env=env, timeout=LIMIT_S))
    spent = time.perf_counter() - began
    end_all()
    return spent


def must(code: int, said: str) -> None:
    if code:
        raise RuntimeError(said)


def peers(peer: Peer, place: Callable[[], str], count: int) -> float:
    """In a process of its own; it takes the time itself, behind its imports."""
    version(peer.package)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.peer_jobs", peer.job, place(), str(count)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return float(done.stdout)


def named(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def fresh(places: Iterator[Path]) -> Path:
    place = next(places)
    place.mkdir()
    return place


def address(port: int) -> str:
    """The queue service there, as a connection string."""
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};QueueEndpoint={endpoint};"


if __name__ == "__main__":
    show("peers", figures())
