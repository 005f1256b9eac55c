"""Small drawn data sets, and what a look at one of them says."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from worker.items import Answer, Item, Json
from worker.tasks.detect_check import DetectCheck, DetectCheckParams

WIDE, HIGH = 96, 64
BOX = "0 0.5 0.5 0.25 0.25"


def draw(file: Path, text: str | None = BOX, seed: str = "") -> Path:
    """A picture that shows what no other shows, unless it has another's seed; `text`: its labels."""
    chance = np.random.default_rng(zlib.crc32((seed or file.name).encode()))
    pixels = chance.integers(0, 255, (8, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    if text is not None:
        labels = Path(str(file).replace("/images/", "/labels/")).with_suffix(".txt")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(text)
    return file


def yolo(folder: Path, **told: Json) -> Path:
    """Four pictures to learn from and two to measure by, without a fault."""
    for number in range(4):
        draw(folder / f"images/train/t{number}.png", f"{BOX}\n1 0.2 0.2 0.2 0.3")
    for number in range(2):
        draw(folder / f"images/val/v{number}.png")
    file = folder / "data.yaml"
    told = {"train": "images/train", "val": "images/val", "names": ["cat", "dog"]} | told
    file.write_text(yaml.safe_dump({key: said for key, said in told.items() if said is not None}))
    return file


def check(file: Path, **params: Json) -> Answer:
    task = DetectCheck(DetectCheckParams.model_validate(params))
    return task.prepare(Item("id", file.name, file=file))


def rows(answer: Answer) -> list[list[str]]:
    """Of faults.csv: check, split, file and line."""
    lines = answer.files["faults.csv"].decode().splitlines()[1:] if "faults.csv" in answer.files else []
    return [line.split(",")[:4] for line in lines]


def level(answer: Answer, name: str) -> str:
    return next(str(one["level"]) for one in answer.keys["findings"] if one["check"] == name)
