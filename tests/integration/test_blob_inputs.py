"""Inputs that lie in a container: named by prefix, by name, by list; known and fetched like files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import Server
from worker.inputs import OpenInput
from worker.items import Item
from worker.queue.lines import Refused
from worker.queue.store import open_store
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
