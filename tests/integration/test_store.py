"""What every store promises: the same on a disk, in memory, on Azure Blob and on S3."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.proxy import Fault, Lot, proxy
from tests.servers import Server
from worker.errors import StoreAwayError, StoreDeniedError, UsageError
from worker.queue import bucket
from worker.queue.store import CHUNK, Store, open_store

ROOT = Path(__file__).parents[2]
ODD_NAMES = [
    "with space.txt",
    "视频 1.mp4",
    "片/段/😀.bin",
    "100%.txt",
    "a%20b",
    "x/%2F/y",
    "a#b?c=d&e",
    "q'\"q",
    "[1]{2}|^`~<>*+;",
    " lead and trail ",
    "end.",
]


@pytest.fixture
def store(any_store_url: str) -> Store:
    return open_store(any_store_url)


def test_sixteen_creators_have_one_winner(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        bids = [b"worker %d" % i for i in range(16)]
        for round_ in range(20):
            name = f"claims/{round_}/1.json"
            won = list(pool.map(store.create, [name] * 16, bids))
            assert won.count(True) == 1
            assert store.get(name) == bids[won.index(True)]


def test_create_with_the_same_bytes_is_ours(store: Store) -> None:
    assert store.create("done/a.json", b"one")
    assert store.create("done/a.json", b"one")
    assert not store.create("done/a.json", b"two")
    assert store.get("done/a.json") == b"one"


def test_put_overwrites_and_changes_the_version(store: Store) -> None:
    store.put("beat", b"1")
    first = store.head("beat")
    store.put("beat", b"2")
    second = store.head("beat")
    assert store.get("beat") == b"2"
    assert first is not None
    assert second is not None
    assert first.version != second.version
    assert store.list() == [second]


def test_absent_objects(store: Store) -> None:
    assert store.get("nothing/here") is None
    assert store.head("nothing/here") is None
    assert store.list("nothing/") == []
    store.discard("nothing/here")
    with pytest.raises(FileNotFoundError):
        store.read("nothing/here", 0, 1)


def test_a_folder_is_no_object(store: Store) -> None:
    store.put("claims/a/1.json", b"")
    assert store.get("claims/a") is None
    assert store.head("claims") is None
    assert store.list("claims/a/1.json") == []


def test_discard(store: Store) -> None:
    for name in ODD_NAMES:
        store.put(name, b"x")
    for name in ODD_NAMES:
        store.discard(name)
    assert store.list() == []


def test_list_goes_on_behind_a_thousand_and_takes_whole_folders(store: Store) -> None:
    names = sorted(f"parts/{i:04}" for i in range(1100))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: store.put(name, b""), [*names, "partsx/1", "other"]))
    assert [entry.name for entry in store.list("parts/")] == names
    assert [entry.name for entry in store.list()] == ["other", *names, "partsx/1"]


@pytest.mark.parametrize("content", [b"", b"0123456789"])
def test_head_and_ranges(store: Store, content: bytes) -> None:
    store.put("object", content)
    entry = store.head("object")
    assert entry is not None
    assert (entry.name, entry.size) == ("object", len(content))
    for start, length in [(0, 4), (3, 100), (10, 5), (50, 5), (0, 0)]:
        assert store.read("object", start, length) == content[start : start + length]


def test_odd_names_come_back_as_they_were(store: Store) -> None:
    for name in ODD_NAMES:
        assert store.create(name, name.encode())
    assert [entry.name for entry in store.list()] == sorted(ODD_NAMES)
    assert [entry.name for entry in store.list("片/段/")] == ["片/段/😀.bin"]
    for name in ODD_NAMES:
        assert store.get(name) == name.encode()
        entry = store.head(name)
        assert entry is not None
        assert entry.name == name


@pytest.mark.parametrize("name", ["", "../up", "a/../../up", "/etc/passwd", "a//b", "nul\0"])
def test_names_stay_inside(store: Store, name: str) -> None:
    with pytest.raises(UsageError):
        store.put(name, b"x")


MOVE = """
import re, sys
from pathlib import Path
from worker.queue.store import open_store

def peak():  # not ru_maxrss: that one is inherited from the process that started us
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

