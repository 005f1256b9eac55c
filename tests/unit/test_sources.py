"""What people name becomes items: whatever the names look like, and whatever is not there."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest

from worker.clock import Clock
from worker.enqueue import Wanted, enqueue
from worker.errors import StoreAwayError, UsageError
from worker.inputs import Root
from worker.items import Item
from worker.queue import layout
from worker.queue.lines import Refused, Wish
from worker.queue.progress import Watcher
from worker.queue.store import Store, open_store
from worker.queue.text import decode
from worker.sources import find, resolve
from worker.tasks.task import MapTask, Params

numbers = count()


class Watch(MapTask[Params, Item]):
    name = "watch"
    suffixes = frozenset({".mp4", ".jpg"})


class Any(MapTask[Params, Item]):
    name = "any"


class Text(MapTask[Params, Item]):
    name = "text"
    takes = "values"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of inputs that we stand in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def put(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name.encode(errors="replace").decode())


def items(
    *paths: str | Path, task: type[MapTask[Params, Item]] = Watch, root: str | None = None
) -> list[Item]:
    found, refused = look(*paths, task=task, root=root)
    assert refused == []
    return found


def look(
    *paths: str | Path, task: type[MapTask[Params, Item]] = Watch, root: str | None = None
) -> tuple[list[Item], list[Refused]]:
    named = find([str(path) for path in paths], task, {}, root)
    found = list(resolve(named.wishes, task, "fingerprint", [named.root] if named.root else []))
    return [i for i in found if isinstance(i, Item)], [r for r in found if isinstance(r, Refused)]


def inputs(*paths: str | Path, root: str | None = None) -> list[str]:
    return [item.input for item in items(*paths, root=root)]


def why(*paths: str | Path, root: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        look(*paths, root=root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# files and folders


def test_a_folder_gives_its_files_of_the_tasks_endings_in_order(here: Path) -> None:
    put(here, "b.mp4", "a.mp4", "sub/deep/c.jpg", "notes.md", "sub/d.MP4", "e.Jpg", "mp4", "f.mp4.part")
    assert inputs(".") == ["a.mp4", "b.mp4", "e.Jpg", "sub/d.MP4", "sub/deep/c.jpg"]
    assert inputs(here) == inputs(".") == inputs(f"{here}/") == inputs("sub/..")


def test_a_task_without_endings_takes_every_file(here: Path) -> None:
    put(here, "a.xyz", "b", "list.txt", "c.jsonl")
    assert [item.input for item in items(".", task=Any)] == ["a.xyz", "b", "c.jsonl", "list.txt"]
    assert [item.input for item in items("list.txt", task=Any)] == ["list.txt"]


def test_hidden_files_are_left_out_and_taken_when_named(here: Path) -> None:
    put(here, ".hidden.mp4", ".git/a.mp4", "sub/.b.mp4", "c.mp4")
    assert inputs(".") == ["c.mp4"]
    assert inputs(".hidden.mp4") == [".hidden.mp4"]


def test_a_file_named_by_itself_is_taken_whatever_its_ending(here: Path) -> None:
    put(here, "a.bin")
    assert inputs("a.bin") == ["a.bin"]


ODD = [
    "with space.mp4",
    " lead and trail .mp4",
    "视频/片段 1.mp4",
    "😀.mp4",
    "100%.mp4",
    "a%20b.mp4",
    "a#b?c=d&e.mp4",
    "new\nline.mp4",
    "line\u2028sep.mp4",
    "q'\"q.mp4",
    "[1]*{2}.mp4",
    "-rf.mp4",
    "back\\slash.mp4",
    "~.mp4",
    "e\u0301.mp4",
    "\u00e9.mp4",
]


def test_odd_names_are_only_names(here: Path, tmp_path: Path) -> None:
    put(here, *ODD)
    assert sorted(inputs(".")) == sorted(ODD)
    for name in ODD:
        (item,) = items(here / name, root=str(here))
        assert (item.input, item.size) == (name, len(name.encode()))
    listing = tmp_path / "list.jsonl"
    listing.write_text("".join(json.dumps({"input": str(here / name)}) + "\n" for name in ODD))
    assert sorted(inputs(listing)) == sorted(ODD)


def test_a_name_that_is_not_utf_8_is_refused_alone(here: Path) -> None:
    put(here, "a.mp4", os.fsdecode(b"\xc4\xd6.mp4"))
    found, refused = look(".")
    assert [item.input for item in found] == ["a.mp4"]
    assert [one.why for one in refused] == [r"names '\udcc4\udcd6.mp4', whose name is not UTF-8: rename it"]


def test_what_is_refused_for_its_name_is_told_in_the_queue_too(here: Path) -> None:
    """Also when the shell's glob put the name on the command line."""
    name = os.fsdecode(b"\xc4\xd6.mp4")
    put(here, "a.mp4", name)
    store = open_store(f"memory://sources-{next(numbers)}")
    enqueued = enqueue(store, Wanted("media-check"), ["a.mp4", name], None)
    assert (enqueued.added.new, len(enqueued.refused)) == (1, 1)
    (entry,) = store.list(layout.TAKEN)
    assert "not UTF-8" in decode(store.get(entry.name) or b"")["refused"][0]["why"]


