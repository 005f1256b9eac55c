"""What tells the device to read a prompt, or to go a step on, never waits for what the device makes of it.

The model lies on the device "meta", which computes nothing: to ask for a number that it made is an error. And
bytes come there by the carrier alone, for any other copy would wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from tests import tiny_models
from worker.engines import causal
from worker.engines.carrying import Carrier
from worker.engines.choice import Choice
from worker.engines.decoding import Prompt, _attending
from worker.engines.engine import Request
from worker.engines.loading import Loaded
from worker.engines.qwen import Asked, Qwen
from worker.engines.qwen_tower import Tower

both = pytest.mark.parametrize("family", tiny_models.FAMILIES)
DEVICE = torch.device("meta")


class WaitedError(Exception):
    pass


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        devices = {one.device.type for one in (*tree_leaves(args), out) if isinstance(one, torch.Tensor)}
        if func.overloadpacket.__name__ in ("_to_copy", "copy_") and len(devices) > 1:
            raise WaitedError(f"copied between {' and '.join(sorted(devices))}")
        return out


class _Functions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        has_bytes = func in (torch.tensor, torch.as_tensor) and args[0] != []
        if has_bytes and (kwargs or {}).get("device") is not None:
            raise WaitedError("made on the host for the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def unwaited() -> Iterator[None]:
    with _Functions(), _Operators():
        yield


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def qwen(tmp_path: Path, family: str) -> Qwen:
    folder = tiny_models.outline(tmp_path / "model", tiny_models.config(family))
    made = Qwen(Choice("qwen", "tiny", "0", folder))
    made.use(Loaded(tiny_models.vision_language(family).to(DEVICE), folder, trusted=False, about={}))
    return made


def asked(qwen: Qwen) -> list[Prompt]:
    columns, rows = qwen.frame_size(200, 90)
    made = []
    for frames in (4, 7):
        clip = [np.zeros((rows, columns, 3), np.uint8)] * frames
        read = qwen._read(Request(clip, range(frames), "?", max_tokens=9))
        assert isinstance(read, Asked)
        made.append(qwen._prompt(read))
    return made


@both
def test_prompts_are_read_and_steps_are_taken_without_waiting(
    qwen: Qwen, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, bring = qwen._decoder, Carrier.bring
    brought = 0

    def may(carrier: Carrier, values: Any) -> torch.Tensor:
        nonlocal brought
        brought += 1
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return bring(carrier, values)

    monkeypatch.setattr(Carrier, "bring", may)
    with torch.no_grad():
        decoder._read(asked(qwen))  # constants are made once
        with unwaited():
            room = decoder._read(asked(qwen))
            assert room is not None
            with _attending(decoder._text.config, causal.steps):
                decoder._step(room, 2)
    assert brought == 2 * 2 * 4  # frames, words, positions, and where the clip stands


WAITS: dict[str, Callable[[torch.Tensor], object]] = {
    "a constant": lambda there: torch.tensor([1.0], device=there.device),
    "a copy there": lambda there: torch.zeros(1).to(there.device),
    "a mask": lambda there: there[there > 0],
    "a number": lambda there: there[0].item(),
    "a question": lambda there: bool((there > 0).all()),
    "a list": lambda there: there.tolist(),
}


@pytest.mark.parametrize("kind", WAITS)
def test_what_waits_would_be_seen(kind: str) -> None:
    numbers = torch.zeros(4, device=DEVICE)
    with pytest.raises((WaitedError, RuntimeError, NotImplementedError)), unwaited():
        WAITS[kind](numbers)


def test_a_plan_is_made_once_for_a_size() -> None:
    visual = tiny_models.vision_language("qwen2_5_vl").model.visual
    tower = Tower(visual)
    sizes = [(2, 2 * high, 2 * wide) for high in range(1, 13) for wide in range(1, 13)]
    plans = [tower._planned(one) for one in sizes]
    assert all(tower._planned(one) is plan for one, plan in zip(sizes, plans, strict=True))
