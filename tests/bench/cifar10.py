"""A small Qwen2.5-VL with random weights learns CIFAR-10 through `worker run`: how well, how fast, and
whether it comes out the same, to the bit, when it is killed five times.

The pictures are not part of the project: their folder is told by --data or WORKER_TEST_DATA."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import tiny_models
from tests.bench.table import Figure, not_here, show
from tests.workers import answers, finish, worker
from worker.items import Answer
from worker.queue import layout
from worker.queue.store import open_store

KILLS = 5
LONGEST_S = 3600.0
FAMILY = "qwen2_5_vl"


@dataclass(frozen=True, slots=True)
class Done:
    accuracy: float
    seconds: float
    weights: str
    """of the best model, hashed"""
    tried: list[tuple[int, float]]


def figures(data: Path, steps: int, seed: int) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="cifar10-") as temp:
        file = settings(Path(temp), data, steps)
        whole = undisturbed(file, Path(temp) / "whole")
        classes = len([one for one in (data / "train").iterdir() if one.is_dir()])
        what = f"accuracy on CIFAR-10's test pictures, {steps} steps from random weights; by chance"
        yield Figure(what, f"{whole.accuracy:.1%}; {1 / classes:.0%}", "far above chance")
        yield Figure("seconds of it, from the command to the report", f"{whole.seconds:.0f}", "minutes")
        saved, killed = battered(file, Path(temp) / "killed", whole.seconds, random.Random(seed))
        told = f"killed {len(saved)} times, with {', '.join(map(str, saved))} checkpoints by then"
        yield Figure(f"{told}: weights to the bit, and every evaluation", same(whole, killed), "the same")


def settings(folder: Path, data: Path, steps: int) -> Path:
    tiny_models.checkpoint(folder / "base", FAMILY, wide=0.1)
    file = folder / "cifar10.yaml"
    file.write_text(f"""
model: {{pretrained_name: base, num_labels: 10, pixels: 112}}
training: {{max_steps: {steps}, learning_rate: 1e-3, batch_size: 16, warmup_steps: 25, save_steps: 50}}
monitor: {{all_freq: {{training_log_freq: 25, eval_log_freq: 125, perf_log_freq: 25}}}}
datasets: {{cifar10: "{data}"}}
""")
    return file


def undisturbed(file: Path, queue: Path) -> Done:
    began = time.monotonic()
    _run(queue, file)
    return _done(queue, time.monotonic() - began)


def battered(file: Path, queue: Path, seconds: float, chance: random.Random) -> tuple[list[int], Done]:
    """How many checkpoints had been made at each death, and how it ended."""
    began, saved = time.monotonic(), []
    for _ in range(KILLS):
        one = worker("run", queue, "--ttl", "2s", "--task", "classify-train", file)
        time.sleep(chance.uniform(0.05, 0.25) * seconds)  # five of them do not reach the end
        if one.poll() is not None:
            break  # it was done before
        one.signal_all(signal.SIGKILL)
        one.wait()
        saved.append(_checkpoints(queue))
    _run(queue, file)
    return saved, _done(queue, time.monotonic() - began)


def same(one: Done, other: Done) -> str:
    weights = "the same" if one.weights == other.weights else "other weights"
    tried = "the same" if one.tried == other.tried else "other figures"
    return f"{weights}; {tried}"


def _run(queue: Path, file: Path) -> None:
    code, said = finish(worker("run", queue, "--ttl", "2s", "--task", "classify-train", file), LONGEST_S)
    if code:
        raise RuntimeError(f"worker run ended with {code}: {said}")


def _checkpoints(queue: Path) -> int:
    """That are there; older ones are discarded."""
    entries = open_store(str(queue)).list(layout.JOBS) if (queue / layout.RUN).is_file() else ()
    return len([entry for entry in entries if layout.checkpoint_of(entry.name)])


def _done(queue: Path, seconds: float) -> Done:
    (result,) = answers(queue).values()
    assert isinstance(result.outcome, Answer), result.outcome
    (folder,) = (queue.with_name(f"{queue.name}-results") / "files").iterdir()
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    tried = [(one["step"], one["eval/overall_loss"]) for one in lines if "eval/overall_loss" in one]
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return Done(result.outcome.keys["overall_accuracy"], seconds, weights, tried)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("WORKER_TEST_DATA"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=11)
    told = parser.parse_args(arguments)
    folder = Path(told.data or "") / "cifar10"
    if told.data is None or not folder.is_dir():
        show(
            "cifar10",
            [Figure("learning real pictures", not_here("set WORKER_TEST_DATA to a folder with cifar10"))],
        )
        return 1
    show("cifar10", figures(folder.resolve(), told.steps, told.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