def test_a_folder_whose_name_is_not_utf_8_is_refused_in_one_line(here: Path) -> None:
    name = os.fsdecode(b"\xc4\xd6")
    put(here, f"{name}/a.mp4")
    assert "is not UTF-8: rename it" in why(name)


def test_files_named_twice_are_taken_once_by_their_id(here: Path) -> None:
    put(here, "a.mp4", "sub/b.mp4")
    found = items(".", "sub", "a.mp4", "./a.mp4", here / "sub" / ".." / "a.mp4")
    assert {item.input for item in found} == {"a.mp4", "sub/b.mp4"}
    assert len({item.id for item in found}) == 2


# what is not there


def test_an_absent_path_is_an_error(here: Path) -> None:
    put(here, "a.mp4")
    assert why("a.mp4", "b.mp4") == "no such file or folder: b.mp4"
    assert why("") == "no such file or folder: "


def test_a_path_that_is_too_long_is_an_error_in_words(here: Path) -> None:
    put(here, "a.mp4")
    assert why("x" * 5000).startswith("no such file or folder")


def test_a_folder_of_nothing_is_an_error(here: Path) -> None:
    put(here, "empty/notes.md", "a.mp4")
    assert why("a.mp4", "empty") == "empty holds nothing that watch takes (endings: .jpg, .mp4)"


def test_a_glob_of_nothing_is_an_error(here: Path) -> None:
    put(here, "a.jpg")
    assert why("*.mp4") == "nothing matches *.mp4"


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Folders that cannot be listed: name → errno. Also for root, whom no mode of a file stops."""
    errors: dict[str, int] = {}
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if error := errors.get(Path(path).name):
            raise OSError(error, os.strerror(error), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return errors


def test_a_folder_that_cannot_be_listed_is_refused_alone(here: Path, locked: dict[str, int]) -> None:
    put(here, "a.mp4", "sub/locked/b.mp4", "sub/z.mp4")
    locked["locked"] = errno.EACCES
    found, refused = look("sub", root=".")
    assert [item.input for item in found] == ["sub/z.mp4"]
    assert [one.why for one in refused] == [
        "is the folder 'sub/locked', which cannot be read: Permission denied"
    ]


@pytest.mark.parametrize(("name", "error"), [("locked", errno.EIO), ("here", errno.EACCES)])
def test_a_disk_that_fails_and_a_named_folder_without_a_way_in_stop_it(
    here: Path, locked: dict[str, int], name: str, error: int
) -> None:
    put(here, "a.mp4", "locked/b.mp4")
    locked[name] = error
    assert f"{os.strerror(error)}; nothing was enqueued" in why(".")


def test_what_is_no_file_is_refused_by_what_it_is(here: Path) -> None:
    put(here, "a.mp4", "sub/c.mp4")
    os.mkfifo(here / "pipe.mp4")
    (here / "list.txt").write_text("sub\npipe.mp4\na.mp4\n")
    pipe = "names 'pipe.mp4', which is a named pipe and no file"
    for named in (".", "pipe.mp4"):
        assert [one.why for one in look(named)[1]] == [pipe]
    found, refused = look("list.txt")
    assert [item.input for item in found] == ["a.mp4"]
    assert [(one.line, one.why) for one in refused] == [
        (1, f"names '{here}/sub', which is a folder and no file"),
        (2, f"names '{here}/pipe.mp4', which is a named pipe and no file"),
    ]
    (device,) = look("/dev/null", root="/")[1]
    assert device.why == "names 'dev/null', which is a device and no file"


def test_what_a_task_does_not_take_is_counted_by_its_ending(here: Path) -> None:
    put(here, "a.mp4", "b.md", "sub/c.md", "sub/d.TXT", "e", ".hidden.md")
    assert find(["."], Watch, {}, None).skipped == {".md": 2, ".txt": 1, "no ending": 1}
    assert find(["b.md"], Watch, {}, None).skipped == {}


def test_a_list_of_absent_files_gives_items_that_fail_by_name(here: Path) -> None:
    put(here, "a.mp4")
    (here / "list.txt").write_text("a.mp4\nb.mp4\n")
    assert [(item.input, item.size, item.mark != "") for item in items("list.txt")] == [
        ("a.mp4", 5, True),
        ("b.mp4", 0, False),
    ]


def test_a_disk_that_fails_refuses_nothing_for_good(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a line of an inbox would be lost: it is read once."""
    put(here, "a.mp4")

    def fail(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Root, "know", fail)
    with pytest.raises(StoreAwayError, match="Stale file handle"):
        look("a.mp4")