url, big, back = sys.argv[1:]
store = open_store(url)
store.put("small", b"x")
store.download("small", Path(back))
before = peak()
store.upload("big", Path(big))
store.download("big", Path(back))
print((peak() - before) / 1024)
"""


def test_a_big_file_moves_in_little_memory(any_store_url: str, tmp_path: Path) -> None:
    big, back = tmp_path / "big.bin", tmp_path / "back.bin"
    block = bytes(range(256)) * 4096
    with big.open("wb") as file:
        for i in range(40):
            file.write(i.to_bytes(4) + block[4:])
    command = [sys.executable, "-c", MOVE, any_store_url, str(big), str(back)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    assert back.read_bytes() == big.read_bytes()
    if not any_store_url.startswith("memory://"):  # which holds the file itself
        assert float(run.stdout) < 32
    assert not list(tmp_path.rglob(".tmp-*"))


def test_download_is_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        store.download("absent", file)
    assert file.read_bytes() == b"old"
    assert not list(tmp_path.glob(".tmp-*"))


class Writes:
    """Each fails whose number is wanted."""

    def __init__(self, fault: Fault, fails: Callable[[int], bool]) -> None:
        self.count = 0
        self._fault = fault
        self._fails = fails

    def draw(self, _: float, *, writes: bool) -> Lot:
        self.count += writes
        return Lot(self._fault if writes and self._fails(self.count) else None, 0.0)


@contextmanager
def before(server: Server, lots: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (name,) = (name for name in server.env if name in ("AZURITE_BLOB_STORAGE_URL", "AWS_ENDPOINT_URL"))
    with proxy(int(server.env[name].rpartition(":")[2]), lots) as way:
        monkeypatch.setenv(name, way.url)
        yield


PARTS = 6
SENT = {"azurite": PARTS + 1, "s3": PARTS + 2}
"""requests of an undisturbed upload, the last of which completes it"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(PARTS * CHUNK))
    return file


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.RESET, Fault.LOST])
@pytest.mark.parametrize("kind", SENT)
def test_of_a_large_upload_only_the_part_that_failed_is_sent_again(
    kind: str, fault: Fault, large: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Server = request.getfixturevalue(kind)
    writes = Writes(fault, lambda number: number in (2, 4, 6))
    with before(server, writes, monkeypatch):
        store = open_store(f"{server.fresh()}/queue", patience=0.0)
        store.upload("weights", large)
        assert writes.count == SENT[kind] + 3
        store.download("weights", large.with_name("again"))
    assert large.with_name("again").read_bytes() == large.read_bytes()


@pytest.mark.parametrize("kind", SENT)
def test_a_large_upload_whose_end_is_acknowledged_to_nobody_is_there(
    kind: str, large: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Server = request.getfixturevalue(kind)
    with before(server, Writes(Fault.LOST, lambda number: number == SENT[kind]), monkeypatch):
        store = open_store(f"{server.fresh()}/queue")
        store.upload("weights", large)
        store.download("weights", large.with_name("again"))
    assert large.with_name("again").read_bytes() == large.read_bytes()


@pytest.mark.parametrize("kind", SENT)
def test_an_upload_to_a_store_that_stays_away_ends(
    kind: str, large: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Server = request.getfixturevalue(kind)
    monkeypatch.setitem(bucket.PART_RETRIES, "max_retries", 2)
    refused = pytest.raises(StoreAwayError, match="503")
    with before(server, Writes(Fault.REFUSED, lambda _: True), monkeypatch), refused:
        open_store(f"{server.fresh()}/queue", patience=0.0).upload("weights", large)


@pytest.mark.parametrize("kind", ["azurite", "s3"])
def test_a_missing_container_is_refused_at_once(kind: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(kind)
    container = server.fresh() + "-missing"
    for question in ("get", "head", "list", "put"):
        store = open_store(container)
        with pytest.raises(StoreDeniedError, match=r"check the (container|bucket)'s name"):
            getattr(store, question)(*{"list": [""], "put": ["name", b""]}.get(question, ["name"]))


def test_wrong_credentials_are_refused_at_once(azurite: Server) -> None:
    store = open_store(azurite.fresh() + "/queue?sv=2021-08-06&sr=c&sp=rl&se=2099-01-01&sig=TOPSECRET%3D")
    with pytest.raises(StoreDeniedError, match=r"refuses us \(403") as refused:
        store.put("name", b"")
    assert "TOPSECRET" not in f"{store.url} {refused.value}"


@pytest.mark.parametrize("env", ["AZURITE_BLOB_STORAGE_URL", "AWS_ENDPOINT_URL"])
def test_a_server_that_is_not_there_is_away(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "c"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(env, "http://127.0.0.1:9")
    store = open_store("s3://bucket" if env.startswith("AWS") else "az://container", patience=0)
    with pytest.raises(StoreAwayError, match=r"store away \(connection refused\)"):
        store.get("name")


def test_a_server_that_never_answers_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bucket.TIMEOUTS, "timeout", "300ms")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.setenv(name, "any")
        store = open_store("s3://bucket", patience=0)
        for question in (store.get, store.head, store.list, store.discard):
            with pytest.raises(StoreAwayError, match="no answer in time"):
                question("name")


def test_google_without_credentials_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT", "METADATA_IP"):
        monkeypatch.setenv(name, "127.0.0.1:9")
    store = open_store("gs://bucket/prefix")
    assert store.url == "gs://bucket/prefix"
    with pytest.raises(StoreDeniedError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        store.get("name")
