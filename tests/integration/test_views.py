"""The process that draws the views of a run, beside a real worker."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.tasks.sayings import HASTE
from tests.workers import Worker, eventually, finish, processes_of, run, worker
from worker.viewing import LAST_LOOK_S


def views_of(one: Worker) -> list[int]:
    return [pid for pid in processes_of(one.mark) if about(pid, "comm").strip() == "worker-views"]


def about(pid: int, file: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{file}").read_text()
    return ""


def test_it_gives_way_dies_with_the_worker_and_takes_a_last_look(tmp_path: Path) -> None:
    queue, out = tmp_path / "queue", tmp_path / "out"
    assert run("enqueue", queue, "--task", "shout", "one")[0] == 0
    one = worker("run", queue, "--out", out, "--follow")
    (views,) = eventually(lambda: views_of(one))
    nicer = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    eventually(lambda: os.getpriority(os.PRIO_PROCESS, views) == nicer)
    working = int(about(views, "status").partition("PPid:")[2].split()[0])
    os.kill(working, signal.SIGKILL)
    eventually(lambda: not about(views, "comm"))
    assert not (out / "checkpoint.json").exists(), "a first look after 30 s, or at the end"
    eventually(lambda: views_of(one))
    one.signal_all(signal.SIGTERM)  # as `scancel --full` does
    code, said = finish(one)
    assert code == 0, said
    # who is told to stop waits but a moment for the last look, and a slow machine needs more than that
    if "not up to date" not in said:
        assert json.loads((out / "checkpoint.json").read_bytes())["done"] == ["one"]
    eventually(lambda: not processes_of(one.mark))


def test_views_that_cannot_be_written_cost_a_line_and_no_answer(tmp_path: Path) -> None:
    queue, out = tmp_path / "queue", tmp_path / "out"
    (out / "checkpoint.json").mkdir(parents=True)
    code, said = run("run", queue, "--task", "shout", "--out", out, "one")
    assert code == 0, said
    assert "WARNING the views of the run are not up to date: " in said
    assert (out / "final_results.json").exists()


def test_a_last_look_that_hangs_holds_up_nobody_who_is_told_to_stop(tmp_path: Path) -> None:
    queue, out = tmp_path / "queue", tmp_path / "out"
    assert run("enqueue", queue, "--task", "shout", "one")[0] == 0
    one = worker("run", queue, "--out", out, "--follow")
    (views,) = eventually(lambda: views_of(one))
    os.kill(views, signal.SIGSTOP)
    began = time.monotonic()
    one.signal_group(signal.SIGTERM)
    code, said = finish(one)
    assert code == 0, said
    assert time.monotonic() - began < LAST_LOOK_S
    eventually(lambda: not processes_of(one.mark))


def test_views_whose_process_was_killed_are_drawn_at_the_end_all_the_same(tmp_path: Path) -> None:
    queue, out, haste = tmp_path / "queue", tmp_path / "out", tmp_path / "haste"
    assert run("enqueue", queue, "--task", "sleepy", "--set", "seconds=600", "one")[0] == 0
    one = worker("run", queue, "--out", out, env={HASTE: str(haste)})
    (views,) = eventually(lambda: views_of(one))
    os.kill(views, signal.SIGKILL)
    haste.touch()
    code, said = finish(one)
    assert code == 0, said
    assert json.loads((out / "checkpoint.json").read_bytes())["done"] == ["one"]
