"""A child's death, hang or hunger costs its item, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.workers import PATIENCE_S
from worker.errors import UsageError
from worker.items import Failure, Item
from worker.pool import Pool, Prepared

TASKS = Path(__file__).parents[1] / "pool_tasks"
MakePool = Callable[..., Pool]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePool]:
    monkeypatch.setenv("WORKER_TASKS", str(TASKS))
    pools: list[Pool] = []

    def make(size: int = 2, *, limit_s: float = 30, memory_gb: float = 1, **more: Any) -> Pool:
        pools.append(Pool("misbehaving", {"tag": "<"}, size, limit_s=limit_s, memory_gb=memory_gb, **more))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def prepare(pool: Pool, *inputs: str) -> list[Prepared]:
    """What became of each, in the order in which they were submitted."""
    for number, text in enumerate(inputs):
        pool.submit(Item(id=str(number), input=text))
    prepared: dict[str, Prepared] = {}
    until = time.monotonic() + PATIENCE_S
    while pool.under_way and time.monotonic() < until:
        for done in pool.poll(1):
            assert done.item.id not in prepared, "an item was finished twice"
            prepared[done.item.id] = done
    return [prepared[str(number)] for number in range(len(inputs))]


def outcomes(pool: Pool, *inputs: str) -> list[object]:
    return [done.outcome for done in prepare(pool, *inputs)]


def failure(pool: Pool, text: str) -> Failure:
    """How an item fails, after which the pool must still work."""
    outcome, other = outcomes(pool, text, "say fine")
    assert other == "<fine"
    assert isinstance(outcome, Failure)
    assert "\n" not in outcome.message
    return outcome


def alive(pid: int) -> bool:
    """Running: one that merely waits to be reaped is dead to us."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def test_every_item_is_answered_once(make: MakePool) -> None:
    pool = make(3)
    words = [f"say {number}" for number in range(200)]
    assert outcomes(pool, *words) == [f"<{number}" for number in range(200)]
    assert pool.under_way == 0


def test_items_come_back_in_the_order_of_completion(make: MakePool, tmp_path: Path) -> None:
    pool = make(2)
    pool.submit(Item("slow", f"await {tmp_path / 'go on'}"))
    pool.submit(Item("quick", "say quick"))
    (first,) = pool.poll(PATIENCE_S)
    (tmp_path / "go on").touch()
    (second,) = pool.poll(PATIENCE_S)
    assert (first.item.id, second.item.id) == ("quick", "slow")


def test_how_long_an_item_took_is_told(make: MakePool) -> None:
    pool = make(1)
    began = time.monotonic()
    (done,) = prepare(pool, "sleep 0.2")
    assert 0.2 <= done.seconds <= time.monotonic() - began


def test_poll_waits_no_longer_than_told(make: MakePool) -> None:
    pool = make(1)
    pool.submit(Item("slow", "sleep 600"))
    started = time.monotonic()
    assert pool.poll(0) == []
    assert pool.poll(0.1) == []
    assert 0.1 <= time.monotonic() - started < PATIENCE_S
    assert pool.under_way == 1


def test_a_child_is_used_again_and_none_is_started_in_vain(make: MakePool) -> None:
    pool = make(4)
    pids = set()
    for _ in range(3):
        pids.update(outcomes(pool, "pid"))
    assert len(pids) == 1


def test_a_child_has_a_name_and_one_thread(make: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert outcomes(make(1), "comm") == [("worker-prepare", "1")]
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert outcomes(make(1), "comm") == [("worker-prepare", "3")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("segfault", "died of signal 11 (segmentation fault), twice"),
        ("exit 3", "ended with status 3, twice"),
        ("exit 0", "ended with status 0, twice"),
        ("kill", "was killed, probably by the system for lack of memory, twice"),
    ],
)
def test_a_death_is_the_failure_of_its_item(make: MakePool, text: str, message: str) -> None:
    assert failure(make(), text) == Failure("crashed", f"the process that prepared it {message}")


