"""Chat samples as pcb-convert writes them, with small pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write(folder: Path, count: int = 12, side: int = 96) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(0)
    lines = []
    for number in range(count):
        name = f"{number:05}_test.jpg"
        rows = np.repeat(np.repeat(chance.integers(0, 255, (8, 8, 3), np.uint8), side // 8, 0), side // 8, 1)
        Image.fromarray(rows).save(folder / name)
        question = [{"type": "image", "image": name}, {"type": "text", "text": "List the defects."}]
        box = [int(one) for one in chance.integers(0, 1000, 4)]
        answer = json.dumps([{"type": "open", "box": box}], separators=(",", ":"))
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": messages}))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "train.jsonl"
