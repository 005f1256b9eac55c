"""When a store tries again, when it gives up, and whose write it was."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from worker.errors import StoreAwayError, StoreDeniedError, StoreFullError, UsageError
from worker.queue import directory
from worker.queue.bucket import Bucket, open_bucket
from worker.queue.directory import Directory, refuse_mount
from worker.queue.store import Backend, Store, open_store


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.01)

    def __call__(self) -> float:
        return self.now


class Flaky:
    """A backend in memory whose calls fail as told: before the deed, or after it (a lost acknowledgement)."""

    def __init__(
        self, *, before: list[Exception] | None = None, after: list[Exception] | None = None
    ) -> None:
        self._bucket: Bucket = open_bucket("memory", f"flaky-{id(self)}")
        self.url = "memory://flaky"
        self.remedy = "knock louder"
        self.before = before or []
        self.after = after or []
        self.calls = 0

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.before:
                raise self.before.pop(0)
            result = getattr(self._bucket, operation)(*args, **options)
            if self.after:
                raise self.after.pop(0)
            return result

        return call


def patient(backend: Any, clock: Time | None = None, *, patience: float = 20.0) -> Store:
    clock = clock or Time()
    typed: Backend = backend
    return Store(typed, patience=patience, sleep=clock.sleep, clock=clock)


AWAY = StoreAwayError("connection refused")


def test_a_lost_acknowledgement_is_still_our_own_write() -> None:
    backend = Flaky(after=[AWAY])
    assert patient(backend).create("claim", b"mine")
    assert backend.calls == 3  # create, create again, read


def test_two_writers_with_lost_acknowledgements_have_one_winner() -> None:
    backend = Flaky()
    first, second = patient(backend), patient(backend)
    backend.after = [AWAY]
    assert first.create("claim", b"first")
    backend.before = [AWAY]
    assert not second.create("claim", b"second")
    assert first.get("claim") == b"first"


def test_exists_but_absent_is_asked_again() -> None:
    backend = Flaky(before=[FileExistsError("claim")])
    assert patient(backend).create("claim", b"mine")


def test_transient_errors_then_success(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "worker.store"):
        patient(Flaky(before=[AWAY] * 3), patience=600).put("name", b"")
    assert caplog.messages == ["store away (connection refused), trying again for up to 600 s"]


def test_a_long_outage_is_told_every_half_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Time()
    with caplog.at_level(logging.WARNING, "worker.store"), pytest.raises(StoreAwayError):
        patient(Flaky(before=[AWAY] * 5000), clock, patience=300).get("name")
    assert 7 <= len(caplog.messages) <= 10
    assert 300 <= clock.now < 310


def test_patience_ends_in_one_line_and_exit_code_75() -> None:
    clock = Time()
    with pytest.raises(StoreAwayError) as away:
        patient(Flaky(before=[AWAY] * 5000), clock).get("name")
    assert away.value.exit_code == 75
    assert str(away.value) == (
        "store away (connection refused): memory://flaky/name; nothing is lost, run the same command again"
    )
    assert 20 <= clock.now < 30


def test_patience_counts_from_the_first_failure() -> None:
    """An upload that fails after an hour is tried again."""
    clock = Time()

    class Slow(Flaky):
        def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
            clock.now += 3600
            self.__getattr__("put")(name, data, durable=durable)

    patient(Slow(before=[AWAY]), clock).put("name", b"")
    assert clock.now >= 7200


def test_a_beat_is_not_tried_again() -> None:
    backend = Flaky(before=[AWAY])
    with pytest.raises(StoreAwayError):
        patient(backend).put("beat", b"", retry=False)
    assert backend.calls == 1


def test_denied_is_not_tried_again() -> None:
    backend = Flaky(before=[StoreDeniedError("403 AuthorizationFailure")])
    with pytest.raises(StoreDeniedError) as denied:
        patient(backend).create("name", b"")
    assert backend.calls == 1
    assert (
        str(denied.value) == "store refuses us (403 AuthorizationFailure): memory://flaky/name; knock louder"
    )


def test_full_is_waited_for_half_a_minute() -> None:
    clock = Time()
    with pytest.raises(StoreFullError, match=r"store full .* make room"):
        patient(Flaky(before=[StoreFullError("No space left on device")] * 5000), clock, patience=600).put(
            "n", b""
        )
    assert 30 <= clock.now < 40


def test_a_download_survives_a_change_on_the_way(tmp_path: Path) -> None:
    backend = Flaky()
    store = patient(backend)
    store.put("name", b"old")

    class Changing(Store):
        def read(self, name: str, start: int, length: int) -> bytes:
            data = super().read(name, start, length)
            if data == b"old":
                self.put(name, b"new")
            return data

    Changing(backend).download("name", tmp_path / "file")  # type: ignore[arg-type]
    assert (tmp_path / "file").read_bytes() == b"new"


# The folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "queue"
    folder.mkdir()
    return folder


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_no_partial_file(root: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store = patient(Directory(root))
    store.put("old", b"old")
    monkeypatch.setattr(os, "fsync", failing(code))
    for write in (store.create, store.put):
        with pytest.raises(StoreFullError, match=os.strerror(code)):
            write("old", b"new")
        with pytest.raises(StoreFullError):
            write("folder/new", b"new")
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["old"]
    assert store.get("old") == b"old"


def test_a_disk_that_is_freed_in_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, fsync = Time(), os.fsync

    def fsync_later(handle: int) -> None:
        if clock.now < 10:
            raise OSError(errno.ENOSPC, "full")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync_later)
    store = patient(Directory(root), clock, patience=600)
    assert store.create("name", b"x")
    assert list(root.iterdir()) == [root / "name"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder_is_refused_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    clock = Time()
    store = patient(Directory(root), clock)
    monkeypatch.setattr(Path, "open", failing(code))
    with pytest.raises(StoreDeniedError, match="you may write to it"):
        store.create("name", b"x")
    assert clock.now == 0


def test_without_links_a_rename_without_replacing_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    store = patient(Directory(root))
    assert store.create("name", b"one")
    assert not store.create("name", b"two")
    assert store.get("name") == b"one"
    assert list(root.iterdir()) == [root / "name"]


def test_without_either_the_folder_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EOPNOTSUPP))
    monkeypatch.setattr(directory.ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(StoreDeniedError, match="neither link files nor rename"):
        patient(Directory(root)).create("name", b"x")
    assert list(root.iterdir()) == []


def test_a_create_and_its_new_folders_are_synced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    patient(Directory(root)).create("a/b/c", b"x")
    folders = [str(root), str(root / "a")]
    assert synced[:2] == folders
    assert Path(synced[2]).name.startswith(".tmp-")
    assert synced[3:] == [str(root / "a/b")]


def test_many_are_synced_before_they_have_their_names(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, link, steps = os.fsync, os.link, []

    def record(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "bytes")
        fsync(handle)

    def place(source: Path, target: Path) -> None:
        steps.append("name")
        link(source, target)

    store = patient(Directory(root))
    store.create("items/1", b"1")
    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "link", place)
    store.create_all((f"items/{n}", str(n).encode()) for n in range(4))
    assert steps == ["bytes"] * 4 + ["name"] * 4 + ["folder"]
    assert [store.get(entry.name) for entry in store.list("items")] == [b"0", b"1", b"2", b"3"]
    assert len(list((root / "items").iterdir())) == 4


def test_many_that_fail_leave_no_partial_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = patient(Directory(root))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.ENOSPC))
        with pytest.raises(StoreFullError):
            store.create_all([("a", b"1"), ("b", b"2")])
    assert list(root.iterdir()) == []
    store.create_all([("a", b"1"), ("b", b"2")])
    assert [entry.name for entry in store.list()] == ["a", "b"]


def test_many_are_tried_again_after_a_lost_acknowledgement() -> None:
    backend = Flaky(before=[AWAY], after=[AWAY])
    store = patient(backend)
    store.create_all((str(n), b"x") for n in range(300))
    assert len(store.list()) == 300
    assert backend.calls == 5  # the first many in three goes, the others in one, and the list


def test_what_need_not_be_durable_is_not_synced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    store = patient(Directory(root))
    assert store.create("claims/a/1.json", b"mine", durable=False)
    assert not store.create("claims/a/1.json", b"yours", durable=False)
    store.put("workers/w.json", b"beat", durable=False)
    assert store.get("claims/a/1.json") == b"mine"
    assert store.get("workers/w.json") == b"beat"


def test_a_root_that_is_gone_is_not_an_empty_store(root: Path) -> None:
    store = patient(Directory(root))
    store.put("a", b"")
    root.rename(root.with_name("moved"))
    for question in (store.get, store.head, store.list, store.discard):
        with pytest.raises(StoreDeniedError, match="the folder is gone"):
            question("a")
    with pytest.raises(StoreDeniedError):
        store.put("a", b"")
    assert not root.exists()


def test_list_leaves_out_temporaries_and_links_to_folders(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to(root / "nowhere")
    (root / ".tmp-crashed").write_text("x")
    (root / "file").symlink_to(outside / "secret")
    assert [entry.name for entry in Directory(root).list("")] == ["file"]


def test_list_tolerates_what_vanishes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (root / name).write_text("x")
    scandir = os.scandir

    def scan_then_lose(folder: Path) -> list[os.DirEntry[str]]:
        found = list(scandir(folder))
        (root / "a").unlink()
        return found

    monkeypatch.setattr(os, "scandir", scan_then_lose)
    assert [entry.name for entry in Directory(root).list("")] == ["b"]


@pytest.mark.parametrize("kind", ["cifs", "smb3", "fuse.blobfuse2", "fuse.gcsfuse", "fuse.s3fs"])
def test_mounts_that_break_claims_are_refused(kind: str) -> None:
    mounts = f"/dev/sda1 / ext4 rw 0 0\nblob /mnt/my\\040blob {kind} rw 0 0\n"
    with pytest.raises(StoreDeniedError, match="point the queue at the blob itself: az://"):
        refuse_mount(Path("/mnt/my blob/queue"), mounts)
    refuse_mount(Path("/mnt/my other"), mounts)


@pytest.mark.parametrize("device", ["blobfuse2", "mountpoint-s3"])
def test_mounts_that_call_themselves_only_fuse_are_refused(device: str) -> None:
    with pytest.raises(StoreDeniedError, match="fuse"):
        refuse_mount(Path("/mnt/x/queue"), f"{device} /mnt/x fuse rw 0 0\n")


@pytest.mark.parametrize("kind", ["nfs4", "ext4", "fuse.fuse-overlayfs", "fuse.juicefs", "overlay"])
def test_other_mounts_are_fine(kind: str) -> None:
    refuse_mount(Path("/mnt/x/queue"), f"blob / cifs rw 0 0\nx /mnt/x {kind} rw 0 0\n")


# Addresses


def test_an_absent_folder_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder; make it, or check the path"):
        open_store(str(tmp_path / "new"))
    assert open_store(f"file://{tmp_path}/new", make=True).list() == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/x", "memory://NAME, az://container/prefix"),
        ("s3://", "lacks a name"),
        ("s3://user:SECRET@bucket/x", "environment"),
        ("s3://bucket/x?sig=SECRET", "only az:// takes one"),
        ("az://container/x?key=SECRET", "a SAS token"),
    ],
)
def test_wrong_addresses_are_refused_without_their_secrets(url: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_store(url)
    assert says in str(refused.value)
    assert "SECRET" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_token_is_never_printed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("AZURITE_BLOB_STORAGE_URL", raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9")
    store = open_store("az://container/prefix?sv=2021&sig=SECRET%3D", patience=0.01)
    with pytest.raises(StoreAwayError) as away:
        store.put("name", b"")
    assert store.url == "az://container/prefix"
    assert "SECRET" not in f"{away.value}{caplog.text}"


def test_memory_is_shared_by_name() -> None:
    open_store("memory://shared").put("a", b"1")
    assert open_store("memory://shared").get("a") == b"1"
    assert open_store("memory://other").get("a") is None


def test_a_refusal_that_left_nothing_behind_is_tried_again_by_create_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S3 may refuse both of two creates at the same moment."""
    store = open_store("memory://refusals")
    create, refused = Bucket.create, []

    def once(self: Bucket, name: str, data: bytes, *, durable: bool = True) -> None:
        if not refused:
            refused.append(name)
            raise FileExistsError(name)
        create(self, name, data, durable=durable)

    monkeypatch.setattr(Bucket, "create", once)
    store.create_all([("a", b"1"), ("b", b"2")])
    assert refused
    assert {entry.name for entry in store.list()} == {"a", "b"}


def test_half_written_files_are_swept_when_nobody_writes_to_them_any_more(root: Path) -> None:
    store = open_store(str(root))
    store.put("files/whole", b"whole")
    dead, living = (root / "files" / f".tmp-{uuid4().hex}" for _ in range(2))
    dead.write_bytes(b"half")
    living.write_bytes(b"half")
    os.utime(dead, (time.time() - 4000, time.time() - 4000))
    store.sweep("files/", older_than=3600)
    assert {path.name for path in (root / "files").iterdir()} == {"whole", living.name}
    store.sweep("absent/")
    store.sweep("files/")
    assert [path.name for path in (root / "files").iterdir()] == ["whole"]


def test_a_writer_whose_half_file_was_swept_begins_anew(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"heavy")
    store = open_store(str(root), patience=1.0)
    swept = []

    def sweep_once(handle: int) -> None:
        if not swept:
            swept.append(handle)
            store.sweep("jobs/")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.queue.directory.os.fsync", sweep_once)
        store.upload("jobs/a/1/1/weights", file)
    assert swept
    assert store.get("jobs/a/1/1/weights") == b"heavy"
