"""Where inputs lie, and whose fault it is when they do not."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from worker import inputs
from worker import scratch as scratch_module
from worker.errors import ItemError, StoreAwayError, UsageError
from worker.inputs import Known, OpenInput, Root, inside, know_file, mark, present_roots
from worker.items import Failure, Item
from worker.queue import store as store_module
from worker.queue.intake import add_root
from worker.queue.store import Store, open_store

LARGE = inputs.MARK_WHOLE + 100_000


def reader(data: bytes) -> tuple[int, inputs.Callable[[int, int], bytes]]:
    return len(data), lambda start, n: data[start : start + n]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"a" * LARGE)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def item_of(root: Path, name: str) -> Item:
    known = know_file(root / name)
    return Item("id", name, known.size, known.mark)


def fault(opener: OpenInput, item: Item) -> ItemError:
    with pytest.raises(ItemError) as caught, opener(item):
        pass
    assert "\n" not in caught.value.message
    return caught.value


# marks


@pytest.mark.parametrize("size", [0, 1, inputs.MARK_WHOLE - 1, inputs.MARK_WHOLE])
def test_a_small_content_is_known_by_all_of_it(size: int) -> None:
    data = bytes(size)
    marks = {mark(*reader(data))}
    for place in {0, size // 3, size - 1} if size else set():
        marks.add(mark(*reader(data[:place] + b"x" + data[place + 1 :])))
    assert len(marks) == 1 + (len({0, size // 3, size - 1}) if size else 0)


@pytest.mark.parametrize("place", [0, LARGE // 2, LARGE - 1])
def test_a_large_content_is_known_by_its_beginning_middle_and_end(place: int) -> None:
    data = bytes(LARGE)
    assert mark(*reader(data)) != mark(*reader(data[:place] + b"x" + data[place + 1 :]))


def test_a_large_content_costs_three_blocks() -> None:
    read: list[int] = []

    def ask(_: int, length: int) -> bytes:
        read.append(length)
        return bytes(length)

    mark(10**15, ask)
    assert sum(read) == inputs.MARK_WHOLE


def test_contents_of_zeros_differ_by_their_size() -> None:
    assert len({mark(*reader(bytes(size))) for size in (0, 1, LARGE, LARGE + 1)}) == 4


def test_a_file_and_a_blob_are_known_by_the_same_mark(root: Path, scratch: Path) -> None:
    store = open_store("memory://inputs-same")
    store.upload("a.mp4", root / "a.mp4")
    assert Root(store.url).know("a.mp4") == Root(str(root)).know("a.mp4")
    with OpenInput((store.url,), scratch)(item_of(root, "a.mp4")) as opened:
        assert opened.file is not None
        assert opened.file.read_bytes() == (root / "a.mp4").read_bytes()
    assert list(scratch.iterdir()) == []


# names


@pytest.mark.parametrize("name", ["a", "a/b", "...", "a/..b", ".hidden", "a b", "a\nb", "视频"])
def test_names_inside(name: str) -> None:
    assert inside(name)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/../../b", "/a", "a\0b", "a/.."])
def test_names_that_are_not_inside(name: str) -> None:
    assert not inside(name)


# opening


def test_the_file_is_opened_where_it_lies(root: Path, scratch: Path) -> None:
    with OpenInput((str(root),), scratch)(item_of(root, "a.mp4")) as opened:
        assert opened.file == root / "a.mp4"


def test_the_second_root_has_what_the_first_has_not(root: Path, scratch: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.mp4").write_bytes(b"another content")
    with OpenInput((str(other), str(root)), scratch)(item_of(root, "a.mp4")) as opened:
        assert opened.file == root / "a.mp4"


def test_a_changed_file_fails_as_changed(root: Path, scratch: Path) -> None:
    item = item_of(root, "a.mp4")
    (root / "a.mp4").write_bytes(b"b" * LARGE)
    error = fault(OpenInput((str(root),), scratch), item)
    assert error.kind == "changed"
    assert "enqueue it again" in error.message


def test_an_absent_file_fails_as_absent(root: Path, scratch: Path) -> None:
    error = fault(OpenInput((str(root),), scratch), Item("id", "b.mp4", 3, "mark"))
    assert error.kind == "absent"
    assert str(root) not in error.message, "results would differ from machine to machine"


def test_a_folder_in_the_files_place_is_no_file(root: Path, scratch: Path) -> None:
    (root / "b.mp4").mkdir()
    os.mkfifo(root / "c.mp4")
    for name, what in (("b.mp4", "a folder"), ("c.mp4", "a named pipe")):
        error = fault(OpenInput((str(root),), scratch), Item("id", name, 3, "mark"))
        assert error.kind == "not-a-file"
        assert what in error.message


def test_a_root_that_vanished_is_the_machines_fault(root: Path, scratch: Path) -> None:
    item = item_of(root, "a.mp4")
    root.rename(root.with_name("elsewhere"))
    queue = open_store("memory://inputs-vanished")
    add_root(queue, str(root))
    for opener in (OpenInput((str(root),), scratch), OpenInput((str(root),), scratch, queue.url)):
        error = fault(opener, item)
        assert error.kind == "store"
        assert "mount it again" in error.message


def test_a_root_that_came_to_the_queue_later_is_found(root: Path, scratch: Path, tmp_path: Path) -> None:
    queue = open_store("memory://inputs-later")
    opener = OpenInput((str(tmp_path),), scratch, queue.url)
    assert fault(opener, item_of(root, "a.mp4")).kind == "absent"
    add_root(queue, str(root))
    with opener(item_of(root, "a.mp4")) as opened:
        assert opened.file == root / "a.mp4"


@pytest.mark.parametrize("name", ["../secret", "/etc/hosts", "a/../../secret", "a\0b"])
def test_a_name_that_leads_out_of_the_root_is_refused(root: Path, scratch: Path, name: str) -> None:
    (root.parent / "secret").write_text("secret")
    assert fault(OpenInput((str(root),), scratch), Item("id", name)).kind == "outside-root"


def test_a_link_that_leads_out_of_the_root_is_refused(root: Path, scratch: Path) -> None:
    (root.parent / "secret").write_text("secret")
    (root / "link").symlink_to("../secret")
    (root / "folder").symlink_to("..")
    opener = OpenInput((str(root),), scratch)
    assert fault(opener, Item("id", "link")).kind == "outside-root"
    assert fault(opener, Item("id", "folder/secret")).kind == "outside-root"


def test_a_link_inside_the_root_is_followed(root: Path, scratch: Path) -> None:
    (root / "link.mp4").symlink_to("a.mp4")
    with OpenInput((str(root),), scratch)(item_of(root, "link.mp4")) as opened:
        assert opened.file == root / "link.mp4"


def test_a_root_behind_a_link_is_a_root(root: Path, scratch: Path) -> None:
    link = root.with_name("link")
    link.symlink_to(root)
    with OpenInput((str(link),), scratch)(item_of(root, "a.mp4")) as opened:
        assert opened.file == link / "a.mp4"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EIO, "store"),
        (errno.ESTALE, "store"),
        (errno.ENOTCONN, "store"),
        (errno.EACCES, "unreadable"),
        (errno.EPERM, "unreadable"),
        (errno.ENAMETOOLONG, "unreadable"),
    ],
)
def test_a_disk_that_fails_is_the_machines_fault_and_a_locked_file_is_its_own(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: str
) -> None:
    def fail(*_: object) -> Known:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(inputs, "know_file", fail)
    assert fault(OpenInput((str(root),), scratch), Item("id", "a.mp4")).kind == kind


def test_a_name_too_long_for_any_disk_is_the_items_fault(root: Path, scratch: Path) -> None:
    assert fault(OpenInput((str(root),), scratch), Item("id", "x" * 5000)).kind == "unreadable"


def test_a_store_that_goes_away_is_the_machines_fault(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first look, and in the middle of the download."""
    store = open_store("memory://inputs-away")
    store.upload("a.mp4", root / "a.mp4")
    opener, item = OpenInput((store.url,), scratch), item_of(root, "a.mp4")

    def away(*_: object) -> None:
        raise StoreAwayError("store away")

    for call in ("download", "read", "head"):
        monkeypatch.setattr(Store, call, away)
        error = fault(opener, item)
        assert (error.kind, error.message) == ("store", "store away"), call


