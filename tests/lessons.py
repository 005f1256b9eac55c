"""Drawn pictures of two classes, a small model and the file that says how it learns them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests import tiny_models

COLOURS = {"blue": (40, 60, 200), "red": (200, 60, 40)}


def draw(folder: Path, train: int = 24, test: int = 8) -> Path:
    chance = np.random.default_rng(3)
    for part, count in (("train", train), ("test", test)):
        for name, colour in COLOURS.items():
            (folder / part / name).mkdir(parents=True)
            for at in range(count):
                noise = chance.normal(0, 60, (40, 40, 3))
                picture = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(picture).save(folder / part / name / f"{at}.png")
    return folder


def write(folder: Path, *, family: str = "qwen2_5_vl", dropout: float = 0.2, monitor: str = "") -> Path:
    """The file, with a model and a data set beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base").exists():
        tiny_models.checkpoint(folder / "base", family, wide=0.02)
        config = json.loads((folder / "base" / "config.json").read_text())
        config["text_config"]["attention_dropout"] = dropout  # random numbers at every step
        (folder / "base" / "config.json").write_text(json.dumps(config))
        draw(folder / "colours")
    file = folder / "colours.yaml"
    file.write_text(
        f"""
model:
  pretrained_name: base
  num_labels: 2
  pixels: 56
training:
  max_steps: 24
  learning_rate: 5e-3
  batch_size: 4
  gradient_accumulation_steps: 2
  save_steps: 5
monitor:
  all_freq: {{training_log_freq: 2, eval_log_freq: 6, perf_log_freq: 4}}
{monitor}
datasets:
  colours: colours
"""
    )
    return file
