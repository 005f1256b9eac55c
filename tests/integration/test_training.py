"""A classifier is trained by workers that die, and then asked."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests import lessons
from tests.workers import answers, eventually, finish, run, worker
from worker.items import Answer
from worker.queue import layout
from worker.queue.store import open_store

pytest.importorskip("torch")
pytest.importorskip("accelerate")

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
IMPORTS_S = 240.0
"""torch and transformers, on a machine that has much else to do"""


def test_a_classifier_is_trained_through_a_kill_and_a_stop_and_then_answers(tmp_path: Path) -> None:
    lesson, queue, out = lessons.write(tmp_path / "lesson"), tmp_path / "queue", tmp_path / "out"
    assert run("enqueue", queue, "--task", "classify-train", lesson)[0] == 0
    store = open_store(str(queue))

    def saved() -> set[str]:
        return {entry.name for entry in store.list(layout.JOBS) if layout.checkpoint_of(entry.name)}

    for way in (signal.SIGKILL, signal.SIGTERM):
        before = saved()
        one = worker("run", queue, "--ttl", "2s", env=ONE_THREAD)
        eventually(lambda before=before, one=one: one.poll() is not None or saved() - before, IMPORTS_S)
        one.signal_all(way) if way == signal.SIGKILL else one.send_signal(way)
        finish(one, IMPORTS_S)
    code, said = run("run", queue, "--out", out, env=ONE_THREAD, timeout=IMPORTS_S)
    assert code == 0, said
    (result,) = answers(queue).values()
    assert isinstance(result.outcome, Answer)
    assert result.outcome.keys["datasets"] == {"colours": 1.0}
    (folder,) = (out / "files").iterdir()
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 24
    assert {"predictions.csv", "confusion.csv", "classes.csv", "left_out.csv"} <= {
        one.name for one in folder.iterdir()
    }
    assert (folder / "confusion.csv").read_text().splitlines()[1:] == ["blue,8,0", "red,0,8"]
    assert "How it learned" in (out / "report.html").read_text()

    asked, told = tmp_path / "asked", tmp_path / "told"
    pictures = sorted((tmp_path / "lesson" / "colours" / "test").rglob("*.png"))
    code, said = run(
        "run",
        asked,
        "--task",
        "classify",
        "--model",
        folder,
        "--out",
        told,
        *pictures,
        env=ONE_THREAD,
        timeout=IMPORTS_S,
    )
    assert code == 0, said
    for name, one in answers(asked).items():
        assert isinstance(one.outcome, Answer)
        assert one.outcome.keys["class"] == Path(name).parent.name