@pytest.mark.parametrize("moment", ["reserve", "write"])
def test_a_disk_that_fills_up_on_the_way_is_the_machines_fault(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = open_store("memory://inputs-full")
    store.upload("a.mp4", root / "a.mp4")
    began: list[list[Path]] = []

    def full(*_: object) -> bytes:
        began.append(list(scratch.glob("input-*/*")))
        raise OSError(errno.ENOSPC, "No space left on device")

    item = item_of(root, "a.mp4")
    monkeypatch.setattr(inputs, "_search", lambda *_: Root(store.url))
    if moment == "reserve":
        monkeypatch.setattr(store_module, "reserve", full)
    else:
        monkeypatch.setattr(Store, "read", full)
    error = fault(OpenInput((store.url,), scratch), item)
    assert error.kind == "system"
    assert Failure(error.kind, "").blames_machine
    assert "No space left" in error.message
    assert len(began) == 1
    assert len(began[0]) == 1, "it had begun"
    assert list(scratch.iterdir()) == []


def test_an_input_larger_than_it_may_be_is_not_fetched(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("memory://inputs-large")
    store.upload("a.mp4", root / "a.mp4")
    item, fetched = item_of(root, "a.mp4"), []
    with OpenInput((store.url,), scratch, most_bytes=LARGE)(item) as opened:
        assert opened.file
    monkeypatch.setattr(store_module, "reserve", lambda *_: fetched.append(True))
    error = fault(OpenInput((store.url,), scratch, most_bytes=LARGE - 1), item)
    assert error.kind == "too-large"
    assert "raise WORKER_SCRATCH" in error.message
    assert fetched == []
    assert list(scratch.iterdir()) == []


def test_what_counts_is_the_size_when_it_is_fetched(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("memory://inputs-grown")
    store.put("a.mp4", bytes(LARGE + 1))
    monkeypatch.setattr(inputs, "_search", lambda *_: Root(store.url))
    error = fault(OpenInput((store.url,), scratch, most_bytes=LARGE), item_of(root, "a.mp4"))
    assert error.kind == "too-large"


def test_an_input_that_does_not_fit_on_the_disk_is_the_machines_fault(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("memory://inputs-disk")
    store.upload("a.mp4", root / "a.mp4")
    monkeypatch.setattr(scratch_module, "ROOM_S", 0.0)
    monkeypatch.setattr(scratch_module, "free", lambda _: LARGE - 1)
    error = fault(OpenInput((store.url,), scratch), item_of(root, "a.mp4"))
    assert Failure(error.kind, "").blames_machine
    assert "TMPDIR" in error.message
    assert list(scratch.iterdir()) == []


def test_room_that_others_free_is_waited_for(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("memory://inputs-room")
    store.upload("a.mp4", root / "a.mp4")
    room = iter([0, LARGE])
    monkeypatch.setattr(scratch_module, "free", lambda _: next(room))
    with OpenInput((store.url,), scratch)(item_of(root, "a.mp4")) as opened:
        assert opened.file
    assert list(room) == []


def test_what_fits_is_the_limit_or_the_disk_and_files_where_they_lie_need_no_room(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch_module, "free", lambda _: 5000)
    fetching = OpenInput((str(root), "memory://inputs-fits"), scratch)
    assert fetching.fits(5000)
    assert not fetching.fits(5001)
    (scratch / "fetched").write_bytes(bytes(4096))
    assert fetching.fits(9000), "what is fetched already had its room"
    assert not replace(fetching, most_bytes=8999).fits(9000)
    assert OpenInput((str(root),), scratch, most_bytes=1).fits(10**15)


def test_a_blob_deleted_while_it_is_fetched_is_absent(
    root: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("memory://inputs-deleted")
    store.upload("a.mp4", root / "a.mp4")

    def gone(*_: object) -> None:
        raise FileNotFoundError("a.mp4 is not there")

    monkeypatch.setattr(Store, "download", gone)
    assert fault(OpenInput((store.url,), scratch), item_of(root, "a.mp4")).kind == "absent"


# roots of this machine


def test_of_the_recorded_roots_those_count_that_are_here(root: Path) -> None:
    assert present_roots(["/not/here", str(root), "memory://x"], None) == (str(root), "memory://x")


def test_a_machine_without_any_root_is_told_to_name_one() -> None:
    with pytest.raises(UsageError, match=r"/not/here.*--root DIR"):
        present_roots(["/not/here"], None)


def test_a_chosen_root_wins_and_must_be_there(root: Path) -> None:
    assert present_roots(["/not/here"], str(root)) == (str(root),)
    with pytest.raises(UsageError, match="--root /nor/here is not a folder"):
        present_roots([str(root)], "/nor/here")


def test_a_queue_of_values_needs_no_root() -> None:
    assert present_roots([], None) == ()


def test_an_empty_mount_point_is_the_machines_fault_and_not_the_items(root: Path, scratch: Path) -> None:
    (root / "elsewhere").mkdir()
    error = fault(OpenInput((str(root / "elsewhere"),), scratch), Item("id", "a.mp4", 3, "mark"))
    assert error.kind == "store"


def test_what_shall_lie_beside_a_blob_is_fetched_with_it(scratch: Path) -> None:
    store = open_store("memory://inputs-beside")
    for name in ("x/a_test.jpg", "x/a_temp.jpg"):
        store.put(name, name.encode())
    item = Item("id", "x/a_test.jpg", beside=("x/a_temp.jpg", "x/none.jpg"))
    with OpenInput((store.url,), scratch)(item) as opened:
        assert opened.file is not None
        assert sorted(one.name for one in opened.file.parent.iterdir()) == ["a_temp.jpg", "a_test.jpg"]
        assert opened.file.with_name("a_temp.jpg").read_bytes() == b"x/a_temp.jpg"
    assert list(scratch.iterdir()) == []