def test_one_poison_item_among_a_hundred_is_one_failure(make: MakePool) -> None:
    words = [f"say {number}" for number in range(100)]
    words[50] = "segfault"
    failed = [done for done in prepare(make(4), *words) if isinstance(done.outcome, Failure)]
    assert [done.item.input for done in failed] == ["segfault"]


def test_only_poison_is_survived_too(make: MakePool) -> None:
    kinds = [getattr(outcome, "kind", None) for outcome in outcomes(make(3), *["exit 1"] * 9)]
    assert kinds == ["crashed"] * 9


def test_an_item_that_killed_one_child_is_tried_in_a_fresh_one(make: MakePool, tmp_path: Path) -> None:
    pool = make(2)
    used = outcomes(pool, "pid 0.2", "pid 0.2")
    (answered_by,) = outcomes(pool, f"once {tmp_path / 'died'}")
    assert isinstance(answered_by, int)
    assert answered_by not in used


def test_an_idle_child_that_died_is_replaced(make: MakePool) -> None:
    pool = make(1)
    (pid,) = outcomes(pool, "pid")
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(pid))
    (fresh,) = outcomes(pool, "pid")
    assert isinstance(fresh, int)
    assert fresh != pid


def test_a_hang_ends_at_the_limit(make: MakePool) -> None:
    message = (
        "no sign of life for 1 s while it was prepared: "
        "if it is only slow, raise --item-limit (WORKER_ITEM_LIMIT)"
    )
    assert failure(make(limit_s=1.0), "spin") == Failure("timeout", message)


def test_what_gets_on_may_take_longer_than_the_limit(make: MakePool) -> None:
    assert outcomes(make(1, limit_s=1.0), "work 2.5", "say fine") == ["2.5", "<fine"]


def test_what_hangs_after_a_while_ends_at_the_limit_from_there(make: MakePool) -> None:
    hung, fine = prepare(make(1, limit_s=1.0), "stall 1.5", "say fine")
    assert getattr(hung.outcome, "kind", "") == "timeout"
    assert 2.0 < hung.seconds < 2.5 + PATIENCE_S  # from the beginning it would be 1.0
    assert fine.outcome == "<fine"


def test_an_ill_disk_is_the_machines_fault_and_not_the_items(make: MakePool) -> None:
    assert failure(make(), "ill").kind == "system"


def test_a_worker_that_was_stopped_and_woken_does_not_take_its_items_for_hung(
    make: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make(1, limit_s=1.0)
    monkeypatch.setattr("worker.pool.PAUSE_S", 0.2)
    outcomes(pool, "say warm")
    pool.submit(Item(id="0", input="sleep 0.8"))
    pool.poll(0.5)
    os.kill(pool._children[0].process.pid or 0, signal.SIGSTOP)
    time.sleep(1.0)  # stands in for the stop of the whole worker
    os.kill(pool._children[0].process.pid or 0, signal.SIGCONT)
    (done,) = pool.poll(PATIENCE_S)
    assert not isinstance(done.outcome, Failure)


def test_a_sample_that_came_in_time_counts_however_late_we_look(make: MakePool, tmp_path: Path) -> None:
    pool = make(1, limit_s=0.3)
    outcomes(pool, "say warm")
    pool.submit(Item("x", f"touch {tmp_path / 'file'}"))
    assert wait_for((tmp_path / "file").exists)
    time.sleep(0.5)
    assert [done.outcome for done in [*pool.poll(0), *pool.poll(1)]] == ["touched"]


def test_a_hungry_item_fails_and_the_others_go_on(make: MakePool) -> None:
    expected = Failure("memory", "needs more than 0.2 GB to prepare; raise WORKER_ITEM_MEMORY")
    assert failure(make(memory_gb=0.2), "array 400") == expected
    assert failure(make(memory_gb=0.2), "hoard 400") == expected


def test_what_earlier_items_left_in_memory_is_not_held_against_an_item(make: MakePool) -> None:
    assert outcomes(make(1, memory_gb=0.2), "hoard 100", "hoard 150", "hoard 10") == [100, 150, 160]


def test_a_large_sample_passes(make: MakePool) -> None:
    pool = make(2)
    for sample in outcomes(pool, *["array 64"] * 4):
        assert getattr(sample, "nbytes", 0) == 64 << 20


def test_errors_of_the_task_are_failures(make: MakePool) -> None:
    pool = make()
    assert failure(pool, "refuse no frames") == Failure("refused", "no frames")
    assert failure(pool, "fail as told") == Failure("given", "as told")
    odd = failure(pool, "raise two\nlines")
    assert odd.kind == "error"
    assert odd.message.startswith("ValueError: two lines (misbehaving.py:")


def test_a_sample_that_cannot_travel_is_a_failure(make: MakePool) -> None:
    pool = make()
    unsendable = failure(pool, "generator")
    assert unsendable.kind == "error"
    assert "cannot be sent to the worker: TypeError: cannot pickle 'generator'" in unsendable.message
    assert "cannot be read back: ValueError" in failure(pool, "unreadable").message


def test_an_item_that_cannot_travel_is_refused_at_once(make: MakePool) -> None:
    pool = make()
    with pytest.raises(TypeError, match="pickle"):
        pool.submit(Item("x", "say x", params={"open": iter("x" for _ in "")}))
    assert pool.under_way == 0


def test_a_task_that_cannot_be_made_fails_its_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_TASKS", str(TASKS))
    pool = Pool("misbehaving", {"tog": ""}, 1, limit_s=30, memory_gb=1)
    (outcome,) = outcomes(pool, "say x")
    pool.close()
    assert isinstance(outcome, Failure)
    assert "did you mean tag?" in outcome.message


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UsageError, match="no task is called 'nonesuch'"):
        Pool("nonesuch", {}, 1, limit_s=30, memory_gb=1)


