"""worker run --task merge, killed with all it started: the next one goes on, and the answer is the same."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.workers import PATIENCE_S, end_all, run, worker

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from tests.adapters import synthetic


@pytest.fixture(autouse=True)
def _nothing_stays() -> object:
    yield
    end_all()


def merge(queue: Path, adapter: Path, *more: object) -> tuple[object, ...]:
    return ("run", queue, "--task", "merge", "--set", "into=../merged", "--ttl", "2", *more, adapter)


def test_a_killed_merge_goes_on_where_it_was(tmp_path: Path) -> None:
    synthetic(tmp_path / "base", tmp_path / "adapter", shards=6, megabytes=4)
    into = tmp_path / "merged"
    one = worker(*merge(tmp_path / "queue", tmp_path / "adapter"))
    until = time.monotonic() + PATIENCE_S
    while not list(into.glob("*.safetensors")) and one.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.002)
    one.signal_all(signal.SIGKILL)
    before = {file.name: file.stat().st_ino for file in into.glob("*.safetensors")}
    code, said = run(*merge(tmp_path / "queue", tmp_path / "adapter", "--out", tmp_path / "out"))
    assert code == 0, said
    after = {file.name: file.stat().st_ino for file in into.glob("*.safetensors")}
    assert len(after) == 6
    noted = [name for name, inode in before.items() if after[name] == inode]
    assert len(noted) >= len(before) - 1  # the last one may not have been written down
    (result,) = json.loads((tmp_path / "out" / "final_results.json").read_text())["results"]
    assert (result["changed"], len(result["files"])) == (12, 3)
    assert json.loads((into / "merged.json").read_text())["made_of"]["base"] == result["base"]
