"""Which node of how many this is, as SLURM or a person says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass

from worker.errors import UsageError

PORTS = range(20000, 30000)
"""one of them for each job of SLURM: below those that kernels give away by themselves"""
STEPS = 7
"""ports between one job and the next: a job may have several steps"""


@dataclass(frozen=True, slots=True)
class Node:
    """One of several machines that do one job together. Only the first one claims."""

    rank: int = 0
    count: int = 1
    host: str = "127.0.0.1"
    """of the first one, where the others find it"""
    port: int = 0

    @property
    def follows(self) -> bool:
        return self.rank > 0


def said(count: int | None, rank: int | None, meeting: str | None, environment: Mapping[str, str]) -> Node:
    """What a person said counts; then SLURM's word, for what `srun` starts; then what torchrun is told by."""
    if count == 1:
        return Node()
    if count is None and rank is None and meeting is None:
        return _of_slurm(environment) or _of_torchrun(environment) or Node()
    if count is None or rank is None or not meeting:
        raise UsageError("several nodes need all of --nodes, --node-rank and --meet-at HOST:PORT")
    return _checked(rank, count, *_place(meeting))


def alone(environment: MutableMapping[str, str]) -> None:
    """Who works alone joins nobody. Platforms that start several containers say so in torch's own words, and
    accelerate would take them for ours, and wait."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        environment.pop(name, None)


def expand(nodes: str) -> Iterator[str]:
    """SLURM's lists: a1, gpu[01-03,7], rack[1-2]n[1-2]"""
    for one in re.findall(r"(?:[^,\[]|\[[^\]]*\]?)+", nodes):
        yield from _expand(one.strip())


def _expand(one: str) -> Iterator[str]:
    before, opened, rest = one.partition("[")
    if not opened:
        yield one
        return
    ranges, closed, after = rest.partition("]")
    if not closed:
        raise UsageError(f"a list of nodes names {one!r}, whose bracket is not closed")
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UsageError(f"a list of nodes names {one!r}: {part!r} is no number and no range")
        for number in range(int(first), int(last or first) + 1):
            for end in _expand(after):
                yield f"{before}{number:0{len(first)}d}{end}"


def _of_slurm(environment: Mapping[str, str]) -> Node | None:
    """Of a step that `srun` started. A batch script itself runs on one node, however many its job has."""
    count = _number(environment, "SLURM_STEP_NUM_NODES")
    if count is None or count < 2:
        return None
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS") or count
    if tasks != count:
        raise UsageError(
            f"SLURM starts {tasks} workers on {count} nodes: one a node starts a process a card "
            "by itself (srun --ntasks-per-node=1); --nodes 1 lets each work alone"
        )
    hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    rank, first = _number(environment, "SLURM_NODEID"), next(expand(hosts), "")
    if rank is None or not first:
        raise UsageError(
            "SLURM says no SLURM_NODEID or no list of nodes: say --nodes, --node-rank, --meet-at"
        )
    job, step = _number(environment, "SLURM_JOB_ID") or 0, _number(environment, "SLURM_STEP_ID") or 0
    return _checked(rank, count, first, PORTS[(STEPS * job + step) % len(PORTS)])


def _of_torchrun(environment: Mapping[str, str]) -> Node | None:
    count, rank = _number(environment, "NNODES"), _number(environment, "NODE_RANK")
    host, port = environment.get("MASTER_ADDR"), _number(environment, "MASTER_PORT")
    if count is None or count < 2 or rank is None or not host or not port:
        return None
    return _checked(rank, count, host, port)


def _checked(rank: int, count: int, host: str, port: int) -> Node:
    if not 0 <= rank < count:
        raise UsageError(f"node {rank} of {count}: nodes are counted from 0 to {count - 1}")
    return Node(rank, count, host, port)


def _place(meeting: str) -> tuple[str, int]:
    host, _, port = meeting.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"--meet-at {meeting}: write HOST:PORT, a port of node 0 that the others reach")
    return host, int(port)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
