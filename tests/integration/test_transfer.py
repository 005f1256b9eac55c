"""Files on their way into a store: what is there stays, what changed is sent again, whatever breaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from threading import Timer

import pytest

from tests.servers import Door, Server
from tests.workers import ROOT
from worker.errors import StoreAwayError, StoreDeniedError, UsageError
from worker.launch import transfer
from worker.launch.transfer import NOTES, Note, Sent, upload, verdict
from worker.queue.directory import Directory
from worker.queue.store import CHUNK, Entry, Store, Told, open_store

NAMES = ["a.mp4", "b c/d e.mp4", "片/段 1.mp4", "100%/#?&=+.mp4"]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"%d" % number * 60_000)
    return folder


def quiet(_: str) -> None: ...


def contents(store: Store) -> dict[str, bytes | None]:
    return {entry.name: store.get(entry.name) for entry in store.list() if entry.name != NOTES}


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def test_all_files_come_with_their_names_and_the_second_time_none_is_sent(
    any_store_url: str, clips: Path
) -> None:
    said: list[str] = []
    size = sum(map(len, files(clips).values()))
    assert upload(clips, any_store_url, said.append) == Sent(4, 0, size)
    assert contents(open_store(any_store_url)) == files(clips)
    assert "4 files, 240 kB sent in" in said[-1]
    assert upload(clips, any_store_url, said.append) == Sent(0, 4, 0)
    assert said[-1] == f"{any_store_url}: 0 files, 0 bytes sent, 4 were there already"


def test_what_changed_or_was_lost_is_sent_again(any_store_url: str, clips: Path) -> None:
    upload(clips, any_store_url, quiet)
    middle = bytearray((clips / "a.mp4").read_bytes())
    middle[20_000] ^= 1  # where no block of a mark lies; and the size stays
    (clips / "a.mp4").write_bytes(middle)
    store = open_store(any_store_url)
    store.discard("b c/d e.mp4")
    assert upload(clips, any_store_url, quiet).sent == 2
    assert contents(store) == files(clips)


def test_what_others_brought_is_known_by_its_content(any_store_url: str, clips: Path) -> None:
    store = open_store(any_store_url)
    for name in NAMES[:3]:
        store.upload(name, clips / name)
    store.put("a.mp4", b"x" * 60_000)
    assert upload(clips, any_store_url, quiet) == Sent(2, 2, 120_000)
    assert contents(store) == files(clips)
    assert upload(clips, any_store_url, quiet).there == 4


def test_who_is_cut_off_goes_on(any_store_url: str, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Store.upload

    def cut_off(self: Store, name: str, *rest: object) -> None:
        if name == "片/段 1.mp4":
            raise KeyboardInterrupt
        sent(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "AT_ONCE", 1)
    monkeypatch.setattr(Store, "upload", cut_off)
    with pytest.raises(KeyboardInterrupt):
        upload(clips, any_store_url, quiet)
    monkeypatch.setattr(Store, "upload", sent)
    before = set(contents(open_store(any_store_url)))
    assert 0 < len(before) < 4
    assert upload(clips, any_store_url, quiet) == Sent(
        4 - len(before), len(before), 60_000 * (4 - len(before))
    )
    assert contents(open_store(any_store_url)) == files(clips)


def test_a_store_that_stumbles_at_each_file_gets_them_all(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, stumbled = Directory.upload, set[str]()

    def stumble(self: Directory, name: str, file: Path, told: Told) -> None:
        sent(self, name, file, told)
        if name not in stumbled:
            stumbled.add(name)
            raise StoreAwayError("no answer, and it was written")

    monkeypatch.setattr(Directory, "upload", stumble)
    assert upload(clips, str(tmp_path / "there"), quiet) == Sent(4, 0, 240_000)
    assert stumbled == {*NAMES}
    assert contents(open_store(str(tmp_path / "there"))) == files(clips)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_store_that_goes_away_in_the_middle_is_waited_for_and_then_gone_on_with(
    tmp_path: Path, azurite: Server, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    (clips := tmp_path / "clips").mkdir()
    for number in range(40):
        (clips / f"{number}.mp4").write_bytes(b"%d" % number * 60_000)
    url, there = azurite.fresh(), azurite.env["AZURITE_BLOB_STORAGE_URL"]
    door = Door(int(there.rpartition(":")[2]))
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", f"http://127.0.0.1:{door.port}")
    monkeypatch.setattr(transfer, "PATIENCE_S", 60 if comes_back else 1)
    sent, counted = Store.upload, count(1)

    def shuts(self: Store, name: str, *rest: object) -> None:
        if next(counted) == 20:
            door.shut()
            if comes_back:
                Timer(2, door.open).start()
        sent(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "upload", shuts)
    if comes_back:
        assert upload(clips, url, quiet).sent == 40
    else:
        with pytest.raises(StoreAwayError):
            upload(clips, url, quiet)
        door.open()
        again = upload(clips, url, quiet)
        assert again.there >= 4  # of the 20, 16 were under way
        assert again.sent + again.there == 40
    found = contents(open_store(url))
    assert found == {file.name: file.read_bytes() for file in clips.iterdir()}
    door.shut()


def test_a_store_that_refuses_us_ends_them_all(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(_: Directory, name: str, *__: object) -> None:
        asked.append(name)
        raise StoreDeniedError("403")

    monkeypatch.setattr(transfer, "AT_ONCE", 1)
    monkeypatch.setattr(Directory, "upload", refuse)
    with pytest.raises(StoreDeniedError, match="store refuses us"):
        upload(clips, str(tmp_path / "there"), quiet)
    assert len(asked) == 1


def test_a_file_that_changed_before_it_was_replaced_is_still_to_be_sent() -> None:
    """Its note speaks of the new content, and the object is the old one, of the same size."""
    file = Note(5, changed=2)
    assert verdict(file, Entry("a", 5, "old"), Note(5, 2, replaces="old")) is False
    assert verdict(file, Entry("a", 5, "new"), Note(5, 2, replaces="old")) is True
    assert verdict(file, Entry("a", 5, "new"), Note(5, 1)) is False
    assert verdict(file, Entry("a", 4, "new"), Note(5, 2)) is False
    assert verdict(file, Entry("a", 5, "new"), None) is None
    assert verdict(file, None, Note(5, 2)) is False


def test_a_file_that_changes_while_it_is_read_is_read_again(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Store.upload

    def grow(self: Store, name: str, file: Path, *rest: object) -> None:
        sent(self, name, file, *rest)  # type: ignore[arg-type]
        if file.stat().st_size < 60_002:
            with file.open("ab") as out:
                out.write(b"+")

    monkeypatch.setattr(Store, "upload", grow)
    upload(clips / "a.mp4", str(tmp_path / "there"), quiet)
    assert (tmp_path / "there/a.mp4").read_bytes() == b"0" * 60_000 + b"++"


def test_what_cannot_be_sent_is_told_behind_all_others(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (clips / "out.mp4").symlink_to(tmp_path / "secret")
    (clips / "gone.mp4").symlink_to(tmp_path / "nowhere")
    (clips / "in.mp4").symlink_to(clips / "a.mp4")
    (clips / ".hidden").write_text("x")
    os.mkfifo(clips / "pipe.mp4")
    with pytest.raises(UsageError, match=r"not sent: 'gone\.mp4' and 2 more: it is a link that leads out"):
        upload(clips, str(tmp_path / "there"), quiet)
    there = contents(open_store(str(tmp_path / "there")))
    assert there.keys() == {*NAMES, "in.mp4"}


@pytest.mark.parametrize(
    ("what", "to", "told"),
    [
        ("no", "there", "no: no such file"),
        ("clips", "clips/there", "lies in .* itself"),
        ("empty", "there", "empty holds no files"),
    ],
)
def test_what_is_named_wrongly_is_told(
    clips: Path, monkeypatch: pytest.MonkeyPatch, what: str, to: str, told: str
) -> None:
    monkeypatch.chdir(clips.parent)
    Path("empty").mkdir()
    with pytest.raises(UsageError, match=told):
        upload(Path(what), to, quiet)


SLOW = """
import sys, time
from pathlib import Path
from worker.launch import transfer
from worker.queue import bucket
whole = bucket.pieces
def slow(*how):
    for piece in whole(*how):
        yield piece
        time.sleep(0.1)
bucket.pieces = slow
transfer.EVERY_S = 0.1
transfer.upload(Path(sys.argv[1]), sys.argv[2], lambda line: print(line, flush=True))
"""


def test_ctrl_c_in_the_middle_of_a_large_file_ends_at_once_and_the_rest_follows_later(
    azurite: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "small.mp4").write_text("x")
    with (folder / "film.mp4").open("wb") as film:
        film.truncate(600 * CHUNK)  # of holes: more than a minute on its way
    url = f"{azurite.fresh()}/clips"
    command = [sys.executable, "-c", SLOW, str(folder), url]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("1 of 2 files" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=50)[1]
    with (folder / "film.mp4").open("r+b") as film:
        film.truncate(CHUNK + 1)
    assert [entry.name for entry in open_store(url).list()] == [NOTES, "small.mp4"]
    assert upload(folder, url, quiet) == Sent(1, 1, CHUNK + 1)
