"""A file that was replaced and enqueued again stands once in the results, with its newest content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.queues import TASKS, QueueUnderTest
from worker.clock import Clock
from worker.enqueue import Enqueued, Wanted, enqueue
from worker.inputs import lies_there
from worker.items import Answer, Failure, Item, Result
from worker.queue import layout
from worker.queue.answers import read_shard
from worker.queue.progress import Watcher
from worker.queue.store import Store, open_store
from worker.queue.superseded import Superseded, supersede
from worker.queue.tally import Tally, pick
from worker.report.collect import Collected, collect

TORN = Failure("torn", "half of it is missing")


@pytest.fixture(autouse=True)
def _tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_TASKS", str(TASKS))


class Run:
    """A folder of texts and a queue; a text that begins with "torn" fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queue = QueueUnderTest.__new__(QueueUnderTest)
        self.store = self.queue.store = open_store(str(folder / "queue"), make=True)

    def put(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def enqueue(self, *paths: str) -> Enqueued:
        named = [str(self.folder / path) for path in paths or ("in",)]
        return enqueue(self.store, Wanted("read-text"), named, None)

    def answer(self) -> None:
        """As a worker does: what lies there under another content fails as changed."""
        lies = lies_there([str(self.folder / "in"), str(self.folder / "other")])
        done = {layout.shard_of(entry.name) for entry in self.store.list(layout.DONE)}
        for entry in self.store.list(layout.ITEMS):
            if layout.shard_of(entry.name) not in done:
                shard = read_shard(self.store, layout.shard_of(entry.name))
                results = [Result(i.id, i.input, self.outcome(i, bool(lies(i)))) for i in shard.items]
                self.queue.commit(shard, inline=results)

    def outcome(self, item: Item, lies: bool) -> Answer | Failure:
        if not lies:
            return Failure("changed", "not what was enqueued")
        text = next(p.read_text() for f in ("in", "other") if (p := self.folder / f / item.input).exists())
        return TORN if text.startswith("torn") else Answer({"text": text})

    def collect(self) -> Collected:
        return collect(self.store, self.folder / "out")

    def results(self) -> dict[str, str | None]:
        records = json.loads((self.folder / "out" / "final_results.json").read_text())["results"]
        assert len({record["input"] for record in records}) == len(records)
        return {record["input"]: record.get("text") for record in records}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    one = Run(tmp_path)
    one.put("in/a.text", "torn")
    one.put("in/b.text", "fine")
    return one


def test_the_failure_of_the_old_content_counts_no_longer(run: Run) -> None:
    run.enqueue()
    run.answer()
    assert not run.collect().complete
    run.put("in/a.text", "whole")
    assert run.enqueue().superseded == 1
    progress = Watcher(run.store, Clock()).look()
    assert (progress.total, progress.answered, progress.failed, progress.superseded) == (2, 1, 0, 1)
    run.answer()
    collected = run.collect()
    assert collected.complete
    assert (collected.summary["total"], collected.summary["superseded"]) == (2, 1)
    assert run.results() == {"a.text": "whole", "b.text": "fine"}
    assert pick(Tally(run.store, lambda _: None).look(), []) == []


def test_an_answer_to_the_old_content_counts_no_longer_either(run: Run) -> None:
    run.enqueue()
    run.answer()
    run.put("in/b.text", "finer")
    run.enqueue("in/b.text")
    run.answer()
    run.collect()
    assert run.results()["b.text"] == "finer"


def test_what_was_replaced_before_it_was_answered_fails_unseen(run: Run) -> None:
    run.enqueue()
    run.put("in/a.text", "whole")
    run.enqueue()
    run.answer()
    assert run.collect().complete
    assert Watcher(run.store, Clock()).look().failures == {}


def test_a_file_that_gets_its_old_content_back_counts_with_it(run: Run) -> None:
    run.enqueue()
    for text in ("one", "torn", "two", "torn"):
        run.put("in/a.text", text)
        run.enqueue()
    run.answer()
    collected = run.collect()
    assert collected.summary["failures"] == {"torn": 1}
    assert collected.summary["superseded"] == 2
    assert run.enqueue().superseded == 0
    assert len(run.store.list(layout.SUPERSEDED)) == 4


def test_an_enqueue_cut_off_before_the_record_is_made_good_by_the_next(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.enqueue()
    run.put("in/a.text", "whole")
    with monkeypatch.context() as patch:
        patch.setattr("worker.enqueue.supersede", lambda *_: 0)
        run.enqueue()
    assert not Superseded(run.store).look()
    assert run.enqueue().superseded == 1


def test_one_name_below_two_roots_is_two_files(run: Run) -> None:
    run.enqueue()
    run.put("other/a.text", "of another folder")
    assert run.enqueue("other").superseded == 0
    run.put("other/a.text", "replaced")
    assert run.enqueue("other").superseded == 1
    assert Watcher(run.store, Clock()).look().total == 3


def test_a_place_that_is_not_there_now_may_hold_the_old_content(run: Run) -> None:
    run.put("other/a.text", "of another folder")
    run.enqueue()
    run.enqueue("other")
    (run.folder / "other").rename(run.folder / "unplugged")
    run.put("in/a.text", "whole")
    assert run.enqueue().superseded == 0


def test_other_parameters_are_another_question(run: Run) -> None:
    run.put("list.jsonl", '{"input": "in/a.text", "params": {"loud": true}}\n')
    run.enqueue()
    run.enqueue("list.jsonl")
    run.put("in/a.text", "whole")
    run.enqueue()
    assert Watcher(run.store, Clock()).look().total == 3


def test_two_who_come_at_once_agree(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes in while the first has looked and not yet written."""
    run.enqueue()
    run.put("in/a.text", "whole")
    create, inner = Store.create, []

    def late(store: Store, name: str, *arguments: bytes, **options: bool) -> bool:
        if name.startswith(layout.SUPERSEDED) and not inner:
            inner.append(name)
            run.put("in/a.text", "whole again")
            assert run.enqueue().superseded == 2
        return create(store, name, *arguments, **options)

    monkeypatch.setattr(Store, "create", late)
    run.enqueue()
    assert inner
    assert len(Superseded(run.store).look()) == 2
    run.answer()
    run.collect()
    assert run.results()["a.text"] == "whole again"


def test_the_first_list_of_a_queue_reads_nothing_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.queue.superseded.read_shard", pytest.fail)
    run.enqueue()


def test_what_nobody_can_see_supersedes_nothing(run: Run) -> None:
    run.enqueue()
    run.put("in/a.text", "whole")
    run.enqueue()
    unseen: Callable[[Item], bool | None] = lambda _: None  # noqa: E731
    assert supersede(run.store, {'["a.text",{}]'}, unseen) == 0
