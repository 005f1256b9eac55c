"""What its makers' code was asked (tests/data/README.md), and the stand-in to be asked the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.engines import pinned, shims
from worker.engines.choice import Choice
from worker.engines.engine import Request

PUBLIC: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "videochat2.json").read_text())
CLIPS = PUBLIC["clips"]


@contextmanager
def stood_in(folder: Path) -> Iterator[Path]:
    """The stand-in. Its code is copied below the folder as well, and nobody imports from there afterwards."""
    from transformers import dynamic_module_utils

    from tests.standin_videochat2.build import build

    with pytest.MonkeyPatch.context() as patch:
        usual = dynamic_module_utils.HF_MODULES_CACHE
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder / "modules"))
        patch.setattr(sys, "path", [one for one in sys.path if one != usual])
        _forget_code()
        yield build(folder / "standin")
        _forget_code()


def _forget_code() -> None:
    """transformers imports such code from one package, which lies where the first of it was copied to."""
    for name in [one for one in sys.modules if one.partition(".")[0] == "transformers_modules"]:
        del sys.modules[name]


def loaded(folder: Path, *, shimmed: bool = True, **settings: Any) -> Any:
    from transformers import AutoModel

    with pinned.only(Choice("videochat2", file=folder)), shims.lent() if shimmed else nullcontext():
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
