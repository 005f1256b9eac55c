"""Boards from where they lie to scores: by the baseline out of a blob store, and by a model that sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny_models
from tests.servers import Server
from tests.workers import end_all, run
from worker.boards import demo
from worker.evaluation.boards import score_boards
from worker.queue.store import open_store

BOARDS = 6


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    demo.make(tmp_path / "PCBData")
    return tmp_path / "PCBData"


def test_a_template_comes_along_with_its_board_from_a_blob_store(
    azurite: Server, labelled: Path, tmp_path: Path
) -> None:
    url = azurite.fresh()
    for file in labelled.rglob("*.jpg"):
        open_store(url).upload(file.relative_to(labelled).as_posix(), file)
    code, said = run("run", tmp_path / "queue", "--task", "pcb-inspect", "--out", tmp_path / "out", url)
    assert code == 0, said
    found = score_boards(tmp_path / "out", labelled).document()
    assert (found["boards"], found["failed"], found["missing"]) == (BOARDS, [], [])
    assert found["deeppcb"]["f1"]["value"] > 0.9


def test_from_boards_to_scores_with_a_model_that_sees(labelled: Path, tmp_path: Path) -> None:
    model = tiny_models.checkpoint(tmp_path / "model", "qwen3_vl", says='[["open",100,200,300,400]]')
    code, said = run(
        *("run", tmp_path / "queue", "--task", "pcb-inspect", "--engine", "qwen", "--model", model),
        *("--device", "cpu", "--set", "templates=true", "--set", "second=baseline"),
        *("--out", tmp_path / "out", labelled / "group00001"),
        timeout=110,
    )
    assert code == 0, said
    lines = json.loads((tmp_path / "out" / "final_results.json").read_text())["results"]
    assert {tuple(one["defects"][0]["box"]) for one in lines} == {(64, 128, 192, 256)}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["boards"], summary["false_alarms"], summary["second"]["boards"]) == (2, 2, 2)
    latency = json.loads((tmp_path / "out" / "performance.json").read_text())["latency"]
    assert latency["p95_s"] >= latency["p50_s"] > 0
    assert latency["tokens"] == 1
    pictures = score_boards(tmp_path / "out", labelled).document()["pictures"]
    assert (pictures["with_defects"], pictures["without"], pictures["false_alarms"]) == (2, 2, 2)
