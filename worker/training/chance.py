"""Random numbers of one process of several."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import torch


def begin(seed: int, rank: int) -> None:
    """Other ones in each process: what is dropped in one is not what is dropped in the others."""
    mixed = int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def state() -> bytes:
    """Of the card that this process computes on alone: to ask the others takes memory there."""
    kind, keys, *rest = np.random.get_state()
    found = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest),
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,  # type: ignore[no-untyped-call]
    }
    written = io.BytesIO()
    torch.save(found, written)
    return written.getvalue()


def restore(file: Path) -> None:
    found = torch.load(file, weights_only=True)
    random.setstate(found["python"])
    kind, keys, *rest = found["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(found["cpu"])
    if found["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])
