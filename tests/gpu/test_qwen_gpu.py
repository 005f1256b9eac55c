"""What only a GPU does: captured steps, numbers of half the size, memory that is measured and runs out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny_models
from worker.engines.choice import Choice
from worker.engines.decoding import Decoder, Prompt
from worker.engines.engine import Reply, Request
from worker.engines.qwen import Qwen

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
LENGTHS = (7, 30, 19, 1, 12)
MOST = 40


def prompts(model: Any) -> list[Prompt]:
    torch.manual_seed(1)
    asked = [torch.randint(0, 256, (length,), device="cuda") for length in LENGTHS]

    def read(ids: torch.Tensor) -> Mapping[str, Any]:
        return {
            "inputs_embeds": model.get_input_embeddings()(ids[None]),
            "position_ids": torch.arange(len(ids), device="cuda")[None],
        }

    return [Prompt(len(ids), lambda ids=ids: read(ids), MOST - n) for n, ids in enumerate(asked)]


def test_captured_steps_say_what_steps_say() -> None:
    model = tiny_models.mistral().cuda()
    captured, plain = Decoder(model, []), Decoder(model, [], graphs=False)
    asked = prompts(model)
    expected = [one.tokens for one in plain.generate(asked)]
    for _ in range(2):  # the second time from graphs that are there
        assert [one.tokens for one in captured.generate(asked)] == expected
    assert captured.how == "captured"
    captured.release()
    assert [one.tokens for one in captured.generate(asked[:2])] == expected[:2]


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_batch_is_measured_answered_and_remembered(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path / "cache"))
    qwen = Qwen(Choice("qwen", "tiny", "0", tiny_models.checkpoint(tmp_path / "model", family)))
    qwen.open("cuda")
    assert qwen.batch > 1
    assert (tmp_path / "cache" / "batches.json").exists()
    draw = np.random.default_rng(0)
    columns, rows = qwen.frame_size(1280, 720)
    frames = [draw.integers(0, 256, (rows, columns, 3), dtype=np.uint8) for _ in range(32)]
    replies = qwen.answer([Request(frames, range(32), f"{n}?", max_tokens=32) for n in range(5)])
    assert all(isinstance(one, Reply) and one.tokens for one in replies)
    assert qwen.spent()["decoding"] == "captured"
