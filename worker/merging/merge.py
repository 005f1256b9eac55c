"""All of a merge: from an adapter's folder and its base to a folder that every program takes for a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from worker.engines import checkpoint, hub, weights
from worker.errors import ItemError, UsageError
from worker.items import Json
from worker.jobs.checkpoints import hash_file
from worker.merging.adapter import CONFIG, WEIGHTS, WRONG, Adapter, Change
from worker.merging.matching import match
from worker.merging.output import MANIFEST, TAKEN, Output
from worker.merging.shards import merged


@dataclass(frozen=True)
class Merge:
    adapter: Adapter
    base: Path

    @classmethod
    def of(cls, folder: Path, base: str) -> Merge:
        """Refuses what cannot be merged, before anything is written."""
        adapter = Adapter.read(folder)
        revision = None if base else adapter.revision
        found = cls(adapter, _base(base or adapter.base or "", revision, folder))
        _ = found.changes
        return found

    @cached_property
    def files(self) -> list[Path]:
        return checkpoint.files(self.base)

    @cached_property
    def changes(self) -> dict[str, Change]:
        told = checkpoint.config(self.base)
        if checkpoint.quantised(told):
            raise ItemError(
                WRONG,
                f"{self.base.name} is quantised, and merging into it would lose accuracy: name the "
                "full-precision one that it was made from (base=)",
            )
        tensors = [one for file in self.files for one in weights.header(file).tensors]
        tied = checkpoint.is_tied(told) or not any("lm_head" in one.name for one in tensors)
        return match(self.adapter.changes, tensors, tied=tied)

    @cached_property
    def made_of(self) -> dict[str, Json]:
        return {
            "base": {"name": self.name, "revision": checkpoint.tree(self.base)},
            "adapter": {name: hash_file(self.adapter.folder / name).sha256 for name in (CONFIG, WEIGHTS)},
        }

    @property
    def name(self) -> str:
        """That of the hub's cache is a commit's."""
        if self.base.parent.name == "snapshots":
            return self.base.parents[1].name.removeprefix("models--").replace("--", "/")
        return self.base.name

    def write(self, into: Path, alive: Callable[[], None], saved: Callable[[Output, int], None]) -> Output:
        """`saved`: each time one more of the files of weights is whole. The configuration comes last: without
        it the folder is no model."""
        place, base = into.resolve(), self.base.resolve()
        if place == self.adapter.folder.resolve() or place.is_relative_to(base):
            raise ItemError(TAKEN, f"into={into} is the adapter itself, or in the base: name a new folder")
        output = Output.open(into, self.made_of, alive)
        beside = [one for one in checkpoint.beside(self.base) if one not in (MANIFEST, checkpoint.CONFIG)]
        output.require_room({one.name: one.stat().st_size for one in self.files})
        for number, file in enumerate(self.files, 1):
            if file.name not in output.files:
                parts = merged(file, self.changes, self.adapter.file)
                output.write(file.name, (_with(part, alive) for part in parts))
                output.note()
                saved(output, number)
        for name in (*beside, checkpoint.CONFIG):
            if name not in output.files:
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                output.write(name, [(self.base / name).read_bytes()])
        output.note()
        return output


def _with(part: memoryview, alive: Callable[[], None]) -> memoryview:
    alive()
    return part


def _base(name: str, revision: str | None, beside: Path) -> Path:
    if not name:
        raise ItemError("no-model", f"{CONFIG} names no base: name its folder or its name on the hub (base=)")
    folder = hub.find(name, beside, revision)
    try:
        checkpoint.check(folder)
    except UsageError as error:
        raise ItemError("no-model", str(error)) from None
    return folder
