"""A finished queue becomes a folder of answers."""

from __future__ import annotations

import json
import sqlite3
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.queues import TASKS, QueueUnderTest
from worker.cli.outcome import outcome
from worker.errors import UnfinishedError, UsageError
from worker.items import Answer, Failure, Result
from worker.queue import layout
from worker.queue.answers import DamagedQueueError
from worker.queue.finals import read_finals
from worker.queue.protocol import Sizes
from worker.queue.recipe import Recipe, freeze
from worker.queue.store import open_store
from worker.report.collect import collect, finished_shards
from worker.report.files import default_out
from worker.tasks.task import Task

BROKEN = Failure("broken", "it does not open")


@pytest.fixture(autouse=True)
def _tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_TASKS", str(TASKS))


@pytest.fixture
def queue() -> QueueUnderTest:
    return QueueUnderTest()


def read(file: Path) -> Any:
    return json.loads(file.read_bytes())


def test_results_are_one_a_line_sorted_by_input(queue: QueueUnderTest, tmp_path: Path) -> None:
    queue.commit(queue.shard("c", "视频/一.mp4"), {"c": BROKEN})
    queue.commit(queue.shard("a", "b"))
    collected = collect(queue.store, tmp_path / "out")
    lines = (tmp_path / "out" / "final_results.json").read_text().splitlines()
    results = read(tmp_path / "out" / "final_results.json")
    assert [json.loads(line.rstrip(","))["input"] for line in lines[1:-1]] == ["a", "b", "c", "视频/一.mp4"]
    assert (results["task"], results["fingerprint"]) == ("shout", queue.run.fingerprint)
    assert results["results"][0] == {
        "item": queue.item("a").id,
        "input": "a",
        "status": "ok",
        "failure": None,
        "shout": "A",
    }
    failure = {"kind": "broken", "message": "it does not open"}
    assert results["results"][2]["failure"] == failure
    assert read(tmp_path / "out" / "summary.json") == collected.summary
    named = ("total", "ok", "failed", "failures", "refused")
    assert [collected.summary[key] for key in named] == [4, 3, 1, {"broken": 1}, []]
    assert not collected.complete


def test_the_bytes_do_not_tell_how_it_went(tmp_path: Path) -> None:
    """One worker and no crash; or three workers, other shards, inherited parts, a retry."""
    calm, stormy = QueueUnderTest(shard_size=4), QueueUnderTest(shard_size=1)
    calm.commit(calm.shard("a", "b", "c", "d"), {"d": BROKEN})

    shard = stormy.shard("d", "b")
    stormy.claim(shard, 1, "w1")
    first = stormy.part(shard, [stormy.result("b", worker="w1", seconds=9)])
    stormy.claim(shard, 2, "w2")
    again = [stormy.result("b", Failure("late", "a second answer")), stormy.result("d", BROKEN, worker="w2")]
    second = stormy.part(shard, again, epoch=2)
    stormy.commit(shard, listed=[first, second], epoch=2)
    stormy.commit(stormy.shard("a"), worker="w3")
    stormy.commit(stormy.shard("c"), {"c": BROKEN})
    stormy.commit(stormy.shard("c", generation=1))

    for name, queue in (("calm", calm), ("stormy", stormy)):
        queue.beat(name, at=1e9, rate_per_s=1.0, wall_s=5.0)
        collect(queue.store, tmp_path / name)
    for file in ("final_results.json", "summary.json"):
        assert (tmp_path / "calm" / file).read_bytes() == (tmp_path / "stormy" / file).read_bytes()


