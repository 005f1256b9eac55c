"""How what is held ends: with its process or its manager, not because something was silent for a while."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml", reason="the extra gpus is not installed")

from tests.fake_kube import FakeApi
from tests.gpu_clusters import cluster
from worker.errors import MachineError
from worker.gpus import library, own
from worker.gpus.allocation import Allocation, Request
from worker.gpus.clerk import Clerk
from worker.gpus.inventory import Node
from worker.gpus.kube import mirror as mirrors
from worker.gpus.kube.mirror import Mirror
from worker.gpus.ledger import Ledger
from worker.gpus.manager import GpuResourceManager
from worker.gpus.records import Records
from worker.gpus.refusals import Reason, Refusal

FOUR = cluster(a="4xT4")


class Driver:
    def __init__(self) -> None:
        self.trouble = ""

    def look(self) -> Sequence[Node]:
        if self.trouble:
            raise MachineError(self.trouble)
        return FOUR


@pytest.fixture
def here(tmp_path: Path) -> Iterator[GpuResourceManager]:
    (tmp_path / "cluster.yaml").write_text("nodes: [{name: a, gpus: 4xT4}]")
    yield library.get_gpu_resource_manager(tmp_path / "cluster.yaml", tmp_path / "l")
    library.close_gpu_resource_manager()


def comes(what: Callable[[], object]) -> None:
    for _ in range(1200):
        if what():
            return
        threading.Event().wait(0.05)
    pytest.fail("it never came")


def test_at_the_end_of_a_clerk_everybody_is_answered(tmp_path: Path) -> None:
    clerk = Clerk(Ledger(tmp_path / "l"))
    clerk.ask(lambda ledger: ledger.supply(FOUR)).result()
    clerk.allocate(Request(4)).result()
    in_line = clerk.allocate(Request(1), patience_s=1000)
    clerk.close()
    for answer in (in_line, clerk.allocate(Request(1))):
        with pytest.raises(Refusal, match="not ready: it was closed"):
            answer.result(timeout=30)


PROGRAM = """
import sys
from pathlib import Path
from worker.gpus import library
library.get_gpu_resource_manager(Path(sys.argv[1]), Path(sys.argv[2]))
for key in ("", "of several programs"):
    print(library.allocate_gpu_resources({"gpu_count": 2}, key).allocation_id, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="whether a process lives is asked of /proc")
def test_what_a_dead_program_held_comes_back_at_once_unless_a_key_may_be_anothers(
    here: GpuResourceManager, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "cluster.yaml"), str(tmp_path / "l")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        _, keyed = (program.stdout.readline().strip() for _ in range(2))
        assert len(here.ask(lambda ledger: ledger.allocations.copy()).result()) == 2
        program.kill()
    comes(lambda: list(here.ask(lambda ledger: ledger.allocations.copy()).result()) == [keyed])


@pytest.mark.usefixtures("here")
def test_a_program_is_told_that_its_request_was_shrunk() -> None:
    made = library.allocate_gpu_resources({"gpu_type": "T4", "memory_gb": 18, "allow_shrink": True})
    assert made.message == "shrunk: 14.4 GB instead of 18"
    assert made.gpu_config.gpu_memory_fraction == 0.7


def test_a_driver_that_is_silent_ends_nobodys_lease(tmp_path: Path) -> None:
    driver = Driver()
    manager = GpuResourceManager(driver, tmp_path / "l")
    manager.wait_ready(30)
    made = manager.clerk.allocate(Request(1)).result()
    driver.trouble = "the driver hangs"
    manager._soon.set()
    comes(lambda: manager.trouble)
    renewed, left = manager.renew(made.id).result()
    assert renewed.until > made.until
    assert left > 0
    assert manager.release(made.id).result().id == made.id
    manager.close()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """At the first try to renew."""
    renewals: list[str] = []
    renew = Records.renew

    def tried(self: Records, renewed: Allocation) -> None:
        renewals.append(renewed.id)
        if len(renewals) == 1:
            raise sqlite3.OperationalError("database or disk is full")
        renew(self, renewed)

    monkeypatch.setattr(Records, "renew", tried)
    monkeypatch.setattr(library, "RENEWALS", 6000)
    monkeypatch.setattr(own, "RENEWALS", 6000)
    return lambda: len(renewals)


@pytest.mark.usefixtures("here")
def test_a_program_renews_its_cards_though_it_once_could_not(full_disk: Callable[[], int]) -> None:
    library.allocate_gpu_resources({})
    comes(lambda: full_disk() > 2)


def test_a_worker_renews_its_cards_though_it_once_could_not(
    full_disk: Callable[[], int], tmp_path: Path
) -> None:
    with own.take("1x", ledger=tmp_path / "l", inventory=Driver()):
        comes(lambda: full_disk() > 2)


def test_a_mirror_that_does_not_understand_an_object_says_so_and_tells_nothing_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirrors, "GRACE_S", 0.0)
    api = FakeApi()
    api.set("/api/v1/nodes/a", {"metadata": {"name": "a"}, "say": "1"})
    mirror: Mirror[int] = Mirror(api, "/api/v1/nodes", lambda told: int(told["say"]))
    mirror.follow(lambda: None)

    def trouble(_: Any = None) -> str:
        try:
            return str(mirror.found(0))
        except MachineError as error:
            return str(error)

    comes(lambda: trouble() == "[1]")
    api.set("/api/v1/nodes/b", {"metadata": {"name": "b"}, "say": "two"})
    comes(lambda: "ValueError: invalid literal" in trouble())
    api.set("/api/v1/nodes/b", {"metadata": {"name": "b"}, "say": "2"})
    comes(lambda: trouble() == "[1, 2]")
    mirror.close()
    api.end_streams()


def test_who_withdraws_leaves_the_line_and_it_is_told(tmp_path: Path) -> None:
    manager = GpuResourceManager(Driver(), tmp_path / "l")
    manager.wait_ready(30)
    manager.clerk.allocate(Request(4)).result()
    in_line = manager.clerk.allocate(Request(1), "k", 1000)
    seen = manager.events.last
    manager.withdraw("k").result()
    with pytest.raises(Refusal) as refused:
        in_line.result(timeout=30)
    assert refused.value.reason is Reason.BUSY
    comes(lambda: b"event: left" in (manager.events.since(seen) or (0, b""))[1])
    manager.close()
