"""A training that goes on from a checkpoint of another one: out of a queue, or of Hugging Face's Trainer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worker.errors import ItemError, WorkerError
from worker.jobs import checkpoints
from worker.jobs.checkpoints import Manifest, Spot
from worker.jobs.workspace import Checkpoint, inside
from worker.queue import layout
from worker.queue.answers import read_shard
from worker.queue.store import Store, open_store
from worker.training.settings import WRONG

_STATE = "trainer_state.json"
_WHOLE = (_STATE, "optimizer.pt", "scheduler.pt", "config.json")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"


def find(told: str, beside: Path, room: Path) -> Checkpoint:
    """`told`: a folder, or a queue and perhaps the step of one of its checkpoints: run/food/checkpoint-1000.
    `beside`: what a folder is seen from. `room`: where a queue's checkpoint is put."""
    if "://" not in told and (beside / told / _STATE).is_file():
        return _of_folder(beside / told)
    place, _, last = told.rstrip("/").rpartition("/")
    named = re.fullmatch(r"checkpoint-(\d+)", last)
    queue, step = (place, int(named[1])) if named else (told, None)
    queue = queue if "://" in queue else str(beside / queue)
    if "://" not in queue and not (Path(queue) / layout.RUN).is_file():
        raise ItemError(
            WRONG, f"resume_from {told} is no checkpoint of a Trainer (it has no {_STATE}), and no queue"
        )
    try:
        return _of_queue(open_store(queue), told, step, room)
    except WorkerError as error:
        raise ItemError(WRONG, f"resume_from {told}: {error}") from None


def require_same(tensors: Mapping[str, Any], classes: list[str], found: Checkpoint) -> None:
    """Weights that are not there would be left as they are, with no more than a warning. `tensors`: what a
    checkpoint of this training has."""
    names = json.loads((found.folder / "config.json").read_bytes()).get("id2label", {})
    learned = [names[key] for key in sorted(names, key=int)]
    if learned != classes:
        raise ItemError(
            WRONG, f"the checkpoint tells {_few(learned)} apart, and the data sets have {_few(classes)}"
        )
    wanted = {(name, tuple(one.shape)) for name, one in tensors.items()}
    if other := sorted({name for name, _ in wanted ^ set(_tensors(found.folder))}):
        raise ItemError(
            WRONG, f"the checkpoint is of another model: {len(other)} tensors differ, such as {other[0]}"
        )


def _few(names: list[str]) -> str:
    return f"{len(names)} classes ({', '.join(names[:3])}, …)"


def _tensors(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    from safetensors import safe_open

    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, "numpy") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                yield name, tuple(opened.get_slice(name).get_shape())


def _of_folder(folder: Path) -> Checkpoint:
    """Without its optimiser it would begin anew, and not go on."""
    missing = [name for name in _WHOLE if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in (_WEIGHTS, _INDEX)):
        missing.append(_WEIGHTS)
    if missing:
        raise ItemError(WRONG, f"nobody can go on from {folder.name}: it lacks {', '.join(missing)}")
    return Checkpoint(json.loads((folder / _STATE).read_bytes())["global_step"], None, folder)


def _of_queue(store: Store, told: str, step: int | None, room: Path) -> Checkpoint:
    steps: list[int] = []
    for spot, manifest in _there(store, told):
        if step in (None, manifest.step):
            return Checkpoint(manifest.step, None, _fetched(store, spot, manifest, room))
        steps.append(manifest.step)
    there = f"it has those of step {', '.join(map(str, sorted(set(steps))))}" if steps else "it has none"
    raise ItemError(WRONG, f"resume_from {told}: there is no such checkpoint, {there}")


def _there(store: Store, told: str) -> Iterator[tuple[Spot, Manifest]]:
    """The best to go on from first."""
    names = (entry.name for entry in store.list(layout.JOBS))
    shards = {name.split("/")[1] for name in names if layout.checkpoint_of(name)}
    before = {shard: read_shard(store, shard).items[0].after for shard in shards}
    newest = sorted(shards - set(before.values()))
    if len(newest) > 1:
        raise ItemError(
            WRONG, f"resume_from {told}: {len(newest)} trainings have checkpoints there; name one's folder"
        )
    for shard in newest:
        for spot in checkpoints.history(store, shard, before[shard]):
            if manifest := checkpoints.read(store, *spot):
                yield spot, manifest


def _fetched(store: Store, spot: Spot, manifest: Manifest, room: Path) -> Path:
    folder = room / f".begun-{manifest.step}"
    shard, place = spot
    for name, stored in manifest.files.items():
        target = inside(folder, name)
        if target.is_file() and checkpoints.hash_file(target) == stored:
            continue  # another process of this node was here
        target.parent.mkdir(parents=True, exist_ok=True)
        store.download(layout.checkpoint_file(shard, *place, name), target)
        if checkpoints.hash_file(target) != stored:
            raise ItemError(WRONG, f"{name} of the checkpoint of step {manifest.step} is damaged")
    return folder
