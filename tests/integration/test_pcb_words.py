"""What a merged model says in inspection is what its adapter said in training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import tiny_models
from tests.workers import end_all, run
from worker.boards import demo
from worker.boards.asking import question
from worker.engines.choice import Choice
from worker.engines.engine import Reply
from worker.engines.qwen import Qwen
from worker.evaluation.boards import score_boards

pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("peft", reason="peft is not installed")

TOKENS = 16
CONFIG = f"""
model: {{name: base, use_4bit: false}}
data: {{pictures: PCBData}}
training: {{max_steps: 3, learning_rate: 1e-2, batch_size: 2, gradient_accumulation_steps: 1}}
validation: {{boards: 99, max_tokens: {TOKENS}}}
monitor: {{all_freq: {{eval_log_freq: 3}}}}
"""


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    end_all()


def work(folder: Path, task: str, *more: object) -> Path:
    code, said = run(
        *("run", folder / f"{task}-queue", "--task", task, "--device", "cpu", "--out", folder / task, *more),
        timeout=280,
    )
    assert code in (0, 1), said
    return folder / task


def files(out: Path) -> Path:
    (only,) = (out / "files").iterdir()
    return only


def test_from_labels_to_scores(tmp_path: Path) -> None:
    demo.make(tmp_path / "PCBData")
    tiny_models.checkpoint(tmp_path / "base", "qwen2_5_vl", wide=0.05)
    still = tmp_path / "base" / "preprocessor_config.json"
    still.write_text(json.dumps({**json.loads(still.read_text()), "max_pixels": 50_176}))  # 224x224: quick
    (tmp_path / "config.yaml").write_text(CONFIG)
    told = ("--set", "family=qwen2.5-vl", "--set", "held_out=0.4")
    converted = files(work(tmp_path, "pcb-convert", *told, tmp_path / "PCBData" / "trainval.txt"))
    trained = work(tmp_path, "pcb-train", "--set", f"data={converted}", tmp_path / "config.yaml")
    adapter = files(trained)
    into = ("--set", f"into={tmp_path / 'ours'}")
    merged = work(tmp_path, "merge", *into, adapter / "adapter_model.safetensors")
    for one in (trained, merged):
        assert json.loads((one / "summary.json").read_text())["ok"] == 1
    model = ("--engine", "qwen", "--model", tmp_path / "ours", "--set", f"max_tokens={TOKENS}")
    inspected = work(tmp_path, "pcb-inspect", *model, tmp_path / "PCBData" / "group00001")
    found = score_boards(inspected, tmp_path / "PCBData").document()
    assert (found["boards"], len(found["missing"])) == (2, 4)
    code, said = run("evaluate", inspected, "--labels", tmp_path / "PCBData")
    assert code == 0, said
    says_in_inspection_what_it_said_in_training(tmp_path, adapter)


def says_in_inspection_what_it_said_in_training(folder: Path, adapter: Path) -> None:
    """Letter by letter: the same pictures, words and numbers."""
    engine = Qwen(Choice("qwen", "ours", file=folder / "ours"))
    engine.open("cpu")
    answers = [json.loads(line) for line in (adapter / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 4  # two boards and their templates
    for one in answers:
        asked = question(
            folder / "PCBData" / one["picture"],
            None,
            role="board",
            family="qwen2.5-vl",
            resizing=engine.resizing,
            lang="en",
            max_tokens=TOKENS,
            second=None,
        ).request
        (reply,) = engine.answer([replace(asked, schema=None)])  # in training no answer is held to a form
        assert isinstance(reply, Reply)
        assert reply.text == one["said"] != ""
    engine.close()
