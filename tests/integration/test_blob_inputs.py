"""Inputs that lie in a container: named by prefix, by name, by list; known and fetched like files."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server
from tests.workers import answers, end_all, eventually, run, worker
from worker.inputs import OpenInput
from worker.items import Answer, Item
from worker.queue.lines import Refused
from worker.queue.store import open_store
from worker.scratch import FOLDER, sweep
from worker.sources import find, resolve
from worker.tasks.task import MapTask, Params


class Watch(MapTask[Params, Item]):
    name = "watch"
    suffixes = frozenset({".mp4"})


@pytest.fixture(params=["azurite", "s3"])
def container(request: pytest.FixtureRequest) -> str:
    """A container with some blobs in it."""
    server: Server = request.getfixturevalue(request.param)
    url = server.fresh()
    store = open_store(url)
    for name in ("a.mp4", "x/b.MP4", "x/视频 1.mp4", "x/notes.md", "x/deep/100%.mp4", ".hidden/c.mp4"):
        store.put(name, name.encode() * 20_000)
    store.put("x/empty.mp4", b"")
    return url


def items(*paths: str, root: str | None = None) -> list[Item]:
    named = find(paths, Watch, {}, root)
    found = list(resolve(named.wishes, Watch, "fingerprint", [named.root] if named.root else []))
    assert not any(isinstance(one, Refused) for one in found)
    return [one for one in found if isinstance(one, Item)]


def inputs(*paths: str, root: str | None = None) -> list[str]:
    return [item.input for item in items(*paths, root=root)]


def test_prefixes_blobs_and_roots(container: str) -> None:
    below_x = ["b.MP4", "deep/100%.mp4", "empty.mp4", "视频 1.mp4"]
    assert inputs(container) == ["a.mp4", *(f"x/{name}" for name in below_x)]
    assert inputs(f"{container}/x") == inputs(f"{container}/x/") == below_x
    assert inputs(f"{container}/x", root=container) == [f"x/{name}" for name in below_x]
    assert inputs(f"{container}/x/deep", f"{container}/x/b.MP4") == ["deep/100%.mp4", "b.MP4"]


def test_a_blob_is_fetched_for_its_item_and_deleted_afterwards(container: str, tmp_path: Path) -> None:
    opener = OpenInput((container,), tmp_path)
    for item in items(container):
        with opener(item) as opened:
            assert opened.file is not None
            assert opened.file.name == item.input.rpartition("/")[2]
            assert opened.file.stat().st_size == item.size
            assert opened.file.read_bytes() == (open_store(container).get(item.input) or b"")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def bins(azurite: Server) -> Iterator[str]:
    """A container with six blobs of 100 kB, and one of 300."""
    url = azurite.fresh()
    for number in range(6):
        open_store(url).put(f"{number}.bin", bytes([number]) * 100_000)
    open_store(url).put("large.bin", bytes(300_000))
    yield url
    end_all()


def test_fetched_inputs_take_no_more_room_than_they_may(bins: str, tmp_path: Path) -> None:
    options = ("--task", "fetching", "--children", "4", "--scratch", "0.00025", "--out", tmp_path / "out")
    code, said = run("run", tmp_path / "queue", *options, bins)
    assert code == 1, said
    found = answers(tmp_path / "queue")
    assert found.pop("large.bin").kind == "too-large"
    outcomes = [one.outcome for one in found.values()]
    assert all(isinstance(one, Answer) for one in outcomes)
    together = [one.keys["together"] for one in outcomes if isinstance(one, Answer)]
    assert len(together) == 6
    assert max(together) == 200_000, "two at a time, and no third"


def test_what_a_killed_worker_had_fetched_goes_at_the_next_start(bins: str, tmp_path: Path) -> None:
    open_store(bins).put("hang.bin", bytes(100_000))
    process = worker("run", tmp_path / "queue", "--task", "fetching", f"{bins}/hang.bin")
    eventually(lambda: list(process.temp.glob("worker-*/input-*/hang.bin")))
    sweep(process.temp, FOLDER)
    assert len(process.left_behind()) == 1, "it is at work"
    process.signal_all(signal.SIGKILL)
    process.wait()
    assert len(process.left_behind()) == 1
    eventually(lambda: sweep(process.temp, FOLDER) or not process.left_behind())


def test_what_a_killed_child_had_fetched_goes_before_the_next_fetch(bins: str, tmp_path: Path) -> None:
    open_store(bins).put("hang.bin", bytes(100_000))
    options = ("--task", "fetching", "--children", "1", "--item-limit", "2s")
    code, said = run(
        "run", tmp_path / "queue", *options, f"{bins}/hang.bin", f"{bins}/0.bin", f"{bins}/1.bin"
    )
    assert code == 1, said
    found = answers(tmp_path / "queue")
    assert found.pop("hang.bin").kind == "timeout"
    assert [one.outcome for one in found.values()] == [Answer({"together": 100_000})] * 2