def test_what_a_task_says_of_results_beside_each_other_stands_everywhere(
    queue: QueueUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chained(_task: object, results: Iterable[Result]) -> Iterator[Result]:
        before = ""
        for result in results:
            yield replace(result, outcome=Answer({"shout": f"after {before}"}))
            before = result.input

    monkeypatch.setattr(Task, "together", chained)
    queue.commit(queue.shard("b", "a"))
    collected = collect(queue.store, tmp_path)
    said = [one["shout"] for one in read(tmp_path / "final_results.json")["results"]]
    assert said == [row["shout"] for row in collected.rows] == ["after ", "after a"]
    assert "after a" in collected.report.read_text()


@pytest.mark.parametrize(("lang", "said"), [("en", "no verdicts"), ("zh", "不是结论")])
def test_what_a_reader_must_know_first_stands_in_summary_and_report(
    tmp_path: Path, lang: str, said: str
) -> None:
    store = open_store(f"memory://{uuid4().hex}", make=True)
    freeze(store, Recipe(task="ghost-probing", params={"lang": lang}, engine="motion"), Sizes(1))
    collected = collect(store, tmp_path)
    assert said in read(tmp_path / "summary.json")["notice"]
    page = collected.report.read_text()
    assert page.count(said) == 1
    assert '<p class="notice">' in page
    assert said not in "".join(outcome(collected)), "a run says it at its start"


def test_a_failed_retry_never_replaces_an_answer(queue: QueueUnderTest, tmp_path: Path) -> None:
    queue.commit(queue.shard("a", "b"), {"b": BROKEN})
    queue.commit(queue.shard("a", "b", generation=1), {"a": BROKEN})
    queue.commit(queue.shard("a", "b", generation=2), {"a": BROKEN, "b": BROKEN})
    assert collect(queue.store, tmp_path / "out").complete


def test_the_score_of_other_answers_does_not_stay(queue: QueueUnderTest, tmp_path: Path) -> None:
    queue.commit(queue.shard("a"))
    collect(queue.store, tmp_path)
    (tmp_path / "evaluation.json").write_text("{}")
    collect(queue.store, tmp_path)
    assert not (tmp_path / "evaluation.json").exists()


def test_while_a_shard_is_open_there_is_nothing_to_collect(queue: QueueUnderTest, tmp_path: Path) -> None:
    queue.commit(queue.shard("a"))
    queue.shard("b")
    with pytest.raises(UnfinishedError, match=r"1 of 2 shards .* worker run") as caught:
        collect(queue.store, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_torn_part_that_is_listed_is_one_clear_error(queue: QueueUnderTest, tmp_path: Path) -> None:
    shard = queue.shard("a")
    name = layout.part(shard.name, 1, 1)
    queue.store.create(name, b'{"item":')
    queue.commit(shard, listed=[name])
    with pytest.raises(DamagedQueueError, match=f"{name} is missing or torn"):
        collect(queue.store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b'{"fingerprint":"other"}', b"[]", b"not json"])
def test_a_folder_with_other_results_is_refused(
    queue: QueueUnderTest, tmp_path: Path, content: bytes
) -> None:
    queue.commit(queue.shard("a"))
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(UsageError, match="another recipe"):
        collect(queue.store, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def test_collecting_twice_changes_nothing_and_leaves_nothing_behind(
    queue: QueueUnderTest, tmp_path: Path
) -> None:
    shard = queue.shard("a")
    queue.commit(shard, inline=[queue.result("a", files={"sheet.jpg": b"picture"})])

    def contents() -> dict[str, bytes]:
        return {str(f.relative_to(tmp_path)): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}

    collect(queue.store, tmp_path)
    once = contents()
    collect(queue.store, tmp_path)
    assert contents() == once
    names = {"final_results.json", "summary.json", "performance.json", "provenance.json", "report.html"}
    names.add("shout.log")
    assert once.keys() == names | {next(name for name in once if name.startswith("files/"))}


def test_files_land_in_readable_folders_and_never_outside(queue: QueueUnderTest, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    inputs = ["../../etc/passwd", "假期/海滩 1.mp4", "a/b.mp4", "a_b.mp4", "." * 300, "con\n\x00?*.mp4"]
    shard = queue.shard(*inputs)
    hostile = {"../../../evil.jpg": b"1", "/abs.jpg": b"2", "sheet.jpg": b"3", "..": b"4"}
    queue.commit(shard, inline=[queue.result(input, files=hostile) for input in inputs])
    collect(queue.store, out)
    results = read(out / "final_results.json")["results"]
    paths = [path for result in results for path in result["files"].values()]
    assert len({path.lower() for path in paths}) == len(inputs) * len(hostile)
    assert all((out / path).resolve().is_relative_to(out.resolve() / "files") for path in paths)
    assert {f for f in tmp_path.rglob("*") if f.is_file() and f.parent != out} == {out / p for p in paths}
    chinese = next(result for result in results if "海滩" in result["input"])
    assert chinese["files"]["sheet.jpg"] == f"files/假期_海滩_1.mp4-{chinese['item'][:12]}/sheet.jpg"
    assert (out / chinese["files"]["sheet.jpg"]).read_bytes() == b"3"


def test_a_missing_file_of_an_answer_is_one_clear_error(queue: QueueUnderTest, tmp_path: Path) -> None:
    queue.commit(queue.shard("a"), inline=[queue.result("a", files={"sheet.jpg": b"picture"})])
    queue.store.discard(layout.file(b"picture"))
    with pytest.raises(DamagedQueueError, match="missing"):
        collect(queue.store, tmp_path)


def test_refused_lines_of_the_inbox_stand_in_the_summary(queue: QueueUnderTest, tmp_path: Path) -> None:
    queue.commit(queue.shard("a"))
    queue.take_inbox("inbox/b.jsonl", b"b", [{"line": 9, "why": "is not JSON"}])
    queue.take_inbox("inbox/a.jsonl", b"a", [{"line": 2, "why": "needs 'input'"}])
    collected = collect(queue.store, tmp_path)
    assert [line["file"] for line in collected.summary["refused"]] == ["inbox/a.jsonl", "inbox/b.jsonl"]
    assert not collected.complete


def test_how_it_went_stands_in_performance_and_provenance(queue: QueueUnderTest, tmp_path: Path) -> None:
    shard = queue.shard("a", "b")
    queue.claim(shard, 1, "w1")
    queue.claim(shard, 2, "w2")
    thrice = replace(queue.result("a"), run={"seconds": 3.0, "worker": "w1", "attempts": 3})
    queue.commit(shard, inline=[thrice, queue.result("b", worker="w2", seconds=1)])
    queue.beat("w1", at=1000, wall_s=10.0, waited_share=0.1, device="A100")
    queue.beat("w2", at=1010, wall_s=10.0, waited_share=0.3)
    collect(queue.store, tmp_path)
    went, origin = read(tmp_path / "performance.json"), read(tmp_path / "provenance.json")
    figures = [went[key] for key in ("wall_s", "items_per_s", "device_wait_share", "attempts")]
    assert figures == [20.0, 0.1, 0.2, 4]
    assert [(w["id"], w["device"], w["items"]) for w in went["workers"]] == [
        ("w1", "A100", 1),
        ("w2", None, 1),
    ]
    assert went["slowest"][0]["input"] == "a"
    assert origin["attempts"] == {shard.name: 2}
    assert origin["recipe"]["task"] == "shout"
    assert "python" in origin["collected_by"]


def test_no_secret_reaches_the_output(queue: QueueUnderTest, tmp_path: Path) -> None:
    signed = "https://host/a.mp4?sig=TOPSECRET1"
    leak = Failure("store", "GET https://user:TOPSECRET2@host/x failed")
    shard = queue.shard(signed, "b")
    answer = queue.result(signed, Answer({"ok": True}), files={"sheet.jpg": b"p"})
    queue.commit(shard, inline=[answer, queue.result("b", leak)])
    collect(queue.store, tmp_path)
    for file in tmp_path.rglob("*"):
        assert "TOPSECRET" not in str(file)
        assert file.is_dir() or b"TOPSECRET" not in file.read_bytes()


def test_an_empty_queue_gives_empty_results(queue: QueueUnderTest, tmp_path: Path) -> None:
    assert collect(queue.store, tmp_path).summary["total"] == 0
    assert read(tmp_path / "final_results.json")["results"] == []


def test_an_output_folder_that_cannot_be_written_is_one_line(queue: QueueUnderTest, tmp_path: Path) -> None:
    queue.commit(queue.shard("a"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="give another --out"):
        collect(queue.store, tmp_path / "file" / "out")


def test_an_address_is_no_output_folder(
    queue: QueueUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--out az:/container/out: answers go into a folder"):
        collect(queue.store, Path("az://container/out"))
    assert not (tmp_path / "az:").exists()


@pytest.mark.parametrize(
    ("url", "out"),
    [
        ("work/queue", "work/queue-results"),
        ("work/queue/", "work/queue-results"),
        ("file:///data/q", "/data/q-results"),
        ("az://container/runs/seven", "seven-results"),
        ("az://container/seven/?sv=1&sig=x", "seven-results"),
        ("s3://bucket", "bucket-results"),
    ],
)
def test_the_default_output_lies_beside_the_queue(url: str, out: str) -> None:
    assert default_out(url) == Path(out)


def test_the_default_output_of_this_folder_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert default_out(".") == tmp_path / "here-results"


def test_answers_that_find_no_room_to_be_sorted_are_one_clear_error(
    queue: QueueUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def small(*arguments: Any, **more: Any) -> sqlite3.Connection:
        database = connect(*arguments, **more)
        database.execute("PRAGMA max_page_count = 2")
        return database

    queue.commit(queue.shard(*(f"{n:04} {'long ' * 50}" for n in range(200))))
    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(UsageError, match=r"is full.*set TMPDIR"):
        collect(queue.store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_answers_are_not_held_in_memory(queue: QueueUnderTest) -> None:
    """60 MB of them; some dozens of shards are on their way at any moment"""
    for shard in range(300):
        names = [f"{shard} {n}" for n in range(50)]
        answers = [queue.result(name, Answer({"said": "x" * 4_000})) for name in names]
        queue.commit(queue.shard(*names), inline=answers)
    tracemalloc.start()
    results = read_finals(queue.store, finished_shards(queue.store))
    assert sum(result.ok for result in results) == 15_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25e6


def test_a_summary_may_look_at_the_results_again_and_again_without_knowing_how_it_went() -> None:
    queue = QueueUnderTest()
    queue.commit(queue.shard("b", "a", "c"), {"c": BROKEN})
    results = read_finals(queue.store, finished_shards(queue.store))
    plain = results.plain()
    assert [r.input for r in plain] == [r.input for r in plain] == ["a", "b", "c"]
    assert (len(plain), plain.kinds(), [r.input for r in plain.first(1)]) == (3, {"broken": 1}, ["a", "c"])
    assert all(r.run for r in results)
    assert not any(r.run for r in plain)
