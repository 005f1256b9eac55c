"""What a job has of its own: a place to work in, checkpoints, files to hand over, and a voice."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from worker.clerk import patiently
from worker.errors import ItemError, StoreAwayError, StoreFullError, UsageError, WorkerError
from worker.items import Json
from worker.jobs import checkpoints
from worker.jobs.checkpoints import Manifest, Place, Spot, StoredFile
from worker.queue import layout
from worker.queue.store import Store

UPLOADS = 4
"""files of one checkpoint on their way at once"""

log = logging.getLogger(__name__)


class TakenOverError(Exception):
    """Another worker has this job by now: stop, nothing is lost."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint, fetched."""

    step: int
    score: float | None
    folder: Path


@dataclass(frozen=True, slots=True)
class Claim:
    """What a workspace must know of the claim that it works under."""

    shard: str
    epoch: int
    ours: Callable[[], bool]
    """whether the job is still ours; asks the store only after a silence of ours"""
    is_newest: Callable[[], bool]
    """asks the store whether no higher epoch stands"""
    after: str = ""
    """the shard of the try before this one, if it goes on from there"""


class Workspace:
    def __init__(
        self,
        store: Store,
        claim: Claim,
        folder: Path,
        keep: int,
        say: Callable[[Mapping[str, Json]], None],
        tick: Callable[[], None],
    ) -> None:
        self.folder = folder
        """on this machine, empty at first, gone afterwards"""
        self.halved = 0
        """how often a batch was too large for one of several processes, before this start"""
        self.published: dict[str, str] = {}
        """name → object"""
        self.checkpoints = 0
        """begun under this claim"""
        self.whole = 0
        """of those, written to the queue"""
        self.saved = -1
        """the step of the newest one that is whole in the queue; -1: there is none"""
        self._store = store
        self._claim = claim
        self._keep = keep
        self._say = say
        self._tick = tick
        self._base: Spot | None = None
        self._best: tuple[float, Spot] | None = None
        self._own: list[Place] = []
        self._spared: set[Spot] = set()
        """could not be fetched whole here; another machine may have more luck"""
        self._resumed: Checkpoint | None = None
        self._uploader = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._files = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")
        self._under_way: Future[None] | None = None
        self._began: tuple[float, int] | None = None
        self._told: dict[str, Json] = {}

    def resume(self) -> Checkpoint | None:
        """The newest whole checkpoint; None: begin from the beginning. To be asked first of all.

        Its folder is gone as soon as the next checkpoint is saved: disks are small."""
        shard, epoch = self._claim.shard, self._claim.epoch
        if self._resumed or (epoch == 1 and not self._own and not self._claim.after):
            return self._resumed
        if not self._own:  # nothing there is ours yet
            checkpoints.tidy(self._store, layout.jobs(shard))
        found: Checkpoint | None = None
        # our own are among them: a job that raised is tried again under the same claim
        for spot in checkpoints.history(self._store, shard, self._claim.after, epoch):
            manifest = checkpoints.read(self._store, *spot)
            if found is None and manifest:
                found = self._fetch(spot[0], manifest) or self._fetch(spot[0], manifest)  # a bad line?
                if found:
                    self._go_on(spot, manifest)
                else:
                    self._spared.add(spot)
            if spot not in self._spared:
                self._consider(spot[0], manifest)
            if found is None:
                log.warning("checkpoint %d-%d of %s is torn: an older one is taken", *spot[1], spot[0])
        checkpoints.write_base(self._store, shard, epoch, self._here(self._base))
        self._resumed = found
        return found

    def _go_on(self, spot: Spot, manifest: Manifest) -> None:
        self._base, self.published, self.saved = spot, dict(manifest.published), manifest.step
        where = "" if spot[0] == self._claim.shard else " of the try before"
        log.info("going on from step %d, checkpoint %d-%d%s", manifest.step, *spot[1], where)

    @contextmanager
    def checkpoint(self, step: int, score: float | None = None) -> Iterator[Path]:
        """An empty folder to save into; what lies there afterwards is the checkpoint.

        It is written to the queue behind our back; the next one waits until it is. `score`: higher is
        better, and the best one is kept."""
        folder = self.folder / f".checkpoint-{step}-{time.monotonic_ns()}"
        folder.mkdir()
        try:
            yield folder
            _refuse_links(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self._resumed:
            shutil.rmtree(self._resumed.folder, ignore_errors=True)
            self._resumed = None
        try:
            self.wait()
        except (StoreAwayError, StoreFullError) as error:
            log.warning("checkpoint %d is not written (%s); the next one is tried", self.checkpoints, error)
        if not self._claim.ours():
            raise TakenOverError(f"{self._claim.shard} was taken over by another worker")
        self.checkpoints += 1
        kept = None if score is None or not math.isfinite(score) else float(score)
        self._under_way = self._uploader.submit(
            self._upload, folder, self.checkpoints, int(step), kept, dict(self.published)
        )
        self._say({**self._told, "checkpoints": self.checkpoints})

    @property
    def shard(self) -> str:
        return self._claim.shard

    @property
    def spot(self) -> Spot | None:
        """Where lies what `resume` found."""
        return self._base if self._resumed else None

    def fetch(self, spot: Spot) -> Checkpoint | None:
        """For one of several nodes: what the first one's `resume` found; None: it is gone, or torn."""
        manifest = checkpoints.read(self._store, *spot)
        return self._fetch(spot[0], manifest) if manifest else None

    def progress(self, step: int, steps: int | None = None, **figures: float) -> None:
        """For people: how far it is. Cheap enough for every step."""
        now, step = time.monotonic(), int(step)
        if self._began is None:
            self._began = now, step
        since, first = self._began
        told: dict[str, Json] = {"step": step}
        if steps:
            told["steps"] = steps = int(steps)
            if step > first and now > since:
                pace = (step - first) / (now - since)
                told["eta_s"] = round((steps - step) / pace)
                told["rate_per_s"] = pace / steps
        told["figures"] = {name: _figure(float(value)) for name, value in figures.items()}
        self._told = told
        self._say({**told, "checkpoints": self.checkpoints})

    def publish(self, name: str, file: Path) -> None:
        """Hand a file over: it will stand in OUT/files/<item>/ under this name. Any size."""
        stored = patiently(self._files.submit(checkpoints.hash_file, file), self._tick)
        target = layout.file_of(stored.sha256)
        if self._store.head(target) is None:
            patiently(self._files.submit(self._store.upload, target, file), self._tick)
        self.published[name] = target

    def alive(self) -> None:
        """To be called by what takes long between two steps. As often as you like."""
        self._say({**self._told, "checkpoints": self.checkpoints})

    def best(self, wanted: Callable[[str], bool] = lambda _: True) -> Checkpoint | None:
        """The checkpoint with the best score, of whose files those are fetched that are wanted; None: none
        has one, or it is gone. At the end alone: of those that others made, only `resume` knows."""
        self.settle()
        manifest = self._best and checkpoints.read(self._store, *self._best[1])
        if self._best is None or manifest is None:
            return None
        files = {name: one for name, one in manifest.files.items() if wanted(name)}
        return self._fetch(self._best[1][0], replace(manifest, files=files), "best")

    def wait(self) -> None:
        """Until the checkpoint that is under way is whole."""
        under_way, self._under_way = self._under_way, None
        if under_way:
            patiently(under_way, self._tick)

    def settle(self) -> None:
        """Until nothing is under way. A checkpoint that cannot be written is said, and loses nothing else."""
        try:
            self.wait()
        except (WorkerError, OSError) as error:
            log.warning("checkpoint %d is not written: %s", self.checkpoints, error)

    def clear(self) -> None:
        """As at first, for another try under the same claim."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        self._resumed, self._began, self.published = None, None, {}

    def close(self) -> None:
        self._uploader.shutdown(wait=False, cancel_futures=True)
        self._files.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # in the uploader's thread

    def _upload(
        self, folder: Path, number: int, step: int, score: float | None, published: Mapping[str, str]
    ) -> None:
        """Files first, the manifest last; then what it supersedes is discarded."""
        try:
            manifest = self._write(folder, number, step, score, published)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.saved = step
        self._own.append(manifest.place)
        self.whole += 1
        self._consider(self._claim.shard, manifest)
        self._discard()

    def _write(
        self, folder: Path, number: int, step: int, score: float | None, published: Mapping[str, str]
    ) -> Manifest:
        shard, epoch = self._claim.shard, self._claim.epoch
        files = sorted(path for path in folder.rglob("*") if path.is_file())

        def upload(path: Path) -> tuple[str, StoredFile]:
            name = path.relative_to(folder).as_posix()
            stored = checkpoints.hash_file(path)
            self._store.upload(layout.checkpoint_file(shard, epoch, number, name), path)
            return name, stored

        stored = dict(self._files.map(upload, files))
        manifest = Manifest(epoch, number, step, score, stored, published)
        if not self._store.create(layout.manifest(shard, epoch, number), manifest.encode()):
            raise TakenOverError(f"another worker makes checkpoints of {shard} under the same claim")
        return manifest

    def _discard(self) -> None:
        """Only once our newest stands and no newer claim does: whoever takes over later will see it."""
        base, best = self._here(self._base), self._here(self._best and self._best[1])
        try:
            if len(self._own) >= self._keep and self._claim.is_newest():
                spared = {place for spot in self._spared if (place := self._here(spot))}
                keep = checkpoints.kept(self._own, base, best, self._keep) | spared
                checkpoints.sweep(self._store, self._claim.shard, self._own[-1], keep)
        except WorkerError as error:
            log.warning("old checkpoints are not discarded: %s", error)

    def _here(self, spot: Spot | None) -> Place | None:
        """What an earlier try made is not ours to discard."""
        return spot[1] if spot and spot[0] == self._claim.shard else None

    def _consider(self, shard: str, manifest: Manifest | None) -> None:
        if manifest is None or manifest.score is None:
            return
        if self._best is None or manifest.score > self._best[0]:
            self._best = manifest.score, (shard, manifest.place)

    # fetching

    def _fetch(self, shard: str, manifest: Manifest, purpose: str = "resumed") -> Checkpoint | None:
        """None: a file of it is gone, or is not what it was."""
        folder = self.folder / f".{purpose}-{manifest.epoch}-{manifest.number}"

        def fetch(name: str) -> bool:
            target = inside(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            source = layout.checkpoint_file(shard, *manifest.place, name)
            try:
                self._store.download(source, target)
            except FileNotFoundError:
                return False
            return checkpoints.hash_file(target) == manifest.files[name]

        folder.mkdir()
        fetching = [self._files.submit(fetch, name) for name in manifest.files]
        whole = [patiently(one, self._tick) for one in fetching]
        if not all(whole):
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return Checkpoint(manifest.step, manifest.score, folder)


def _figure(value: float) -> Json:
    """A loss that is no number any more is worth to be seen, and no JSON."""
    return value if math.isfinite(value) else str(value)


def _refuse_links(folder: Path) -> None:
    """A store keeps files alone; what it would drop without a word is missed hours later."""
    for path in folder.rglob("*"):
        if not path.is_file() and (path.is_symlink() or not path.is_dir()):
            name = path.relative_to(folder).as_posix()
            what = "a link to a folder or to nothing" if path.is_symlink() else "no file"
            raise ItemError("error", f"{name} in the checkpoint is {what}: copy in what it stands for")


def inside(folder: Path, name: str) -> Path:
    """A manifest is a file that anybody could have written."""
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()) or target == folder.resolve():
        raise UsageError(f"a checkpoint names {name!r}, which leads out of its folder: remove it")
    return target
