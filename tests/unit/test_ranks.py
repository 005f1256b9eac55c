"""Several processes for one job: who has which cards, how they speak, and what the end of one means."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, cast
from unittest.mock import create_autospec

import pytest

from tests.servers import free_port
from worker.errors import ItemError, MachineError, UnfinishedError, UnfitError, UsageError
from worker.hardware.cards import Card
from worker.items import Answer, Failure, Item
from worker.jobs.stopping import StopFlag
from worker.jobs.workspace import Workspace
from worker.ranks import backend, words
from worker.ranks.channel import Channel, far, ready
from worker.ranks.coordinator import LOST_MOST, Coordinator, Ranks
from worker.ranks.endings import (
    HungryError,
    NetworkError,
    NodeLostError,
    RankError,
    cause,
    exception_of,
    outcome_of,
    raised,
)
from worker.ranks.group import exit_code
from worker.ranks.meeting import Meeting
from worker.ranks.nodes import Node
from worker.ranks.sharing import alone, share
from worker.ranks.watch import Watch
from worker.ranks.words import (
    DIED,
    HUNGRY,
    LOST,
    NETWORK,
    Answered,
    Begin,
    Done,
    End,
    Found,
    Hello,
    Here,
    Leave,
    Loaded,
    Progress,
    Raised,
    Start,
    Stop,
    Together,
    decode,
    encode,
)
from worker.tasks.task import JobTask, Stopped
from worker.training.batches import begun_with
from worker.training.settings import Training

CARDS = [
    Card("cuda", name, {"CUDA_VISIBLE_DEVICES": name, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) for name in "0123"
]
BEGIN = Begin(
    "feed", {"steps": 3}, {"id": "1", "input": "a"}, "cuda", "nccl", 0, found=Found(3, 0.5, "/there")
)


def test_a_job_that_can_has_all_cards_and_another_task_a_worker_for_each() -> None:
    one = share(CARDS, None, None)
    assert (one.workers, one.ranks) == (1, 4)
    assert one.cards[0].environment == {
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    two = share(CARDS, 2, None)
    assert (two.workers, two.ranks) == (2, 2)
    assert [one.environment["CUDA_VISIBLE_DEVICES"] for one in two.cards] == ["0,1", "2,3"]
    assert (share(CARDS[:1], 2, None).workers, share(CARDS[:1], 2, None).ranks) == (2, 1)
    assert share((), None, 3).ranks == 3
    each = alone(CARDS, None, None, "feed")
    assert (each.workers, each.ranks, each.cards) == (4, 1, CARDS)


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UsageError, match="--workers 3 cannot have as many each of 4 GPUs"):
        share(CARDS, 3, None)
    with pytest.raises(UsageError, match="--processes 2: a process has a GPU to itself"):
        share(CARDS, None, 2)
    slices = [Card("cuda", name, {"CUDA_VISIBLE_DEVICES": name}) for name in ("MIG-a", "MIG-b")]
    with pytest.raises(UsageError, match="--workers 2"):
        share(slices, None, None)
    assert share(slices, 2, None).ranks == 1
    with pytest.raises(UsageError, match="feed works in one process"):
        alone((), None, 2, "feed")
    with pytest.raises(UsageError, match="leaves 3 of 4 GPUs idle"):
        alone(CARDS, 1, None, "feed")


@pytest.mark.parametrize(
    "word",
    [
        Hello(1, 7),
        Progress(3, None, {"loss": 0.5}),
        BEGIN,
        Start("shard", "1", "nccl", 0, 2900, ("shard", 2, 5)),
        Start("shard", "1", "gloo", 1, 2900, None),
        Answered({"a": [1]}, {"b.png": "AA=="}),
        Answered(None, failure=("error", "no")),
        Done(),
    ],
)
def test_a_word_arrives_as_it_was_said(word: words.Word) -> None:
    assert decode(encode(word)) == word


@pytest.mark.parametrize(
    "line", [b"[" * 60_000, b"x", b"[1]", b'["Nobody", {}]', b'["Hello", {"rank": 1}]', b'["Hello", 3]']
)
def test_a_word_that_is_none_is_told(line: bytes) -> None:
    with pytest.raises(UnfinishedError, match="is not understood"):
        decode(line)


@contextmanager
def lines() -> Iterator[tuple[Channel, Channel]]:
    here, there = (Channel(one) for one in socket.socketpair())
    with closing(here), closing(there):
        yield here, there


def test_words_are_read_whole_one_by_one_and_none_is_waited_for() -> None:
    with lines() as (here, there):
        assert there.arrived() == []
        assert there.next() is None
        for pid in range(3):
            assert here.send(Hello(0, pid))
        assert there.next() == Hello(0, 0)
        assert there.arrived() == [Hello(0, 1), Hello(0, 2)]
        here.send(Done())
        here.close()
        assert there.receive() == Done()
        assert there.receive() is None
        assert there.ended
        assert not there.send(Done())


def test_the_end_of_a_rank_says_what_becomes_of_the_job() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    def after(error: Exception, way: str = backend.NCCL) -> Exception:
        end = decode(encode(raised(1, error)))
        assert isinstance(end, Raised)
        return exception_of(end, way)

    assert isinstance(after(Stopped()), Stopped)
    assert isinstance(after(OutOfMemoryError("20 GB")), HungryError)
    assert isinstance(after(NetworkError("no peer")), NetworkError)
    assert isinstance(after(NetworkError("no peer"), backend.GLOO), RankError)
    wrong = after(ItemError("wrong-settings", "no"))
    assert isinstance(wrong, ItemError)
    assert wrong.kind == "wrong-settings"
    assert isinstance(after(UsageError("no")), UsageError)
    assert isinstance(after(UnfinishedError("later")), UnfinishedError)
    assert isinstance(after(MachineError("ill")), MachineError)
    assert not isinstance(after(MachineError("ill")), UnfitError)
    assert isinstance(after(UnfitError("too small")), UnfitError)
    assert isinstance(after(RuntimeError("CUDA error: it fell off the bus")), MachineError)
    plain = after(ValueError("odd"))
    assert isinstance(plain, RankError)
    assert str(plain).startswith("rank 1: ValueError: odd")
    assert outcome_of(Answered({"a": 1}, {"b": "AAE="})) == Answer({"a": 1}, {"b": b"\x00\x01"})
    assert outcome_of(Answered(None, failure=("k", "m"))) == Failure("k", "m")


def test_who_was_killed_is_the_cause_and_torchrun_says_how() -> None:
    complains = Raised(0, "rank 0: RuntimeError: connection closed by peer")
    died = Raised(1, "rank 1 died", DIED)
    assert cause([complains, died]) == died
    assert cause([complains]) == complains
    gone = Raised(-1, "node 1 is gone", LOST)
    assert cause([complains, died, gone]) == gone
    assert isinstance(exception_of(gone, backend.NCCL), NodeLostError)
    hungry = Raised(1, "rank 1: OutOfMemoryError", HUNGRY)
    assert cause([complains, hungry]) == hungry
    refuses = Raised(-1, "node 1: there is no such folder", code=UsageError.exit_code)
    assert cause([gone, refuses]) == refuses, "what it said before it left"
    said = "failed (exitcode: -9) local_rank: 1 (pid: 77) of binary"
    assert exit_code(said, 77) == -9
    assert exit_code(said, 7) is None
    assert exit_code("  exitcode  : -11 (pid: 8)", 8) == -11


def test_nccl_that_does_not_work_gives_way_to_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [backend.choose(kind) for kind in ("cuda", "cpu", "npu")] == ["nccl", "gloo", "gloo"]
    died = Raised(1, "rank 1 was ended by SIGABRT", DIED)
    loading = Watch(2, backend.NCCL)
    loading.hear(Loaded())
    assert loading.hear(died) == died, "what dies while it loads says nothing of NCCL"
    early = Watch(2, backend.NCCL)
    for _ in range(2):
        early.hear(Loaded())
    assert early.hear(Raised(-1, "node 1 is gone", LOST)).kind == LOST
    assert early.hear(died) == Raised(1, died.text, NETWORK)
    later = Watch(2, backend.NCCL)
    later.hear(Together())
    assert later.hear(died) == died
    assert Watch(2, backend.GLOO).hear(died) == died
    monkeypatch.setattr(backend, "FIRST_WORD_S", 0.0)
    slow = Watch(2, backend.NCCL)
    slow.hear(Loaded())
    assert slow.look() is None
    slow.hear(Loaded())
    late = slow.look()
    assert late
    assert late.kind == NETWORK
    for _ in range(2):
        slow.hear(Together())
    assert slow.look() is None
    assert "NCCL_SOCKET_IFNAME" in backend.instead("nccl", "no peer")


def test_a_batch_is_halved_as_often_as_it_did_not_fit_before() -> None:
    training = Training(batch_size=8, gradient_accumulation_steps=2)
    smaller = begun_with(training, 2)
    assert smaller
    assert (smaller.batch_size, smaller.gradient_accumulation_steps) == (2, 8)
    assert begun_with(training, 0) == training
    assert begun_with(training, 4) is None


@contextmanager
def meeting_of_two() -> Iterator[tuple[Meeting, Callable[[], Channel]]]:
    """And how node 1 comes to it."""
    node = Node(0, 2, "127.0.0.1", free_port())
    meeting = Meeting(node, "print", 2)
    meeting.open()
    with closing(meeting), ExitStack() as opened:

        def come() -> Channel:
            one = socket.create_connection((node.host, node.port))
            return opened.enter_context(closing(Channel(one)))

        yield meeting, come


HERE = Here(1, "print", 2)


def test_a_job_outlives_its_nodes_unless_they_all_die_of_it() -> None:
    class Lossy(Coordinator):
        losses = 0

        def _begin(self, *_: object) -> Begin:
            return BEGIN

        def _together(self, *_: object) -> Answer:
            self.losses += 1
            if self.losses == LOST_MOST:
                workspace.saved = 7
            if self.losses > last:
                return Answer({})
            raise NodeLostError("node 1 is gone")

    ranks = Ranks(1, Node(), "cpu", "print", 1.0, 1.0)
    item, task = Item("1", "a"), cast(JobTask[Any], None)
    workspace = create_autospec(Workspace, instance=True, saved=-1)
    last = 2 * LOST_MOST - 2
    assert Lossy(task, ranks).run(item, workspace, StopFlag()) == Answer({})
    workspace.saved, last = -1, 3 * LOST_MOST
    with pytest.raises(RankError, match=f"node 1 is gone, the {LOST_MOST}th time"):
        Lossy(task, ranks).run(item, workspace, StopFlag())


def test_whoever_looks_through_the_ports_of_a_network_ends_no_job() -> None:
    with meeting_of_two() as (meeting, come):
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\n", b'["Here", {"node": 1}]\n'):
            stranger = come()
            os.write(stranger.fileno(), said)
            while not ready([stranger], 0):
                assert meeting.hear(StopFlag()) == []
            assert stranger.receive() is None
        come().send(HERE)
        meeting.gather(StopFlag(), lambda: None, 10.0)


def test_what_a_node_says_of_a_start_that_is_over_does_not_end_the_next_one() -> None:
    with meeting_of_two() as (meeting, come):
        node, stop = come(), StopFlag()
        node.send(HERE)
        meeting.gather(stop, lambda: None, 10.0)
        meeting.start(BEGIN, "shard", None)
        meeting.end()
        with pytest.raises(UnfinishedError, match="node 1 of 2"):
            meeting.gather(stop, lambda: None, 0.0)
        node.send(Raised(3, "rank 3 died", DIED))
        node.send(End())
        meeting.gather(stop, lambda: None, 10.0)
        meeting.start(BEGIN, "shard", None)
        assert meeting.hear(stop) == []


def test_a_node_that_was_lost_while_nothing_was_done_is_missed_before_the_next_start() -> None:
    with meeting_of_two() as (meeting, come):
        first, stop = come(), StopFlag()
        first.send(HERE)
        meeting.gather(stop, lambda: None, 10.0)
        second = come()
        second.send(HERE)
        while not ready([second], 0.05):
            meeting.hear(stop)
        assert second.receive() == Leave("another worker is node 1 already", again=True)
        first.close()
        third = come()
        third.send(HERE)
        meeting.gather(stop, lambda: None, 10.0)
        meeting.start(BEGIN, "shard", None)
        assert isinstance(third.receive(), Start)


def test_a_machine_without_power_is_missed_within_a_minute_or_so() -> None:
    with socket.socket() as one:
        far(one)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        knocks = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert idle + knocks * one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) <= 60


def test_nodes_meet_and_who_comes_to_the_wrong_place_is_sent_away() -> None:
    node = Node(0, 2, "127.0.0.1", free_port())
    meeting = Meeting(node, "print", 2)
    meeting.open()
    stop = StopFlag()
    with closing(meeting):
        taken = Meeting(node, "print", 2)
        with pytest.raises(MachineError, match="cannot be met at port"):
            taken.open()
        with pytest.raises(UnfinishedError, match=r"node 1 of 2 did not come"):
            meeting.gather(stop, lambda: None, 0.0)

        def come(*told: object) -> Channel:
            line = Channel(socket.create_connection((node.host, node.port)))
            line.send(Here(*told))  # type: ignore[arg-type]
            while not ready(meeting.lines, 0):
                pass
            for _ in range(2):
                meeting.hear(stop)
            return line

        for wrong, why in (
            ((1, "other", 2), "another queue"),
            ((1, "print", 4), "as many on each"),
            ((2, "print", 2), "only 2"),
            (("x", "other", None), "another queue"),
        ):
            away = come(*wrong)
            left = away.receive()
            away.close()
            assert isinstance(left, Leave)
            assert why in left.reason
        follower = come(1, "print", 2)
        meeting.gather(stop, lambda: None, 0.0)
        meeting.start(BEGIN, "shard", ("shard", (1, 2)))
        begun = follower.receive()
        assert isinstance(begun, Start)
        assert (begun.shard, begun.item, begun.checkpoint) == ("shard", "1", ("shard", 1, 2))
        follower.send(Stop("evicted", 9.0))
        ready(meeting.lines, 10.0)
        assert meeting.hear(stop) == []
        assert stop.reason == "node 1: evicted"
        follower.close()
        ready(meeting.lines, 10.0)
        assert meeting.hear(stop) == [(-1, Raised(-1, "node 1 is gone", LOST))]


def test_a_batch_job_is_told_where_to_save_and_a_torn_save_is_none(tmp_path: Path) -> None:
    """The true workspace, at the other end of a line."""
    from threading import Event, Thread
    from uuid import uuid4

    from worker.jobs.workspace import Claim, Workspace
    from worker.queue.store import open_store
    from worker.ranks.desk import Desk
    from worker.ranks.remote import Remote

    store = open_store(f"memory://{uuid4().hex}")
    claim = Claim("feed", 1, lambda: True, lambda: True)
    workspace = Workspace(store, claim, tmp_path, 2, lambda _: None, lambda: None)
    with lines() as (here, there):
        desk, stop, gone = Desk(workspace), StopFlag(), Event()
        remote = Remote(BEGIN, there, stop, gone.set)

        def serve() -> None:
            while (word := here.receive()) is not None and not isinstance(word, words.Over):
                desk.hear(word, here)

        serving = Thread(target=serve)
        serving.start()
        found = remote.resume()
        assert found
        assert (found.step, found.folder) == (3, Path("/there"))
        with remote.checkpoint(4, 0.25) as folder:
            (folder / "weights").write_text("four")
            (folder / "state").write_text("no more needed")
        with pytest.raises(ValueError, match="torn"), remote.checkpoint(5) as folder:
            raise ValueError("torn")
        remote.settle()
        assert (workspace.saved, workspace.whole) == (4, 1)
        best = remote.best(lambda name: name == "weights")
        assert best
        assert [file.name for file in best.folder.iterdir()] == ["weights"]
        remote.publish("weights", best.folder / "weights")
        assert list(workspace.published) == ["weights"]
        here.send(Stop("SIGTERM", 9.0))
        assert stop.wait(10.0)
        there.send(words.Over())
        serving.join()
        here.close()
        assert gone.wait(10.0)
        with pytest.raises(UnfinishedError):
            remote.settle()
