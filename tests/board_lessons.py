"""Drawn boards, a small model that writes, and the file that says how it learns to inspect them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tests import tiny_models
from worker.boards import conversion, demo
from worker.boards.conversion import Picture
from worker.boards.coordinates import Family
from worker.boards.defect import Box, Defect

FAMILIES: dict[str, Family] = {"qwen2_5_vl": "qwen2.5-vl", "qwen3_vl": "qwen3-vl"}


def draw(folder: Path, numbers: Sequence[int], side: int, most: int) -> list[Picture]:
    """Each board, with at most so many of its defects labelled, and its template."""
    folder.mkdir(parents=True, exist_ok=True)
    by, found = side / demo.SIDE, []
    for number in numbers:
        template, tested, defects = demo.board(number)
        small = [
            Defect(
                one.type, Box(*(by * to for to in (one.box.left, one.box.top, one.box.right, one.box.bottom)))
            )
            for one in defects[:most]
        ]
        for end, copper, labelled in (("test", tested, small), ("temp", template, [])):
            shown = np.where(copper, 0, 255).astype(np.uint8)
            name = f"{number:04}_{end}.jpg"
            cv2.imwrite(str(folder / name), cv2.resize(shown, (side, side), interpolation=cv2.INTER_AREA))
            found.append(Picture(name, side, side, labelled))
    return found


def write(
    folder: Path,
    family: str = "qwen3_vl",
    *,
    boards: int = 8,
    held: int = 3,
    side: int = 128,
    most: int = 2,
    dropout: float = 0.2,
    training: str = "",
    rest: str = "",
) -> Path:
    """The file, with a model and boards beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base").exists():
        tiny_models.checkpoint(folder / "base", family, wide=0.05)
        config = json.loads((folder / "base" / "config.json").read_text())
        config["text_config"]["attention_dropout"] = dropout  # random numbers at every step
        (folder / "base" / "config.json").write_text(json.dumps(config))
    for name, numbers in (("train", range(boards)), ("val", range(boards, boards + held))):
        pictures = draw(folder / "boards", numbers, side, most)
        (folder / f"{name}.jsonl").write_bytes(conversion.chat(pictures, FAMILIES[family], "en"))
    file = folder / "config.yaml"
    file.write_text(
        f"""
model: {{name: base, use_4bit: false, device_map: auto}}
data: {{train: train.jsonl, val: val.jsonl, pictures: boards}}
training:
  max_steps: 10
  learning_rate: 1e-2
  batch_size: 2
  gradient_accumulation_steps: 2
  save_steps: 3
  lora: {{rank: 4, alpha: 16, dropout: 0.1, targets: all}}
{training}
validation: {{boards: 4, max_tokens: 12}}
monitor:
  all_freq: {{training_log_freq: 2, eval_log_freq: 4, perf_log_freq: 4}}
{rest}
"""
    )
    return file
