"""How long a model of full size takes over a board, by the tokens that it says and the boards of a batch.

That needs a GPU; a small model on a CPU goes all the way as well: its figures say nothing."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tests import tiny_models
from tests.bench.table import Figure, not_here, show
from tests.bench.vlm import card
from worker.boards import demo, prompt
from worker.boards.asking import resized
from worker.engines.choice import Choice
from worker.engines.engine import Reply, Request
from worker.engines.latency import Latencies, figures
from worker.engines.loading import Loaded
from worker.engines.qwen import Qwen

SAID = {"no defect": 2, "two boxes": 48, "seven": 128, "twelve": 240}
"""tokens"""
BATCHES = 1, 4, 16


def measured(folder: Path) -> Iterator[Figure]:
    import torch

    tiny = not torch.cuda.is_available()
    if tiny:
        yield Figure("pcb-inspect by Qwen2.5-VL-7B", not_here("no GPU"))
    device = "cpu" if tiny else "cuda"
    name, _ = card(device)
    qwen = opened(folder, device)
    said = {"two boxes": SAID["two boxes"]} if tiny else SAID
    for batch in BATCHES[:2] if tiny else BATCHES:
        for what, tokens in said.items():
            told = timed(qwen, batch, tokens, times=2 if tiny else 8)
            yield Figure(
                f"{name}: {what}, {tokens} tokens, {batch} boards at once: p50, p95, boards a second",
                told,
                "under 1 s" if (batch, tokens) == (1, 48) and not tiny else "",
            )
    qwen.close()


def opened(folder: Path, device: str) -> Qwen:
    tiny = device == "cpu"
    tiny_models.outline(folder, tiny_models.config("qwen2_5_vl") if tiny else tiny_models.seven_billion())
    model = tiny_models.random_model(folder, device)
    qwen = Qwen(Choice("qwen", "random", "0", folder))
    qwen.wanted_batch = BATCHES[-1]
    qwen.use(Loaded(model, folder, False, {"precision": str(model.dtype).removeprefix("torch.")}))
    return qwen


def timed(qwen: Qwen, batch: int, tokens: int, times: int) -> str:
    boards = [board(qwen, seed, tokens) for seed in range(batch)]
    latencies = Latencies()
    began = time.perf_counter()
    for turn in range(times + 1):
        asked = time.perf_counter()
        replies = qwen.answer(boards)
        assert [one.tokens for one in replies if isinstance(one, Reply)] == [tokens] * batch
        if turn:
            latencies.add(time.perf_counter() - asked, batch)
        else:
            began = time.perf_counter()  # the first one warms up
    pace = times * batch / (time.perf_counter() - began)
    latency = figures(latencies.told())["latency"]
    return f"{latency['p50_s']:.2f} s, {latency['p95_s']:.2f} s, {pace:.1f}"


def board(qwen: Qwen, seed: int, tokens: int) -> Request:
    from PIL import Image

    _, tested, _ = demo.board(seed)
    picture = Image.fromarray(np.where(tested, 0, 255).astype(np.uint8)).convert("RGB")
    shown = resized(picture, qwen.resizing.of(*picture.size))
    return Request([shown], (), prompt.ask("en", "qwen2.5-vl"), max_tokens=tokens)


def main() -> int:
    if not find_spec("torch") or not find_spec("transformers"):
        print("pcb_inspect is not measured: pip install 'gpu-batch-worker[vlm]'")  # noqa: T201
        return 3
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        show("pcb_inspect", measured(Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
