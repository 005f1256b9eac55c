"""One job in several processes: they are killed, stopped, on several nodes; it ends all the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import lessons
from tests.servers import free_port
from tests.workers import Worker, answers, eventually, finish, processes_of, run, worker
from worker.items import Answer
from worker.queue import layout
from worker.queue.store import open_store

pytest.importorskip("torch")

ENV = {"OMP_NUM_THREADS": "1"}
IMPORTS_S = 240.0
"""torch, in four processes, on a machine that has much else to do"""
STEPS = 40
SLOW = ("--set", "step_s=0.1")


def start(queue: Path, *given: object, env: Mapping[str, str] | None = None) -> Worker:
    return worker("run", queue, "--ttl", "3s", *given, env={**ENV, **(env or {})})


def enqueue(queue: Path, *given: object) -> None:
    code, said = run("enqueue", queue, "one", "--task", "together", "--set", f"steps={STEPS}", *given)
    assert code == 0, said


def until_saved(queue: Path, *those: Worker) -> None:
    """One more checkpoint is whole."""
    before = saved(queue)
    eventually(lambda: saved(queue) != before or any(one.poll() is not None for one in those), IMPORTS_S)
    for one in those:
        assert one.poll() is None, one.said


def saved(queue: Path) -> list[str]:
    found = (entry.name for entry in open_store(str(queue)).list(layout.JOBS))
    return [name for name in found if layout.checkpoint_of(name)]


def rank(one: Worker, number: int) -> int:
    """Its process."""
    named = f"worker-rank-{number}\n"
    return next(pid for pid in processes_of(one.mark) if Path(f"/proc/{pid}/comm").read_text() == named)


def answered(queue: Path) -> dict[str, Any]:
    (one,) = answers(queue).values()
    assert isinstance(one.outcome, Answer)
    assert one.outcome.keys == {"total": sum(range(STEPS + 1)), "best": STEPS}
    return dict(one.run)


def test_two_are_stopped_one_goes_on_and_is_killed_and_two_that_are_killed_leave_nothing(
    tmp_path: Path,
) -> None:
    queue = tmp_path / "queue"
    enqueue(queue, *SLOW, "--set", "hungry=true")
    one = start(queue, "--processes", 2)
    until_saved(queue, one)
    one.signal_all(signal.SIGTERM)  # as a scheduler does
    code, said = finish(one, IMPORTS_S)
    assert code == 75, said
    assert said.count("the next start takes half as many samples at once") == 1

    one = start(queue)
    until_saved(queue, one)
    assert "going on from step" in one.said
    one.signal_all(signal.SIGKILL)
    one.wait()

    one = start(queue, "--processes", 2)
    until_saved(queue, one)
    assert "going on from step" in one.said
    os.kill(one.pid, signal.SIGKILL)
    os.kill(next(p for p in processes_of(one.mark) if "worker-loop" in comm(p)), signal.SIGKILL)
    one.wait()
    eventually(lambda: not [p for p in processes_of(one.mark) if "rank" in comm(p)], 10.0)
    eventually(lambda: not processes_of(one.mark), IMPORTS_S)

    code, said = finish(start(queue), IMPORTS_S)
    assert code == 0, said
    answered(queue)


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def test_two_nodes_do_one_job_and_one_that_is_killed_comes_back(tmp_path: Path) -> None:
    queue, job = tmp_path / "queue", free_port()
    enqueue(queue, *SLOW)
    slurm = {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "127.0.0.[1-2]",
    }
    nodes = [start(queue, env={**slurm, "SLURM_NODEID": str(number)}) for number in range(2)]
    until_saved(queue, *nodes)
    nodes[1].signal_all(signal.SIGKILL)
    nodes[1].wait()
    nodes[1] = start(queue, env={**slurm, "SLURM_NODEID": "1"})
    ends = [finish(one, IMPORTS_S) for one in nodes]
    assert [code for code, _ in ends] == [0, 0], ends
    first, second = (said for _, said in ends)
    assert "node 1 is gone: all begin again once it is back" in first, first
    assert "2 processes on 2 nodes begin, gloo between them" in first
    assert "node 1 of 2, led by 127.0.0.1" in second
    done = answered(queue)
    assert (done["epoch"], done["attempts"]) == (1, 1), "a node that is taken away is no fault of the job"
    claims = [entry.name for entry in open_store(str(queue)).list(layout.CLAIMS)]
    assert len(claims) == 1


def test_a_classifier_of_two_processes_is_the_same_to_the_bit_though_one_of_them_was_killed(
    tmp_path: Path,
) -> None:
    pytest.importorskip("accelerate")
    lesson, queue, out = lessons.write(tmp_path / "lesson"), tmp_path / "queue", tmp_path / "out"
    again = shutil.copy(lesson, lesson.with_name("again.yaml"))
    assert run("enqueue", queue, "--task", "classify-train", lesson, again)[0] == 0
    one = start(queue, "--processes", 2, "--out", out)
    until_saved(queue, one)
    os.kill(rank(one, 1), signal.SIGKILL)
    code, said = finish(one, IMPORTS_S)
    assert code == 0, said
    assert "RankError: rank 1 was ended by SIGKILL" in said, said
    assert "trying again from step" in said
    assert "going on from step" in said
    assert not processes_of(one.mark)
    results = answers(queue).values()
    assert sorted((result.run["epoch"], result.run["attempts"]) for result in results) == [(1, 1), (1, 2)]
    for result in results:
        assert isinstance(result.outcome, Answer)
        assert result.outcome.keys["datasets"] == {"colours": 1.0}
    folders = list((out / "files").iterdir())
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 1
    for folder in folders:
        assert (folder / "record.zip").exists()
        steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert steps == sorted(steps)
        assert steps[-1] == 24
