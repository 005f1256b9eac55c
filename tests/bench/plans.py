"""Planned peak memory beside the measured one: three models are asked, and three are trained.

It needs a GPU. `--tiny` goes all the way with small models on a CPU, and measures nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests import tiny_models
from tests.bench.table import Figure, not_here, show
from tests.workers import ROOT
from worker.planning import known, memory
from worker.planning.ghosts import GhostParams
from worker.planning.ghosts import memory as answering
from worker.planning.memory import CONTEXT, Lesson, Method
from worker.planning.shape import Shape

ASKED = (("qwen3-vl-2b", 16), ("qwen2.5-vl-7b", 8), ("qwen3-vl-8b", 4))
"""models in fp16, and clips at once"""
TRAINED: tuple[tuple[str, Method, int, int], ...] = (
    ("qwen3-vl-2b", "full", 4, 1024),
    ("qwen2.5-vl-7b", "lora", 2, 1024),
    ("qwen3-vl-8b", "qlora", 4, 1024),
)
"""models, how they learn, batch, tokens"""
RANK = 16
LEARNT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LIMIT_S = 550


class Case(NamedTuple):
    what: str
    name: str
    batch: int
    method: Method = "full"
    tokens: int = 0

    @property
    def told(self) -> str:
        if self.what == "ask":
            return f"{self.name} in fp16, {self.batch} clips of 32 frames at once"
        return f"{self.name}, {self.method}, {self.batch} x {self.tokens} tokens"


CASES = [
    *(Case("ask", name, batch) for name, batch in ASKED),
    *(Case("train", name, batch, method, tokens) for name, method, batch, tokens in TRAINED),
]


def planned(case: Case, of: Shape) -> float:
    """Bytes that torch sees: without what lies in the context."""
    if case.what == "ask":
        params = GhostParams(width=1600, height=900, max_tokens=512, words=1024)
        return sum(answering(of, params, case.batch).values()) - CONTEXT
    lesson = Lesson(case.batch, case.tokens, patches=0)
    return sum(memory.training(of, case.method, lesson, rank=RANK).values()) - CONTEXT


def figures() -> Iterator[Figure]:
    for case in CASES:
        command = [sys.executable, "-m", "tests.bench.plans", "--one", json.dumps(case)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode:
            yield Figure(
                case.told, not_here(done.stderr.strip().splitlines()[-1:] or "it failed"), "within 15 %"
            )
            continue
        peak = json.loads(done.stdout.splitlines()[-1])
        plan = planned(case, known.find(case.name))
        told = f"planned {plan / 1e9:.1f} GB, measured {peak / 1e9:.1f}: {plan / peak - 1:+.0%}"
        yield Figure(case.told, told, "within 15 %")


# in processes of their own


def measure(case: Case, config: Any, device: str) -> float:
    import torch

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tiny_models.outline(Path(folder), config)
        run = ask if case.what == "ask" else train
        run(case, Path(folder), device)
    return float(torch.cuda.max_memory_allocated()) if device == "cuda" else 0.0


def ask(case: Case, folder: Path, device: str) -> None:
    """By the engine itself, prompts and answers as long as they are expected at most."""
    import numpy as np
    import torch

    from worker.engines.choice import Choice
    from worker.engines.engine import Request
    from worker.engines.loading import Loaded
    from worker.engines.qwen import Qwen

    qwen = Qwen(Choice("qwen", "random", "0", folder))
    qwen.use(Loaded(tiny_models.random_model(folder, device), folder, False, {"precision": "fp16"}))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    width, height = qwen.frame_size(1600, 900) if device == "cuda" else (64, 64)
    frames = [np.zeros((height, width, 3), np.uint8)] * (32 if device == "cuda" else 2)
    answer = 512 if device == "cuda" else 4
    request = Request(frames, range(len(frames)), " ?" * 500, max_tokens=answer)
    assert len(qwen.answer([request] * case.batch)) == case.batch
    qwen.close()


def train(case: Case, folder: Path, device: str) -> None:
    """Two steps over random words: what all of training has, and nothing of any library for it."""
    import torch

    numbers = torch.bfloat16 if device == "cuda" else torch.float32
    model = tiny_models.random_model(folder, device).to(numbers).train()
    text = model.model.language_model
    text.gradient_checkpointing_enable({"use_reentrant": False})
    if case.method == "full":
        model.requires_grad_(True)
    else:
        adapt(text, fold=case.method == "qlora" and device == "cuda")
    learns = [one for one in model.parameters() if one.requires_grad]
    copies = [one.detach().float() for one in learns] if case.method == "full" else learns
    state = [(torch.zeros_like(one), torch.zeros_like(one)) for one in copies]
    if device == "cuda":  # the whole model was there before it was folded
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    ids = torch.randint(0, tiny_models.VOCABULARY, (case.batch, case.tokens), device=device)
    for _ in range(2):
        given = model.get_input_embeddings()(ids).detach().requires_grad_()
        hidden = text(inputs_embeds=given, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden).float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
        loss.backward()
        assert math.isfinite(loss.item())
        del logits, hidden, given, loss
        for one, copy, (mean, square) in zip(learns, copies, state, strict=True):
            if one.grad is None:
                continue  # vision has seen nothing
            with torch.no_grad():
                mean.lerp_(one.grad.to(mean), 0.1)
                square.lerp_(one.grad.to(square).square(), 0.01)
                copy.addcdiv_(mean, square.sqrt().add_(1e-8), value=-1e-5)
                one.copy_(copy)
            one.grad = None


def adapt(text: Any, *, fold: bool) -> None:
    """Adapters beside each matrix of a layer; the matrices in four bits if they are to be."""
    import torch
    from torch import nn

    class Adapted(nn.Module):
        def __init__(self, base: Any) -> None:
            super().__init__()
            place = {"device": base.weight.device, "dtype": torch.float32}
            self.down = nn.Linear(base.in_features, RANK, bias=False, **place)
            self.up = nn.Linear(RANK, base.out_features, bias=False, **place)
            self.base = four_bits(base) if fold else base

        def forward(self, x: Any) -> Any:
            beside = nn.functional.linear(x, self.down.weight.to(x.dtype))
            return self.base(x) + nn.functional.linear(beside, self.up.weight.to(x.dtype))

    text.requires_grad_(False)
    for layer in text.layers:
        for part in (layer.self_attn, layer.mlp):
            for name in LEARNT:
                if base := getattr(part, name, None):
                    setattr(part, name, Adapted(base))


def four_bits(base: Any) -> Any:
    import bitsandbytes as bnb
    import torch

    kept = bnb.nn.Linear4bit(
        base.in_features,
        base.out_features,
        bias=base.bias is not None,
        compute_dtype=torch.bfloat16,
        compress_statistics=True,
        quant_type="nf4",
    )
    kept.weight = bnb.nn.Params4bit(base.weight.data.cpu(), requires_grad=False, quant_type="nf4")
    if base.bias is not None:
        kept.bias = base.bias
    base.weight = None
    return kept.to("cuda")


def full(name: str) -> Any:
    import transformers

    told = json.loads(json.dumps(known.read(name)["config"]))
    tiny = tiny_models.config(told["model_type"])
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        told["text_config"][key] = getattr(tiny.text_config, key)
    made = transformers.AutoConfig.for_model(**told)
    for key in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
        setattr(made, key, getattr(tiny, key))
    return made


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--one"]:
        case = Case(*json.loads(arguments[1]))
        print(measure(case, full(case.name), "cuda"))  # noqa: T201
        return 0
    if "--tiny" in arguments:
        for case in CASES:
            little = case._replace(batch=2, tokens=min(case.tokens, 24))
            family = "qwen3_vl" if case.name.startswith("qwen3") else "qwen2_5_vl"
            measure(little, tiny_models.config(family), "cpu")
            print(f"{case.told}: {planned(case, known.find(case.name)) / 1e9:.1f} GB planned")  # noqa: T201
        return 0
    import torch

    there = torch.cuda.is_available()
    show("plans", figures() if there else [Figure("planned against measured memory", not_here("no GPU"))])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
