"""All of a quantisation: small, held against what it was, and only then under its name."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from worker.engines import checkpoint
from worker.errors import ItemError, UnfitError, UsageError
from worker.items import Json
from worker.jobs.checkpoints import hash_file
from worker.merging.output import MANIFEST as MERGED
from worker.quantising import gate
from worker.quantising.samples import WRONG, Reader, Sample, read
from worker.quantising.score import Boards, Score

REPORT = "quantised.json"
_BEGUN = ".quantising"
_SHARE = 0.6
"""of the merged model's bytes, at most: four bits, and what stays whole"""
_OWN = (checkpoint.CONFIG, MERGED, "model.safetensors.index.json", "generation_config.json")

Progress = Callable[[int, int], None]
"""so many of so many layers are done"""
Tool = Callable[[Any, Any, Path, Sequence[Any], int, Progress], None]


@dataclass(frozen=True)
class Quantisation:
    merged: Path
    into: Path
    calibration: Path
    pictures: Path
    validation: Path | None
    samples: int
    held_out: int
    group: int
    least: float
    """cosine"""
    device: str
    by: str = "llm-compressor"
    """the tool's name"""
    boards: int = 0
    """of `validation`, that both models are asked about"""
    may_lose: float = 0.02
    """of DeepPCB's F"""

    def run(
        self, tool: Tool, progress: Progress, alive: Callable[[], None], saved: Callable[[], None]
    ) -> dict[str, Json]:
        """`saved`: once what takes hours is done. What falls too far is kept beside, under another name."""
        self._require_fit()
        made_of = self._made_of
        if (told := self._told(self.into, made_of)) and self._has_passed(told["verdict"]):
            return told
        if self.into.exists() and any(self.into.iterdir()):
            raise ItemError("taken", f"into={self.into} is not empty: name a new folder, or remove it")
        if self._told(self._part, made_of) is None:
            self._made(tool, made_of, progress)
            saved()
        try:
            gate.untouched(self.merged, self._part)
            verdict, score = self._verdict(alive)
        except ItemError as error:
            raise self._rejected(error.kind, error.message) from None
        except UsageError as error:  # it cannot be loaded whole
            raise self._rejected("damaged", str(error)) from None
        told = {**made_of, "verdict": {**verdict.document(), **(score.document() if score else {})}}
        _write(self._part / REPORT, told)
        if not verdict.cosine >= self.least:
            raise self._rejected(
                "worse",
                f"its logits have a cosine of {verdict.cosine:.4f} to those of the merged model, and "
                f"{self.least:g} is the least (worst sample {verdict.worst:.4f}; the same token in "
                f"{verdict.same:.1%}; {verdict.samples} samples): try more samples or a smaller group",
            )
        if score and not score.lost <= self.may_lose:
            raise self._rejected(
                "worse",
                f"asked about {score.boards} boards its F is {score.after:.1%}, and that of the merged model "
                f"{score.before:.1%}; it may lose {self.may_lose:.1%}: try more samples or a smaller group",
            )
        self._part.rename(self.into)
        return told

    def _has_passed(self, verdict: Mapping[str, Json]) -> bool:
        """This gate, not only the one that it was made under."""
        asked = len(self._asked.rows) if self._asked else None
        return bool(verdict["cosine"] >= self.least) and (
            asked is None
            or (verdict.get("boards") == asked and verdict["f1_merged"] - verdict["f1"] <= self.may_lose)
        )

    @property
    def _part(self) -> Path:
        return self.into.with_name(f"{self.into.name}.part")

    @cached_property
    def _reader(self) -> Reader:
        return Reader.of(self.merged)

    @cached_property
    def _drawn(self) -> tuple[list[Sample], list[Sample]]:
        """To calibrate with, and to compare with: never the same."""
        if self.validation:
            kept = read(self.validation, self.pictures, self.held_out)
            return read(self.calibration, self.pictures, self.samples), kept
        drawn = read(self.calibration, self.pictures, self.samples + self.held_out)
        if len(drawn) <= self.held_out:
            raise ItemError(
                WRONG,
                f"{self.calibration.name} has {len(drawn)} samples, and {self.held_out} of them are held "
                "out: take more, or set held_out lower",
            )
        return drawn[self.held_out :], drawn[: self.held_out]

    @property
    def _made_of(self) -> dict[str, Json]:
        return {
            "merged": checkpoint.tree(self.merged),
            "tool": self.by,
            "calibration": hash_file(self.calibration).sha256,
            "samples": self.samples,
            "held_out": self.held_out,
            "group": self.group,
        }

    def _require_fit(self) -> None:
        if self.into.is_relative_to(self.merged):
            raise ItemError("taken", f"into={self.into} is in the merged model: name a folder beside it")
        checkpoint.check(self.merged)
        if checkpoint.quantised(checkpoint.config(self.merged)):
            raise ItemError("no-model", f"{self.merged.name} is quantised already: name the merged one")
        _ = self._drawn, self._asked
        self.into.parent.mkdir(parents=True, exist_ok=True)
        need = _SHARE * sum(one.stat().st_size for one in checkpoint.files(self.merged))
        free = shutil.disk_usage(self.into.parent).free
        if need > free and not self._part.exists():
            raise UnfitError(
                f"into={self.into}: up to {need / 1e9:.1f} GB are written, and {free / 1e9:.1f} are free: "
                "remove what is not needed (`worker plan quantise` says what)"
            )

    def _told(self, folder: Path, made_of: dict[str, Json]) -> dict[str, Json] | None:
        """Of what is whole there, and was made of the same."""
        try:
            told: dict[str, Json] = json.loads((folder / REPORT).read_bytes())
        except (OSError, ValueError):
            return None
        return told if made_of.items() <= told.items() else None

    def _made(self, tool: Tool, made_of: dict[str, Json], progress: Progress) -> None:
        from transformers import AutoModelForImageTextToText

        _clear(self._part)
        self._part.mkdir()
        (self._part / _BEGUN).touch()
        calibrate = [self._reader.inputs(one)[0] for one in self._drawn[0]]
        # in RAM: the tool takes its layers to the card, one by one
        model = AutoModelForImageTextToText.from_pretrained(self.merged, dtype="auto", local_files_only=True)
        tool(model, self._reader.tokenizer, self._part, calibrate, self.group, progress)
        del model
        _free()
        for name in checkpoint.beside(self.merged):
            if name not in _OWN:
                (self._part / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.merged / name, self._part / name)
        for file in self._part.rglob("*"):
            _sync(file)
        (self._part / _BEGUN).unlink()
        _write(self._part / REPORT, made_of)

    @cached_property
    def _asked(self) -> Boards | None:
        if not self.boards:
            return None
        if self.validation is None:
            raise ItemError(
                WRONG,
                "gate_boards asks about boards that were not calibrated with: name a val.jsonl (validation=)",
            )
        return Boards.of(self.merged, self.validation, self.pictures, self.boards)

    def _verdict(self, alive: Callable[[], None]) -> tuple[gate.Verdict, Score | None]:
        told, scores = [], []
        for folder in (self.merged, self._part):
            model = gate.open_model(folder, self.device)
            told.append([*gate.logits(model, self._reader, self._drawn[1], alive)])
            if self._asked:
                scores.append(self._asked.f1(model, alive))
            del model
            _free()
        score = Score(scores[0], scores[1], len(self._asked.rows)) if self._asked else None
        return gate.compare(*told), score

    def _rejected(self, kind: str, why: str) -> ItemError:
        """Kept, for whoever wants to know what is wrong with it."""
        beside = self.into.with_name(f"{self.into.name}.rejected")
        _clear(beside)
        self._part.rename(beside)
        return ItemError(kind, f"{why}; it is kept as {beside.name}")


def _clear(folder: Path) -> None:
    """Of ours alone: what a killed worker left, or what was rejected before."""
    if not folder.exists():
        return
    if not any((folder / one).exists() for one in (_BEGUN, REPORT)) and any(folder.iterdir()):
        raise ItemError("taken", f"{folder} is in the way, and is not of this task: move it")
    shutil.rmtree(folder)


def _free() -> None:
    """Of the card too, for whoever asks how much is left of it."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _write(file: Path, told: dict[str, Json]) -> None:
    temp = file.with_name(f".{file.name}")
    temp.write_text(json.dumps(told, indent=1) + "\n")
    _sync(temp)
    temp.replace(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