def test_a_store_that_is_away_refuses_nothing_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"memory://sources-{next(numbers)}")
    store.put("a.mp4", b"a")

    def away(*_: object) -> None:
        raise StoreAwayError("store away")

    monkeypatch.setattr(Store, "head", away)
    with pytest.raises(StoreAwayError):
        list(resolve([Wish(1, "a.mp4", {})], Watch, "fingerprint", [store.url]))


def test_a_root_that_is_not_mounted_makes_no_absent_items(tmp_path: Path) -> None:
    with pytest.raises(StoreAwayError, match="mount it again"):
        list(resolve([Wish(1, "a.mp4", {})], Watch, "fingerprint", [str(tmp_path / "gone")]))


# roots


def test_the_root_is_the_common_folder(here: Path) -> None:
    put(here, "x/1/a.mp4", "x/2/b.mp4", "x/2/deep/c.mp4")
    assert inputs("x/1", "x/2/deep") == ["1/a.mp4", "2/deep/c.mp4"]
    assert inputs("x/1/a.mp4") == ["a.mp4"]
    assert inputs("x/1/a.mp4", "x/2/b.mp4") == ["1/a.mp4", "2/b.mp4"]


def test_folders_side_by_side_and_above(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(here, "x/a.mp4", "y/b.mp4")
    monkeypatch.chdir(here / "x")
    assert inputs("..") == ["x/a.mp4", "y/b.mp4"]
    assert inputs("../y") == ["b.mp4"]
    assert inputs("../y/b.mp4", "a.mp4") == ["y/b.mp4", "x/a.mp4"]
    assert inputs("a.mp4", root="..") == ["x/a.mp4"]


def test_a_root_gives_names_that_other_machines_share(here: Path) -> None:
    put(here, "x/a.mp4")
    assert inputs("x", root=".") == inputs("x/a.mp4", root=str(here)) == ["x/a.mp4"]


def test_a_path_outside_of_the_root_is_an_error(here: Path) -> None:
    put(here, "x/a.mp4", "y/b.mp4", "xx/c.mp4")
    assert why("y", root="x") == f"y is outside of --root {here}/x"
    assert why("xx/c.mp4", root="x") == f"xx/c.mp4 is outside of --root {here}/x"
    assert why("x/../y", root="x") == f"x/../y is outside of --root {here}/x"


def test_a_root_that_is_no_folder_is_an_error(here: Path) -> None:
    put(here, "a.mp4")
    assert why("a.mp4", root="nowhere") == "--root nowhere is not a folder of this machine"


def test_a_link_out_of_the_root_is_refused_alone(here: Path, tmp_path: Path) -> None:
    put(here, "a.mp4")
    put(tmp_path, "secret.mp4")
    (here / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (here / "broken.mp4").symlink_to("nowhere")
    found, refused = look(".")
    assert [item.input for item in found if item.mark] == ["a.mp4"]
    (one,) = refused
    assert "link.mp4 leads out of" in one.why


def test_a_linked_folder_can_be_named(here: Path, tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/a.mp4")
    (here / "link").symlink_to(tmp_path / "elsewhere")
    assert inputs("link") == ["a.mp4"]


# globs


def test_a_glob_that_the_shell_left_alone(here: Path) -> None:
    put(here, "x/a.mp4", "x/b.jpg", "y/c.mp4", "y/z/d.mp4")
    assert inputs("*/*.mp4") == ["x/a.mp4", "y/c.mp4"]
    assert inputs("**/*.mp4", root=".") == ["x/a.mp4", "y/c.mp4", "y/z/d.mp4"]
    assert inputs("?") == ["x/a.mp4", "x/b.jpg", "y/c.mp4", "y/z/d.mp4"]


def test_a_file_that_looks_like_a_glob_is_itself(here: Path) -> None:
    put(here, "[a].mp4", "a.mp4")
    assert inputs("[a].mp4") == ["[a].mp4"]


# lists


def test_a_lists_names_are_meant_from_where_it_lies(here: Path, tmp_path: Path) -> None:
    put(here, "a.mp4", "sub/b.mp4")
    put(tmp_path, "beside.mp4")
    (here / "sub" / "list.txt").write_text(f"b.mp4\n../a.mp4\n{tmp_path}/beside.mp4\n")
    assert inputs("sub/list.txt") == ["here/sub/b.mp4", "here/a.mp4", "beside.mp4"]


def test_with_a_root_a_lists_names_are_meant_from_the_root(here: Path, tmp_path: Path) -> None:
    put(here, "a.mp4", "sub/b.mp4")
    (tmp_path / "list.lst").write_text(f"sub/b.mp4\n./sub/../a.mp4\n{here}/a.mp4\n")
    assert inputs(tmp_path / "list.lst", root=str(here)) == ["sub/b.mp4", "a.mp4", "a.mp4"]


@pytest.mark.parametrize("name", ["../beside.mp4", "/etc/hosts", "sub/../..", ".", "a\0b"])
def test_a_line_that_leads_out_of_the_root_is_refused_alone(here: Path, tmp_path: Path, name: str) -> None:
    put(here, "a.mp4")
    put(tmp_path, "beside.mp4")
    (here / "list.txt").write_text(f"{name}\na.mp4\n")
    found, refused = look("list.txt", root=".")
    assert [item.input for item in found] == ["a.mp4"]
    (one,) = refused
    assert one.line == 1
    assert "outside of" in one.why
    assert "--root" in one.why


@pytest.mark.parametrize("name", ["list.jsonl", "LIST.JSONL"])
def test_a_list_of_json_lines(here: Path, name: str) -> None:
    put(here, "a.mp4")
    (here / name).write_text('{"input": "a.mp4"}\n{"input": 3}\n')
    found, refused = look(name)
    assert [item.input for item in found] == ["a.mp4"]
    assert [one.line for one in refused] == [2]


def test_lists_files_and_folders_together(here: Path) -> None:
    put(here, "x/a.mp4", "y/b.mp4", "z/c.mp4")
    (here / "list.txt").write_text("z/c.mp4\n")
    assert inputs("x", "y/b.mp4", "list.txt") == ["x/a.mp4", "y/b.mp4", "z/c.mp4"]


@pytest.mark.parametrize("text", ["a.mp4\nb.mp4\n", '{"input":"a.mp4"}\n{"input":"b.mp4"}'])
def test_a_list_from_stdin(here: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    put(here, "a.mp4", "b.mp4")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert inputs("-") == ["a.mp4", "b.mp4"]


def test_an_empty_list_asks_for_nothing(here: Path) -> None:
    put(here, "list.txt")
    (here / "list.txt").write_text("# nothing yet\n")
    assert inputs("list.txt") == []


@pytest.mark.parametrize("length", [300, 5000, 10_000_000])
def test_a_line_too_long_for_any_file_is_refused_alone(here: Path, length: int) -> None:
    put(here, "a.mp4")
    (here / "list.txt").write_text("x" * length + "\na.mp4\n")
    found, refused = look("list.txt")
    assert [item.input for item in found] == ["a.mp4"]
    assert [one.line for one in refused] == [1]


# values


def test_values_are_taken_as_they_stand(here: Path) -> None:
    put(here, "a.mp4")
    values = ["a.mp4", "..", "*", "az://x", "absent.txt", "x" * 5000 + ".txt", "n\0l", " "]
    assert [item.input for item in items(*values, task=Text)] == values


@pytest.mark.parametrize("name", ["list.txt", "LIST.TXT", "list.jsonl"])
def test_values_come_from_lists_too(here: Path, name: str) -> None:
    (here / name).write_text('{"input": "one"}\n' if "json" in name else "one\n")
    assert [item.input for item in items(name, task=Text)] == ["one"]


# blobs


@pytest.fixture
def bucket() -> Store:
    store = open_store(f"memory://sources-{next(numbers)}/videos")
    for name in ("a.mp4", "x/b.MP4", "x/视频 1.mp4", "x/notes.md", ".hidden/c.mp4", "100%/d.mp4"):
        store.put(name, name.encode())
    return store


def test_a_prefix_gives_its_blobs(bucket: Store) -> None:
    assert inputs(bucket.url) == ["100%/d.mp4", "a.mp4", "x/b.MP4", "x/视频 1.mp4"]
    assert inputs(f"{bucket.url}/") == inputs(bucket.url)


def test_one_blob(bucket: Store) -> None:
    (item,) = items(f"{bucket.url}/a.mp4")
    assert (item.input, item.size) == ("a.mp4", 5)
    assert item.mark


def test_blobs_below_a_root(bucket: Store) -> None:
    assert inputs(f"{bucket.url}/x/b.MP4", f"{bucket.url}/a.mp4") == ["x/b.MP4", "a.mp4"]
    assert "outside of --root" in why(bucket.url, root=f"{bucket.url}/x")
    assert "outside of --root" in why(f"{bucket.url}2/a.mp4", root=bucket.url)


def test_a_list_of_blobs(bucket: Store, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{bucket.url}/a.mp4\n{bucket.url}/x/b.MP4\n")
    assert inputs(tmp_path / "list.txt") == ["a.mp4", "x/b.MP4"]
    (tmp_path / "list.txt").write_text("a.mp4\nabsent.mp4")
    assert inputs(tmp_path / "list.txt", root=bucket.url) == ["a.mp4", "absent.mp4"]


def test_no_blobs_are_an_error(bucket: Store) -> None:
    assert "holds nothing that watch takes" in why(f"{bucket.url}/nothing")


@pytest.mark.parametrize(
    "paths", [["memory://a/b", "s3://a/b"], ["memory://a/b", "."], ["memory://a/x", "memory://b/x"]]
)
def test_places_without_a_common_root_are_an_error(here: Path, paths: Sequence[str]) -> None:
    put(here, "a.mp4")
    assert "one after the other" in why(*paths)


def test_a_list_that_was_corrected_and_enqueued_again_leaves_nothing_refused(tmp_path: Path) -> None:
    store = open_store("memory://sources-corrected")
    listed = tmp_path / "list.jsonl"
    (tmp_path / "a.mp4").write_bytes(b"a")
    listed.write_text('{"input": "a.mp4"}\n{"inptu": "a.mp4"}\n')
    assert len(enqueue(store, Wanted("media-check"), [str(listed)], None).refused) == 1
    assert len(Watcher(store, Clock()).look().refused) == 1
    listed.write_text('{"input": "a.mp4"}\n')
    assert not enqueue(store, Wanted("media-check"), [str(listed)], None).refused
    assert not Watcher(store, Clock()).look().refused


def test_a_folder_below_one_that_was_enqueued_before_brings_nothing_new(tmp_path: Path) -> None:
    store = open_store("memory://sources-below")
    (tmp_path / "all" / "clips").mkdir(parents=True)
    (tmp_path / "all" / "clips" / "a.mp4").write_bytes(b"a")
    assert enqueue(store, Wanted("media-check"), [str(tmp_path / "all")], None).added.new == 1
    assert enqueue(store, Wanted("media-check"), [str(tmp_path / "all" / "clips")], None).added.new == 0


def test_results_and_queues_inside_the_input_folder_are_no_inputs(tmp_path: Path) -> None:
    for folder in ("queue-results/files", "queue/items", "clips"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "queue" / "run.json").touch()
    (tmp_path / "queue-results" / "final_results.json").touch()
    for name in ("queue-results/files/sheet.jpg", "queue/items/x.jpg", "clips/a.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert list(Root(str(tmp_path)).below(pytest.fail)) == ["clips/a.jpg"]
