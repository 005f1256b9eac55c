"""What its makers' code was asked (tests/data/README.md), and the stand-in to be asked the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.engines import shims
from worker.engines.engine import Request

PUBLIC: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "videochat2.json").read_text())
CLIPS = PUBLIC["clips"]


@contextmanager
def stood_in(folder: Path) -> Iterator[Path]:
    """The stand-in, whose code is copied to nowhere else meanwhile."""
    from transformers import dynamic_module_utils

    from tests.standin_videochat2.build import build

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder / "modules"))
        yield build(folder / "standin")


def loaded(folder: Path, *, shimmed: bool = True, **settings: Any) -> Any:
    from transformers import AutoModel

    with shims.lent() if shimmed else nullcontext():
        return AutoModel.from_pretrained(
            folder,
            trust_remote_code=True,
            mistral_model_path=str(folder / "mistral"),
            use_flash_attention=False,
            videochat2_model_path="",
            **settings,
        )


def request(clip: dict[str, Any], **more: Any) -> Request:
    size = len(clip["times"]), clip["height"], clip["width"], 3
    frames = np.random.RandomState(clip["seed"]).randint(0, 256, size).astype(np.uint8)
    return Request(list(frames), clip["times"], clip["question"], **more)