@contextmanager
def louder(item: Item) -> Iterator[Item]:
    yield replace(item, input=item.input + "!")


@contextmanager
def nowhere(item: Item) -> Iterator[Item]:
    raise OSError(f"no {item.input}")
    yield


def test_an_item_is_opened_in_the_child(make: MakePool) -> None:
    (done,) = prepare(make(open_item=louder), "say hello")
    assert (done.item.input, done.outcome) == ("say hello", "<hello!")


def test_an_item_that_cannot_be_opened_is_a_failure(make: MakePool) -> None:
    assert "OSError: no say hello (" in getattr(
        outcomes(make(open_item=nowhere), "say hello")[0], "message", ""
    )


def test_a_wake_ends_a_poll(make: MakePool) -> None:
    pool = make()
    pool.wake()
    started = time.monotonic()
    assert pool.poll(PATIENCE_S) == []  # it was woken before
    threading.Timer(0.1, pool.wake).start()
    assert pool.poll(PATIENCE_S) == []
    assert time.monotonic() - started < PATIENCE_S
    assert pool.poll(0.05) == []
    for _ in range(100_000):  # never blocks, never fails
        pool.wake()
    pool.close()
    pool.wake()


def test_another_thread_may_drop_while_the_caller_waits(make: MakePool) -> None:
    pool = make(1)
    texts = ["sleep 60", "say b"]
    for text in texts:
        pool.submit(Item(text, text))
    dropped: list[Item] = []
    other = threading.Timer(0.1, lambda: dropped.extend(pool.drop()))
    other.start()
    assert pool.poll(PATIENCE_S) == []
    other.join(PATIENCE_S)
    assert sorted(item.input for item in dropped) == sorted(texts)
    assert pool.under_way == 0
    assert outcomes(pool, "say again") == ["<again"]


def test_drop_kills_and_gives_back(make: MakePool) -> None:
    pool = make(2)
    (pid,) = outcomes(pool, "pid")
    assert isinstance(pid, int)
    texts = ["sleep 60", "spin", "say a", "say b"]
    for text in texts:
        pool.submit(Item(text, text))
    assert pool.under_way == 4
    assert sorted(item.input for item in pool.drop()) == sorted(texts)
    assert pool.under_way == 0
    assert not alive(pid)
    assert outcomes(pool, "say again") == ["<again"]


def test_children_leave_stopping_to_the_worker(make: MakePool) -> None:
    assert outcomes(make(), "stopsignals") == ["still here"]


