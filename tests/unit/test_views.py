"""What people see in the output folder while the work goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.queues import QueueUnderTest
from worker.errors import UsageError
from worker.items import Failure
from worker.report.views import Views

BROKEN = Failure("broken", "it does not open")


@pytest.fixture
def queue() -> QueueUnderTest:
    return QueueUnderTest()


def read(file: Path) -> Any:
    return json.loads(file.read_bytes())


def test_batches_hold_fifty_items_each_in_input_order(queue: QueueUnderTest, tmp_path: Path) -> None:
    inputs = [f"{n:03}" for n in range(120)]
    queue.commit(queue.shard(*inputs[60:]))
    queue.commit(queue.shard(*inputs[:60]))
    Views(queue.store, queue.run, tmp_path).refresh()
    batches = sorted(tmp_path.glob("results_batch_*.json"))
    assert [file.name for file in batches] == [f"results_batch_000{n}.json" for n in (1, 2, 3)]
    found = [[result["input"] for result in read(file)["results"]] for file in batches]
    assert [len(batch) for batch in found] == [50, 50, 20]
    assert [input for batch in found for input in batch] == inputs


def test_only_what_is_answered_so_far_stands_there(queue: QueueUnderTest, tmp_path: Path) -> None:
    inputs = [f"{n:03}" for n in range(120)]
    shard = queue.shard(*inputs)
    queue.part(shard, [queue.result("003"), queue.result("001", BROKEN), queue.result("110")])
    queue.beat("w1", hand=["002", "003"])
    Views(queue.store, queue.run, tmp_path).refresh()
    assert [r["input"] for r in read(tmp_path / "results_batch_0001.json")["results"]] == ["001", "003"]
    assert not (tmp_path / "results_batch_0002.json").exists()
    checkpoint = read(tmp_path / "checkpoint.json")
    assert [checkpoint[key] for key in ("done", "in_hand", "failed")] == [["003", "110"], ["002"], ["001"]]
    assert checkpoint["counts"] == {"total": 120, "done": 2, "in_hand": 1, "failed": 1}


def test_a_batch_that_did_not_change_is_not_written_again(queue: QueueUnderTest, tmp_path: Path) -> None:
    shard = queue.shard(*(f"{n:03}" for n in range(60)))
    queue.part(shard, [queue.result("001"), queue.result("055")])
    views = Views(queue.store, queue.run, tmp_path)
    views.refresh()
    before = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
    queue.part(shard, [queue.result("056")], number=2)
    views.refresh()
    Views(queue.store, queue.run, tmp_path).refresh()
    after = {file.name: file.stat().st_ino for file in tmp_path.iterdir()}
    changed = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    assert changed == {"results_batch_0002.json", "checkpoint.json"}


def test_the_results_of_another_recipe_are_left_alone(queue: QueueUnderTest, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"fingerprint": "other"}')
    with pytest.raises(UsageError, match="another recipe"):
        Views(queue.store, queue.run, tmp_path).refresh()
