"""What `worker status` says of a queue."""

from __future__ import annotations

import pytest

from tests.fakes import HandClock
from tests.queues import QueueUnderTest
from worker.cli.screen import lines
from worker.errors import UsageError
from worker.items import Failure
from worker.queue import layout
from worker.queue.answers import DamagedQueueError
from worker.queue.beat import IDLE
from worker.queue.eta import eta
from worker.queue.gist import Seconds
from worker.queue.progress import Watcher
from worker.queue.store import open_store
from worker.queue.tally import Tally, pick

BROKEN = Failure("broken", "it does not open")


@pytest.fixture
def queue() -> QueueUnderTest:
    return QueueUnderTest()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def test_shards_and_items_are_counted_by_what_became_of_them(queue: QueueUnderTest, clock: HandClock) -> None:
    done, claimed, released = queue.shard("a", "b"), queue.shard("c", "d"), queue.shard("e")
    queue.shard("f")
    queue.commit(done, {"b": BROKEN})
    queue.claim(claimed)
    queue.part(claimed, [queue.result("c")])
    queue.release(queue.claim(released))
    said = Watcher(queue.store, clock).look().as_json()
    assert said["shards"] == {"total": 4, "done": 1, "claimed": 1, "free": 2}
    assert said["items"] == {"total": 6, "answered": 3, "failed": 1}
    assert said["failures"]["kinds"] == {"broken": 1}
    assert said["failures"]["examples"][0]["input"] == "b"


def test_a_failure_asked_for_again_is_open_until_the_retry_ends(
    queue: QueueUnderTest, clock: HandClock
) -> None:
    queue.commit(queue.shard("a", "b"), {"b": BROKEN})
    again = queue.shard("b", generation=1)
    watcher = Watcher(queue.store, clock)
    waiting = watcher.look()
    assert (waiting.total, waiting.answered, waiting.failed) == (2, 1, 0)
    queue.commit(again, {"b": BROKEN})
    over = watcher.look()
    assert (over.total, over.answered, over.failed, over.is_over) == (2, 2, 1, True)


def test_a_torn_part_of_an_open_shard_counts_for_nothing(queue: QueueUnderTest, clock: HandClock) -> None:
    shard = queue.shard("a", "b")
    queue.store.create(layout.part(shard.name, 1, 1), b'{"item":"x"')
    queue.part(shard, [queue.result("b")], epoch=2)
    assert Watcher(queue.store, clock).look().answered == 1


def test_a_commit_that_is_torn_is_one_clear_error(queue: QueueUnderTest, clock: HandClock) -> None:
    shard = queue.shard("a")
    queue.store.create(layout.done(shard.name), b'{"shard":')
    with pytest.raises(DamagedQueueError, match=layout.done(shard.name)):
        Watcher(queue.store, clock).look()


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_part_that_a_commit_lists_and_that_is_not_whole_is_one_clear_error(
    queue: QueueUnderTest, clock: HandClock, damage: str
) -> None:
    shard = queue.shard("a")
    name = queue.part(shard, [queue.result("a")])
    queue.commit(shard, listed=[name])
    assert Watcher(queue.store, clock).look().is_over
    if damage == "missing":
        queue.store.discard(name)
    else:
        queue.store.put(name, (queue.store.get(name) or b"")[:-9])
    watcher = Watcher(queue.store, clock)
    for _ in range(2):
        with pytest.raises(DamagedQueueError, match=f"{name} is missing or torn"):
            watcher.look()


