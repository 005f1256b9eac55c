"""A classifier is trained by workers that die, and then asked."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests import lessons, tiny_models
from tests.workers import answers, eventually, finish, run, worker
from worker.errors import ItemError
from worker.items import Answer
from worker.queue import layout
from worker.queue.store import open_store
from worker.training import beginning

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

    with pytest.raises(ItemError, match=r"no such checkpoint, it has those of step .*24"):
        beginning.find(f"{queue}/checkpoint-7", tmp_path, tmp_path / "room")
    longer = lesson.with_name("longer.yaml")
    longer.write_text(lesson.read_text().replace("max_steps: 24", "max_steps: 28"))
    more, begun = tmp_path / "more", ("--set", f"resume_from={queue}/checkpoint-24")
    code, said = run(
        "run", more, "--task", "classify-train", *begun, longer, env=ONE_THREAD, timeout=IMPORTS_S
    )
    assert code == 0, said
    (result,) = answers(more).values()
    assert isinstance(result.outcome, Answer)
    assert result.outcome.keys["steps"] == 28
    (metrics,) = (tmp_path / "more-results" / "files").glob("*/metrics.jsonl")
    assert json.loads(metrics.read_text().splitlines()[0])["step"] == 24, (
        "tried as it was found, then trained"
    )

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


def test_what_no_machine_holds_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    """Its weights are not even there."""
    lesson, queue = lessons.write(tmp_path / "lesson"), tmp_path / "queue"
    config = tiny_models.seven_billion()
    config.text_config.hidden_size, config.text_config.intermediate_size = 28672, 229376
    tiny_models.outline(tmp_path / "lesson" / "huge", config)
    lesson.write_text(lesson.read_text().replace("pretrained_name: base", "pretrained_name: huge"))
    code, said = run("run", queue, "--task", "classify-train", lesson, env=ONE_THREAD, timeout=IMPORTS_S)
    assert code == 3, said
    told = [line for line in said.splitlines() if "GB to be trained (full), one sample at a time" in line]
    assert len(told) == 1, said
    assert "Traceback" not in said
    assert "a checkpoint takes" in said  # what it would take was told before