def test_the_death_of_the_fork_server_costs_no_item(make: MakePool) -> None:
    pool = make(1)
    (server,) = outcomes(pool, "parent")
    assert isinstance(server, int)
    pool.submit(Item("x", "sleep 0.3"))
    os.kill(server, signal.SIGKILL)
    done: list[Prepared] = []
    while pool.under_way:
        done += pool.poll(PATIENCE_S)
    assert [prepared.outcome for prepared in done] == ["0.3"]
    assert outcomes(pool, "stopsignals") == ["still here"]


def test_what_a_hanging_item_started_ends_with_it(make: MakePool, tmp_path: Path) -> None:
    pool = make(limit_s=0.5)
    assert failure(pool, f"family {tmp_path / 'pids'}").kind == "timeout"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert wait_for(lambda: not any(map(alive, pids)))


OWNER = """
import os, sys
from worker.items import Item
from worker.pool import Pool
pool = Pool("misbehaving", {{}}, 4, limit_s=60, memory_gb=1)
pool.submit(Item("idle", "say idle"))
while not pool.poll(1): pass
for text in {texts}: pool.submit(Item(text, text))
print(flush=True)
{then}
"""


def processes_marked(mark: str) -> list[int]:
    """Those whose environment at their start has the mark: the owner, the fork server, the children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and alive(int(folder.name)):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@contextmanager
def started_owner(tmp_path: Path, then: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process with a pool whose children hang: one sleeps, one spins, one has a program of its own."""
    mark = f"POOL_TEST={tmp_path}"
    texts = ["sleep 60", "spin", f"family {tmp_path / 'pids'}"]
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER.format(texts=texts, then=then)],
        env=os.environ | {"WORKER_TASKS": str(TASKS), "POOL_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout
        assert owner.stdout.readline() == "\n"
        yield owner, mark
    finally:
        owner.kill()
        owner.communicate()


def test_killing_the_worker_leaves_no_process_behind(tmp_path: Path) -> None:
    with started_owner(tmp_path, "pool.poll(60)") as (owner, mark):
        assert wait_for(lambda: (tmp_path / "pids").exists())
        assert len(processes_marked(mark)) >= 6  # fork server, tracker, three children, sleep
        owner.kill()
        assert wait_for(lambda: not processes_marked(mark))


@pytest.mark.parametrize("then", ["", "pool.close()", "raise SystemExit(0)"])
def test_a_worker_that_ends_takes_its_children_along(tmp_path: Path, then: str) -> None:
    with started_owner(tmp_path, then) as (owner, mark):
        assert owner.wait(PATIENCE_S) == 0
        assert wait_for(lambda: not processes_marked(mark))


def test_a_stop_signal_to_all_processes_ends_no_child() -> None:
    script = """
import os, signal
from worker.items import Item
from worker.pool import Pool
signal.signal(signal.SIGUSR1, lambda *_: None)
pool = Pool("misbehaving", {}, 1, limit_s=60, memory_gb=1)
pids = set()
for _ in range(2):
    pool.submit(Item("x", "pid"))
    while pool.under_way: pids |= {done.outcome for done in pool.poll(1)}
    os.killpg(0, signal.SIGUSR1)
    pool.poll(0.2)
print(len(pids))
"""
    owner = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"WORKER_TASKS": str(TASKS)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        timeout=PATIENCE_S,
    )
    assert owner.stdout == "1\n"


def test_inputs_that_do_not_fit_together_wait_for_each_other(make: MakePool) -> None:
    """One that fits nowhere goes alone: its child says why."""
    asked: list[int] = []
    pool = make(size=4, fits=lambda total: asked.append(total) or total <= 10)
    for number, size in enumerate((6, 4, 3, 12)):
        pool.submit(Item(str(number), "pid 0.2", size))
    most, done = 0, 0
    until = time.monotonic() + PATIENCE_S
    while pool.under_way and time.monotonic() < until:
        sizes = [busy.entry.item.size for busy in pool._busy() if busy.entry]
        assert sum(sizes) <= 10 or sizes == [12]
        most = max(most, len(sizes))
        done += len(pool.poll(1))
    assert (most, done) == (2, 4)
    assert {10, 13} <= set(asked)