def test_what_cannot_change_is_read_once(
    queue: QueueUnderTest, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.commit(queue.shard("a", "b"))
    shard = queue.shard("c", "d")
    queue.part(shard, [queue.result("c")])
    queue.take_inbox("inbox/x.jsonl", b"x")
    queue.store.put("inbox/x.jsonl", b"x")
    queue.beat(at=clock.wall_time)
    watcher = Watcher(queue.store, clock)
    watcher.look()
    read: list[str] = []
    get = queue.store.get
    monkeypatch.setattr(queue.store, "get", lambda name: (read.append(name), get(name))[1])
    watcher.look()
    assert read == []
    name = queue.part(shard, [queue.result("d")], number=2)
    assert watcher.look().answered == 4
    assert read == [name]


def test_live_workers_are_listed_with_device_item_and_rate(queue: QueueUnderTest, clock: HandClock) -> None:
    queue.shard("a")
    queue.beat("w1", at=clock.wall_time - 3, device="cuda:0 A100", item="a", rate_per_s=2.5, host="h")
    (worker,) = Watcher(queue.store, clock).look().as_json()["workers"]
    named = {key: worker[key] for key in ("id", "device", "item", "rate_per_s", "beat_age_s")}
    assert named == {
        "id": "w1",
        "device": "cuda:0 A100",
        "item": "a",
        "rate_per_s": 2.5,
        "beat_age_s": 3.0,
    }


def test_without_a_rate_it_says_whether_nobody_works_or_nothing_is_answered_yet(
    queue: QueueUnderTest, clock: HandClock
) -> None:
    claim = queue.claim(queue.shard("a"), worker="w1")
    assert "nobody works on them now" in "\n".join(lines(Watcher(queue.store, clock).look()))
    queue.beat("w1", at=clock.wall_time - 1, claims=[claim], item="a")
    said = "\n".join(lines(Watcher(queue.store, clock).look()))
    assert "no rate is known yet" in said
    assert "nobody works" not in said


def test_a_dead_worker_is_listed_only_while_its_claim_stands(queue: QueueUnderTest, clock: HandClock) -> None:
    held, let_go = queue.shard("a"), queue.shard("b")
    queue.beat("dead", at=clock.wall_time - 500, claims=[queue.claim(held, worker="dead")], rate_per_s=3.0)
    gone = queue.claim(let_go, worker="gone")
    queue.beat("gone", at=clock.wall_time - 500, claims=[gone])
    queue.release(gone)
    progress = Watcher(queue.store, clock).look()
    assert [(w.id, w.live) for w in progress.workers] == [("dead", False)]
    assert progress.rate_per_s == 0
    assert progress.eta_s is None


def test_a_worker_that_waits_is_live_though_it_beats_rarely_but_not_for_ever(
    queue: QueueUnderTest, clock: HandClock
) -> None:
    queue.shard("a")
    queue.beat("waits", at=clock.wall_time - 29 * 60, state=IDLE)
    queue.beat("waited", at=clock.wall_time - 33 * 60, state=IDLE)
    queue.beat("worked", at=clock.wall_time - 3 * 60, state="working")
    assert [w.id for w in Watcher(queue.store, clock).look().workers] == ["waits"]


def test_a_worker_whose_clock_is_wrong_lives_when_it_moves(queue: QueueUnderTest, clock: HandClock) -> None:
    queue.shard("a")
    queue.beat("late", at=clock.wall_time - 9000)
    queue.beat("early", at=clock.wall_time + 9000)
    watcher = Watcher(queue.store, clock)
    assert [w.id for w in watcher.look().workers] == ["early"]
    queue.beat("late", at=clock.wall_time - 8998, counter=2)
    clock.time += 2
    workers = watcher.look().workers
    assert [(w.id, w.beat_age_s) for w in workers] == [("early", 0.0), ("late", 0.0)]
    clock.time += 200
    assert [w.id for w in watcher.look().workers] == ["early"]


def test_a_job_that_is_nearly_done_is_nearly_done_for_the_eta_too(
    queue: QueueUnderTest, clock: HandClock
) -> None:
    def left(step: int, **job: float) -> tuple[int, int]:
        told = {"step": step, "steps": 100, "figures": {}, **job}
        queue.beat("w1", at=clock.wall_time, claims=[claim], rate_per_s=0.001, job=told)
        return Watcher(queue.store, clock).look().eta_s or (0, 0)

    shard = queue.shard("a")
    claim = queue.claim(shard)
    assert left(0) == (500, 2000)
    assert left(75) == (125, 500)
    queue.claim(queue.shard("b"), worker="w2")
    queue.beat("w2", at=clock.wall_time, rate_per_s=0.01)
    assert left(0, eta_s=1000)[0] == 500  # however fast the other one is
    queue.commit(shard)
    assert left(100)[0] == 45  # its last beat speaks of what is done by now


def test_a_file_in_the_inbox_waits_until_its_bytes_are_taken(queue: QueueUnderTest, clock: HandClock) -> None:
    queue.store.put("inbox/new.jsonl", b"new")
    queue.store.put("inbox/notes.txt", b"left alone")
    refused = [{"line": 7, "why": "is not JSON"}]
    queue.take_inbox("inbox/old.jsonl", b"old", refused)
    queue.store.put("inbox/old.jsonl", b"old")
    watcher = Watcher(queue.store, clock)
    progress = watcher.look()
    assert progress.inbox == ["inbox/new.jsonl"]
    assert progress.refused == [{"file": "inbox/old.jsonl", "line": 7, "why": "is not JSON"}]
    assert not progress.is_over
    queue.take_inbox("inbox/new.jsonl", b"new")
    assert watcher.look().is_over


def test_a_place_without_a_recipe_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="enqueue first"):
        Watcher(open_store("memory://nothing-there"), HandClock())


def seen(seconds: list[float]) -> Seconds:
    sums = Seconds()
    for one in seconds:
        sums.add(one)
    return sums


class TestEta:
    def test_is_null_while_nobody_works_and_zero_when_nothing_is_left(self) -> None:
        assert eta(10, [], seen([1.0] * 9), 4) is None
        assert eta(10, [0.0], seen([1.0] * 9), 4) is None
        assert eta(0, [], seen([]), 4) == (0, 0)

    def test_is_never_a_point(self) -> None:
        low, high = eta(1000, [2.0], seen([0.5] * 500), 4) or (0, 0)
        assert low < 500 < high

    def test_is_wide_while_few_answers_are_seen(self) -> None:
        assert eta(100, [1.0], seen([1.0] * 2), 4) == (50, 200)

    def test_widens_with_the_spread_of_the_items(self) -> None:
        even = eta(100, [1.0], seen([1.0] * 20), 4)
        uneven = eta(100, [1.0], seen([0.1] * 18 + [9.0, 9.5]), 4)
        assert even
        assert uneven
        assert uneven[0] < even[0]
        assert uneven[1] > even[1]

    def test_counts_the_tail_of_the_slowest_worker(self) -> None:
        alike = eta(100, [1.0, 1.0], seen([1.0] * 20), 10)
        with_slow = eta(100, [1.9, 0.1], seen([1.0] * 20), 10)
        assert alike
        assert with_slow
        assert with_slow[1] - alike[1] == 45


def test_retry_picks_what_failed_or_what_is_named(queue: QueueUnderTest) -> None:
    queue.commit(queue.shard("a", "b"), {"b": BROKEN})
    queue.shard("c")
    count = Tally(queue.store, lambda _: None).look()
    assert [item.input for item in pick(count, [])] == ["b"]
    assert [item.input for item in pick(count, ["a", queue.item("b").id, "c", "a"])] == ["a", "b"]
    with pytest.raises(UsageError, match="no item of this queue is called 'nope'"):
        pick(count, ["nope"])
