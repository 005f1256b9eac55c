"""What only a GPU does: captured steps, bytes that travel while it computes, memory that is measured and runs
out, and which kernel computes the attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests import tiny_models
from worker.engines.choice import Choice
from worker.engines.decoding import Decoder, Prompt
from worker.engines.engine import Reply, Request
from worker.engines.grammar import Grammar
from worker.engines.qwen import Qwen
from worker.ghosts.prompt import schema
from worker.items import UNANSWERED, Json

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


def test_captured_steps_of_all_sizes_share_their_memory() -> None:
    model = tiny_models.mistral().cuda()
    decoder = Decoder(model, [])
    first = 0
    asked = prompts(model)
    for many in (asked * 3, asked, asked[:2], asked[:1]):
        decoder.generate([Prompt(one.length, one.read, 20) for one in many])
        first = first or decoder.kept
    assert sorted(decoder._graphs._graphs) == [1, 2, 8, 16]
    assert first > 0
    assert decoder.kept <= 4 * first
    decoder.release()
    assert decoder.kept == 0


FAST = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]


@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_neither_prompts_nor_steps_write_out_every_score(kind: torch.dtype) -> None:
    model = tiny_models.mistral().to("cuda", kind)
    with sdpa_kernel(FAST):  # where none of these can, torch raises
        said = Decoder(model, [], graphs=False).generate(prompts(model))
    assert all(one.tokens for one in said)


def test_captured_steps_heed_a_grammar() -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed: nothing holds answers to a form")
    model = tiny_models.mistral().cuda()
    end = tiny_models.id_of(tiny_models.IM_END)
    grammar = Grammar(tiny_models.tokenizer(), [end], tiny_models.VOCABULARY)
    captured, plain = Decoder(model, [[end]]), Decoder(model, [[end]], graphs=False)

    def held(form: Json) -> list[Prompt]:
        return [replace(one, constraint=grammar.of(form) if form else None) for one in prompts(model)]

    for form in (None, schema("en"), None, schema("en")):
        assert captured.generate(held(form)) == plain.generate(held(form))
    assert captured.how == "captured"


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def clips(qwen: Qwen, count: int, most: int, form: Json = None) -> list[Request]:
    draw = np.random.default_rng(0)
    columns, rows = qwen.frame_size(1280, 720)
    frames = [draw.integers(0, 256, (rows, columns, 3), dtype=np.uint8) for _ in range(32)]
    return [Request(frames, range(32), f"{n}?", form, most) for n in range(count)]


@pytest.fixture
def qwen(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> Qwen:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path / "cache"))
    made = Qwen(Choice("qwen", "tiny", "0", tiny_models.checkpoint(tmp_path / "model", family)))
    made.open("cuda")
    return made


@pytest.mark.parametrize("form", [None, schema("en")], ids=["free", "held"])
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_nothing_waits_but_the_look_at_what_was_said(qwen: Qwen, form: Json) -> None:
    asked = clips(qwen, 5, 32, form)
    expected = qwen.answer(asked)  # constants are made, and steps captured
    with waiting_is_an_error():
        assert qwen.answer(asked) == expected


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_stop_ends_a_long_answer(qwen: Qwen) -> None:
    qwen._decoder._stops = []
    Timer(2.0, qwen.stop).start()
    assert qwen.answer(clips(qwen, 3, 100_000)) == [UNANSWERED] * 3


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_a_batch_is_measured_answered_and_remembered(qwen: Qwen, tmp_path: Path) -> None:
    assert qwen.batch > 1
    assert not torch.backends.cuda.cudnn_sdp_enabled()  # a plan for every length takes long
    assert (tmp_path / "cache" / "batches.json").exists()
    replies = qwen.answer(clips(qwen, 5, 32))
    assert all(isinstance(one, Reply) and one.tokens for one in replies)
    assert qwen.spent()["decoding"] == "captured"
