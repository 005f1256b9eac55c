"""A model's folder without a model: a configuration, and tensors of bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def write(folder: Path, tensors: Mapping[str, bytes] | None = None, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "mistral", **config}))
    write_weights(
        folder / "model.safetensors", {"a": b"\1" * 9000, "b": b"\2" * 10} if tensors is None else tensors
    )
    return folder


def write_weights(file: Path, tensors: Mapping[str, bytes]) -> None:
    told, at = {}, 0
    for name, data in tensors.items():
        told[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    header = json.dumps({"__metadata__": {"format": "pt"}, **told}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"".join(tensors.values()))
