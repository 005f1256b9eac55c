"""A job's workspace on a real folder: checkpoints whole or absent, zombies, what is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.workers import PATIENCE_S
from worker.errors import ItemError, StoreDeniedError, UsageError
from worker.items import Answer, Failure, Item, Json, Result
from worker.jobs.checkpoints import Manifest, StoredFile, clear
from worker.jobs.workspace import Claim, TakenOverError, Workspace
from worker.queue import layout, parts
from worker.queue.answers import read_shard
from worker.queue.shards import pack
from worker.queue.store import Store, open_store
from worker.queue.text import encode

SHARD = "feed"


class Desk:
    """Makes workspaces over one queue, as successive holders of one job."""

    def __init__(self, url: str, folder: Path) -> None:
        self.store = open_store(url, patience=1.0)
        self.ours = self.newest = True
        self.told: list[Mapping[str, Json]] = []
        self._folder = folder
        self._made: list[Workspace] = []

    def workspace(
        self,
        epoch: int,
        *,
        keep: int = 2,
        store: Store | None = None,
        shard: str = SHARD,
        after: str = "",
    ) -> Workspace:
        folder = self._folder / str(len(self._made))
        folder.mkdir(parents=True)
        claim = Claim(shard, epoch, lambda: self.ours, lambda: self.newest, after)
        made = Workspace(store or self.store, claim, folder, keep, self.told.append, lambda: None)
        self._made.append(made)
        return made

    def shard(self, generation: int = 0, after: str = "") -> str:
        """A try of the job, in a shard of its own."""
        made = pack([Item("id", "job", generation=generation, after=after)])
        self.store.create(layout.items(made.name), made.data)
        return made.name

    def answer(self, shard: str, outcome: Answer | Failure) -> None:
        item = read_shard(self.store, shard).items[0]
        inline = parts.pack([Result(item.id, item.input, outcome)]).decode()
        sha256 = read_shard(self.store, shard).sha256
        record = {"shard": shard, "sha256": sha256, "parts": [], "inline": inline, "epoch": 1}
        self.store.create(layout.done(shard), encode(record))

    def whole(self, shard: str = SHARD) -> set[tuple[int, int]]:
        names = (entry.name for entry in self.store.list(layout.jobs(shard)))
        return {place for name in names if (place := layout.checkpoint_of(name))}

    def close(self) -> None:
        for one in self._made:
            one.close()


@pytest.fixture
def desk(any_store_url: str, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(any_store_url, tmp_path / "scratch")
    yield made
    made.close()


def save(workspace: Workspace, step: int, text: str, score: float | None = None) -> None:
    with workspace.checkpoint(step, score) as folder:
        (folder / "state").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "more").write_text(text * 2)
    workspace.wait()


def test_the_next_holder_goes_on_from_the_newest_checkpoint(desk: Desk) -> None:
    first = desk.workspace(1)
    assert first.resume() is None
    save(first, 10, "ten")
    save(first, 20, "twenty")
    found = desk.workspace(2).resume()
    assert found
    assert found.step == 20
    assert (found.folder / "state").read_text() == "twenty"
    assert (found.folder / "deep" / "more").read_text() == "twentytwenty"


@pytest.mark.parametrize("damage", ["no manifest", "torn manifest", "changed file", "missing file"])
def test_a_torn_checkpoint_is_said_and_an_older_one_is_taken(
    damage: str, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = desk.workspace(1)
    save(first, 10, "ten")
    save(first, 20, "twenty")
    match damage:
        case "no manifest":
            desk.store.discard(layout.manifest(SHARD, 1, 2))
        case "torn manifest":
            desk.store.put(layout.manifest(SHARD, 1, 2), b'{"epoch":1,')
        case "changed file":
            desk.store.put(layout.checkpoint_file(SHARD, 1, 2, "state"), b"twentz")
        case "missing file":
            desk.store.discard(layout.checkpoint_file(SHARD, 1, 2, "deep/more"))
    found = desk.workspace(2).resume()
    assert found
    assert found.step == 10
    assert "checkpoint 1-2" in caplog.text


def test_what_a_zombie_writes_is_never_taken(desk: Desk) -> None:
    zombie = desk.workspace(1)
    save(zombie, 10, "ten")
    assert desk.workspace(2).resume()
    save(zombie, 99, "zombie")
    found = desk.workspace(3).resume()
    assert found
    assert found.step == 10


def test_a_zombie_that_is_told_makes_no_further_checkpoint(desk: Desk) -> None:
    zombie = desk.workspace(1)
    desk.ours = False
    with pytest.raises(TakenOverError):
        save(zombie, 10, "ten")
    assert not desk.whole()


def test_the_newest_and_the_best_are_kept_and_no_file_of_the_others(desk: Desk) -> None:
    first = desk.workspace(1, keep=2)
    for step, score in enumerate([0.1, 0.9, 0.3, 0.4, 0.5], 1):
        save(first, step, f"step {step}", score)
    assert desk.whole() == {(1, 2), (1, 4), (1, 5)}
    files = {layout.checkpoint_file_of(e.name) for e in desk.store.list(layout.jobs(SHARD))} - {None}
    assert files == desk.whole()


def test_the_best_checkpoint_comes_back_at_the_end_whoever_made_it(desk: Desk) -> None:
    first = desk.workspace(1)
    save(first, 10, "ten", 0.9)
    save(first, 20, "twenty", 0.5)
    last = desk.workspace(2)
    assert last.resume()
    save(last, 30, "thirty", 0.7)
    best = last.best(lambda name: name == "state")
    assert best
    assert (best.step, best.score) == (10, 0.9)
    assert [one.name for one in best.folder.iterdir()] == ["state"]
    assert (best.folder / "state").read_text() == "ten"
    assert desk.workspace(3, shard="beef").best() is None


def test_a_torn_checkpoint_is_not_the_best_one(desk: Desk) -> None:
    first = desk.workspace(1)
    save(first, 10, "ten", 0.5)
    save(first, 20, "twenty", 0.9)
    desk.store.discard(layout.checkpoint_file(SHARD, 1, 2, "deep/more"))
    second = desk.workspace(2)
    assert second.resume()
    best = second.best()
    assert best
    assert best.step == 10


def test_the_checkpoint_that_a_job_went_on_from_outlives_its_successors(desk: Desk) -> None:
    save(desk.workspace(1), 10, "ten")
    second = desk.workspace(2, keep=1)
    assert second.resume()
    for step in (20, 30, 40):
        save(second, step, "later")
    assert desk.whole() == {(1, 1), (2, 3)}
    third = desk.workspace(3, keep=1)
    assert third.resume()
    save(third, 50, "later still")
    assert desk.whole() == {(2, 3), (3, 1)}


def test_who_is_not_the_newest_discards_nothing(desk: Desk) -> None:
    first = desk.workspace(1, keep=1)
    save(first, 10, "ten")
    desk.newest = False
    save(first, 20, "twenty")
    assert desk.whole() == {(1, 1), (1, 2)}


def test_a_checkpoint_is_written_behind_our_back_and_the_next_one_waits(tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    gate, writing = threading.Event(), threading.Event()

    class Slow(Store):
        def upload(self, name: str, file: Path) -> None:
            writing.set()
            assert gate.wait(PATIENCE_S)
            super().upload(name, file)

    desk = Desk(str(tmp_path / "queue"), tmp_path / "scratch")
    workspace = desk.workspace(1, store=Slow(desk.store._backend))
    with workspace.checkpoint(1) as folder:
        (folder / "state").write_text("1")
    assert writing.wait(PATIENCE_S)
    assert not desk.whole()
    second = threading.Thread(target=lambda: save(workspace, 2, "2"))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    gate.set()
    second.join(PATIENCE_S)
    assert desk.whole() == {(1, 1), (1, 2)}
    desk.close()


def test_a_save_that_fails_leaves_no_checkpoint(desk: Desk) -> None:
    workspace = desk.workspace(1)
    with pytest.raises(ZeroDivisionError), workspace.checkpoint(1) as folder:
        (folder / "state").write_text(str(1 / 0))
    workspace.wait()
    assert not desk.whole()


def test_a_manifest_that_leads_out_of_its_folder_is_refused(desk: Desk) -> None:
    evil = Manifest(1, 1, 1, None, {"../../../out": StoredFile(0, "")})
    desk.store.create(layout.manifest(SHARD, 1, 1), evil.encode())
    with pytest.raises(UsageError, match="leads out"):
        desk.workspace(2).resume()


def test_progress_says_how_far_and_how_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("worker.jobs.workspace.time.monotonic", lambda: now[0])
    workspace = desk.workspace(1)
    workspace.progress(10, 100, loss=1.5)
    now[0] += 5.0
    workspace.progress(20, 100, loss=0.5)
    told: Mapping[str, Any] = desk.told[-1]
    assert told["step"] == 20
    assert told["steps"] == 100
    assert told["eta_s"] == 40
    assert told["figures"] == {"loss": 0.5}


def test_what_is_published_is_named_by_its_content(desk: Desk) -> None:
    workspace = desk.workspace(1)
    file = workspace.folder / "weights"
    file.write_bytes(b"heavy")
    workspace.publish("weights.bin", file)
    workspace.publish("again.bin", file)
    assert workspace.published == {name: layout.file(b"heavy") for name in ("weights.bin", "again.bin")}
    assert desk.store.get(layout.file(b"heavy")) == b"heavy"


def test_a_loss_that_is_no_number_any_more_is_said_and_harms_nothing(desk: Desk) -> None:
    workspace = desk.workspace(1)
    workspace.progress(1, 0, loss=float("nan"))
    save(workspace, 1, "one", score=float("nan"))
    assert desk.told[0]["figures"] == {"loss": "nan"}
    assert desk.told[-1]["checkpoints"] == 1
    assert desk.whole() == {(1, 1)}


def test_what_was_handed_over_before_a_checkpoint_is_not_lost_with_the_machine(desk: Desk) -> None:
    first = desk.workspace(1)
    (first.folder / "curve").write_bytes(b"curve")
    first.publish("curve.bin", first.folder / "curve")
    save(first, 10, "ten")
    second = desk.workspace(2)
    assert second.resume()
    assert second.published == {"curve.bin": layout.file(b"curve")}
    assert second.resume(), "asked again, it answers the same"


def test_hidden_files_of_a_superseded_checkpoint_go_with_it(tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    desk = Desk(str(tmp_path / "queue"), tmp_path / "scratch")
    workspace = desk.workspace(1, keep=1)
    for step in (1, 2):
        with workspace.checkpoint(step) as folder:
            (folder / ".metadata").write_text("distributed")
        workspace.wait()
    assert len(list((tmp_path / "queue").rglob(".metadata"))) == 1
    desk.close()


def test_a_store_that_forbids_to_discard_costs_no_checkpoint(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: str) -> None:
        raise StoreDeniedError("403")

    monkeypatch.setattr(desk.store, "discard", refuse)
    workspace = desk.workspace(1, keep=1)
    save(workspace, 1, "one")
    save(workspace, 2, "two")
    assert desk.whole() == {(1, 1), (1, 2)}
    assert "not discarded" in caplog.text


def test_names_of_any_language_come_back_as_they_were(desk: Desk) -> None:
    first = desk.workspace(1)
    with first.checkpoint(1) as folder:
        (folder / "视频 1").mkdir()
        (folder / "视频 1" / "权重 é%20.bin").write_bytes(b"weights")
    first.wait()
    found = desk.workspace(2).resume()
    assert found
    assert (found.folder / "视频 1" / "权重 é%20.bin").read_bytes() == b"weights"


def test_under_the_same_claim_a_job_goes_on_from_its_own_checkpoints(desk: Desk) -> None:
    save(desk.workspace(1), 10, "ten")
    second = desk.workspace(2)
    assert second.resume()
    save(second, 20, "twenty")
    second.clear()
    assert second.published == {}
    found = second.resume()
    assert found
    assert (found.step, second.saved) == (20, 20)
    save(second, 30, "thirty")
    third = desk.workspace(3).resume()
    assert third
    assert third.step == 30


def test_the_room_of_what_a_job_went_on_from_is_free_once_it_has_saved(desk: Desk) -> None:
    save(desk.workspace(1), 10, "ten")
    second = desk.workspace(2)
    found = second.resume()
    assert found
    assert found.folder.exists()
    save(second, 20, "twenty")
    assert not list(second.folder.iterdir())
    again = second.resume()
    assert again
    assert again.step == 20


def test_a_checkpoint_that_could_not_be_written_leaves_nothing_on_the_disk(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreDeniedError("403")

    workspace = desk.workspace(1)
    monkeypatch.setattr(desk.store, "upload", refuse)
    with workspace.checkpoint(1) as folder:
        (folder / "state").write_text("heavy")
    workspace.settle()
    assert not list(workspace.folder.iterdir())
    assert workspace.saved == -1


@pytest.mark.parametrize("target", ["step-1", "nowhere"])
def test_a_link_that_no_store_can_keep_is_refused_and_not_dropped(target: str, desk: Desk) -> None:
    workspace = desk.workspace(1)
    refused = pytest.raises(ItemError, match="deep/latest in the checkpoint is a link")
    with refused, workspace.checkpoint(1) as folder:
        (folder / "deep" / "step-1").mkdir(parents=True)
        (folder / "deep" / "latest").symlink_to(target)
    assert not list(workspace.folder.iterdir())


def test_a_link_to_a_file_is_kept_as_that_file(desk: Desk) -> None:
    first = desk.workspace(1)
    with first.checkpoint(1) as folder:
        (folder / "state").write_text("heavy")
        (folder / "latest").symlink_to("state")
    first.wait()
    found = desk.workspace(2).resume()
    assert found
    assert (found.folder / "latest").read_text() == "heavy"


def test_a_retry_goes_on_from_the_try_before_or_from_the_one_before_that(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = desk.shard()
    made = desk.workspace(1, shard=first)
    (made.folder / "curve").write_bytes(b"curve")
    made.publish("curve.bin", made.folder / "curve")
    save(made, 10, "ten")
    second = desk.shard(1, first)
    third = desk.shard(2, second)
    for shard, after in ((second, first), (third, second)):
        again = desk.workspace(1, shard=shard, after=after)
        found = again.resume()
        assert found
        assert (found.folder / "state").read_text() == "ten"
        assert again.published == {"curve.bin": layout.file(b"curve")}
    assert "going on from step 10, checkpoint 1-1 of the try before" in caplog.text
    save(again, 20, "twenty")
    later = desk.workspace(2, shard=third, after=second).resume()
    assert later
    assert later.step == 20


def test_what_a_zombie_of_the_try_before_writes_is_never_taken(desk: Desk) -> None:
    first = desk.shard()
    zombie = desk.workspace(1, shard=first)
    save(zombie, 10, "ten")
    second = desk.workspace(2, shard=first)
    assert second.resume()
    save(zombie, 99, "zombie")
    again = desk.workspace(1, shard=desk.shard(1, first), after=first).resume()
    assert again
    assert again.step == 10


def test_a_retry_discards_nothing_of_the_try_before_while_it_runs(desk: Desk) -> None:
    first = desk.shard()
    save(desk.workspace(1, shard=first), 10, "ten", score=0.9)
    second = desk.shard(1, first)
    again = desk.workspace(1, shard=second, after=first, keep=1)
    assert again.resume()
    for step in (20, 30, 40):
        save(again, step, "later", score=0.1)
    assert desk.whole(first) == {(1, 1)}
    assert desk.whole(second) == {(1, 3)}


@pytest.mark.parametrize(("keep", "left"), [(2, ({(1, 2)}, {(1, 2)})), (0, (set(), set()))])
def test_of_an_answered_job_the_newest_and_the_best_checkpoint_stay(
    keep: int, left: tuple[set[tuple[int, int]], ...], desk: Desk
) -> None:
    first = desk.shard()
    made = desk.workspace(1, shard=first, keep=9)
    for step, score in ((10, 0.1), (20, 0.9), (30, 0.2)):
        save(made, step, "early", score)
    second = desk.shard(1, first)
    again = desk.workspace(1, shard=second, after=first, keep=9)
    assert again.resume()
    for step in (40, 50):
        save(again, step, "late", 0.5)
    desk.answer(first, Failure("error", "no"))
    desk.answer(second, Answer({}))
    clear(desk.store, second, first, keep)
    assert (desk.whole(first), desk.whole(second)) == left
    files = [entry.name for entry in desk.store.list("jobs/") if layout.checkpoint_file_of(entry.name)]
    assert len(files) == 2 * sum(map(len, left))


def test_of_a_failed_job_every_checkpoint_stays_for_its_retry(desk: Desk) -> None:
    first = desk.shard()
    made = desk.workspace(1, shard=first)
    for step in (10, 20):
        save(made, step, "early")
    desk.answer(first, Failure("error", "no"))
    clear(desk.store, first, "", 0)
    assert desk.whole(first) == {(1, 1), (1, 2)}


def test_what_a_killed_upload_left_half_written_goes_with_the_next_holder(tmp_path: Path) -> None:
    (tmp_path / "queue").mkdir()
    desk = Desk(str(tmp_path / "queue"), tmp_path / "scratch")
    first = desk.workspace(1)
    with first.checkpoint(1) as folder:
        (folder / ".tmp-of-the-task").write_text("its own")
    first.wait()
    half = tmp_path / "queue" / layout.checkpoint_file(SHARD, 1, 2, f".tmp-{uuid4().hex}")
    half.parent.mkdir(parents=True)
    half.write_text("half of 100 GB")
    found = desk.workspace(2).resume()
    assert found
    assert not half.exists()
    assert (found.folder / ".tmp-of-the-task").exists()
    desk.close()
