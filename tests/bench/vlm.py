"""A Qwen2.5-VL of full size, asked about 32 frames of each clip: by a worker, and by a plain loop.

That needs a GPU; what small models on a CPU can show is measured everywhere. `--tiny` goes all the way of the
large one with a small one: its figures say nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny_models
from tests.bench import alike
from tests.bench.clips import CLIPS, draw
from tests.bench.peers import must
from tests.bench.table import Figure, not_here, show
from tests.tasks.looking import SAID, Looking, LookingParams
from tests.workers import ROOT, run
from worker.engines.qwen_prompt import read
from worker.hardware import gpus
from worker.items import Answer, Item

BATCHES = 1, 4, 16


class Bench:
    def __init__(self, device: str, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.model, self.clips = folder / "model", folder / "clips"
        self.tiny = device == "cpu"
        self.count, self.alone = (4, 2) if self.tiny else (96, 6)
        """clips that a worker is asked about, and that the loop is"""
        self.tokens = 4 if self.tiny else 128

    def lay_out(self) -> None:
        shape = tiny_models.config("qwen2_5_vl") if self.tiny else tiny_models.seven_billion()
        tiny_models.outline(self.model, shape)
        self.clips.mkdir()
        film = draw(CLIPS[0], self.folder)
        for number in range(self.count):
            shutil.copyfile(film, self.clips / f"{number:03}.mp4")

    @property
    def params(self) -> LookingParams:
        return LookingParams(folder=str(self.model), tokens=self.tokens)

    def films(self, count: int) -> list[Path]:
        return sorted(self.clips.iterdir())[:count]

    def figures(self) -> Iterator[Figure]:
        self.lay_out()
        name, gpu = card(self.device)
        loop = self._apart("loop")
        yield Figure(f"{name}: the loop (transformers, one clip at a time)", f"{loop['rate']:.2f} clips/s")
        for held in (True, False):
            yield from self._of_worker(name, gpu, loop, held=held)
        same = self._apart("batches")
        told = ", ".join(f"{share:.0%} at {batch}" for batch, share in same["same"].items())
        yield Figure(f"{name}: answers as at a batch of 1 ({same['of']} clips)", told, "100 % but for ties")

    def _of_worker(
        self, name: str, gpu: gpus.Gpu | None, loop: dict[str, Any], *, held: bool
    ) -> Iterator[Figure]:
        worker = self._worker(held=held)
        spent = worker["spent"]
        is_held = held and spent["answers_as"] == "json_schema"
        name = f"{name}, answers held to {'a JSON schema' if is_held else 'nothing'}"
        times = worker["rate"] / loop["rate"]
        yield Figure(
            f"{name}: a worker, {worker['batch']} clips at once",
            f"{worker['rate']:.2f} clips/s, {times:.1f} times the loop",
            "5 times",
        )
        yield Figure(f"{name}: the device waits for clips", f"{worker['waited']:.1%} of the time", "5 %")
        if gpu:
            share = spent["prefill_flops"] / spent["prefill_flops_possible"]
            yield Figure(f"{name}: prefill, share of the peak", f"{share:.0%}", "45 %")
            floor = self._floor(spent, gpu)
            yield Figure(
                f"{name}: decoding, against reading weights and cache once a step",
                f"{spent['decode_s'] / floor:.2f} times ({spent['decoding']})",
                "2 times",
            )

    def _worker(self, *, held: bool) -> dict[str, Any]:
        """The whole way of a clip, in a real worker with its children."""
        queue, out = (self.folder / f"{part}-{held}" for part in ("queue", "out"))
        settings = [f"folder={self.model}", f"tokens={self.tokens}", f"held={held}"]
        (self.model / SAID).unlink(missing_ok=True)
        where = () if self.tiny else ("--gpus", "0")
        must(
            *run(
                *("run", queue, "--task", "looking", "--out", out, *where),
                *("--batch", 2 if self.tiny else BATCHES[-1]),
                *(part for one in settings for part in ("--set", one)),
                self.clips,
                timeout=550,
            )
        )
        lines = [json.loads(line) for line in (self.model / SAID).read_text().splitlines()]
        spent, batches = lines.pop(), lines
        began, ended = batches[0]["begun"], batches[-1]["ended"]
        waits = sum(after["begun"] - before["ended"] for before, after in pairwise(batches))
        clips = sum(one["clips"] for one in batches)
        lasted = ended - began
        return {"rate": clips / lasted, "waited": waits / lasted, **spent}

    def _floor(self, spent: dict[str, Any], gpu: gpus.Gpu) -> float:
        """Seconds: of each step the weights are read, of each token the cache of its clip."""
        from transformers import AutoConfig

        text = AutoConfig.from_pretrained(self.model).text_config
        head = text.hidden_size // text.num_attention_heads
        kept = text.num_key_value_heads * head
        width, inner = text.hidden_size, text.intermediate_size
        layer = 2 * width * (width + kept) + 3 * width * inner
        weights = 2 * (text.num_hidden_layers * layer + width * text.vocab_size)
        each = 2 * 2 * text.num_hidden_layers * kept  # fp16 keys and values
        cached = spent["generated_tokens"] * each * spent["prompt_tokens"] / spent["requests"]
        return float((spent["decode_steps"] * weights + cached) / (gpu.bandwidth * 1e9))

    def _apart(self, what: str) -> dict[str, Any]:
        """In a process of its own, which gives all memory back."""
        command = [sys.executable, "-m", "tests.bench.vlm", what, self.device, str(self.folder)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=550, check=False)
        must(done.returncode, f"{what} failed")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    # in processes of their own

    def loop(self) -> dict[str, Any]:
        """What people write today: frames by OpenCV, pixels as transformers makes them, and its generate,
        clip after clip."""
        import torch

        model = tiny_models.random_model(self.model, self.device)
        looking = Looking(self.params)
        qwen = looking._qwen
        tokenizer = tiny_models.tokenizer()
        begun, done = 0.0, 0
        for number, film in enumerate(self.films(self.alone + 1)):
            if number == 1:  # the first one warms up
                begun, done = time.perf_counter(), 0
            frames = read_by_opencv(film, self.params.frames, qwen.frame_size)
            times = [n / 2 for n in range(len(frames))]
            grid = qwen._sight.grid(len(frames), frames[0].shape[1], frames[0].shape[0])
            reading = read(tokenizer, qwen._sight, self.params.question, times, grid)
            ids = torch.tensor([reading.ids])
            inputs = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "mm_token_type_ids": (ids == tiny_models.id_of(tiny_models.VIDEO)).int() * 2,
                "pixel_values_videos": qwen._sight.patches(torch.from_numpy(np.stack(frames))),
                "video_grid_thw": torch.tensor([grid]),
                "second_per_grid_ts": torch.tensor([1.0]),
            }
            inputs = {name: one.to(self.device) for name, one in inputs.items()}
            with torch.no_grad():
                out = model.generate(**inputs, do_sample=False, max_new_tokens=self.tokens, pad_token_id=0)
            tokenizer.decode(out[0, ids.shape[1] :].tolist())
            done += 1
        return {"rate": done / (time.perf_counter() - begun)}

    def batches(self) -> dict[str, Any]:
        """How many answers are the same, whatever stands beside a clip."""
        looking = Looking(self.params)
        looking.open(self.device)
        count = min(self.count, BATCHES[-1])
        light = np.random.default_rng(0)
        clips = [looking.prepare(Item("", film.name, file=film)) for film in self.films(count)]
        for clip in clips:  # the films are one: each is seen in a light of its own
            by = np.uint8(light.integers(1, 9))
            for frame in clip.frames:
                frame //= by
        said: dict[int, list[str]] = {}
        for batch in BATCHES:
            looking._qwen._batches.size = batch
            said[batch] = [one.keys["text"] for one in looking.answer(clips) if isinstance(one, Answer)]
        looking.close()
        alone = said[BATCHES[0]]
        assert len(alone) == count
        return {
            "of": count,
            "same": {
                batch: sum(map(str.__eq__, alone, some)) / count for batch, some in said.items() if batch > 1
            },
        }


def read_by_opencv(film: Path, count: int, size: Any) -> list[Any]:
    """All grabbed, those that are wanted decoded: the faster of the two ways that people use."""
    import cv2

    video = cv2.VideoCapture(str(film))
    total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = {int((n + 0.5) * total / count) for n in range(count)}
    frames = []
    for number in range(total):
        video.grab()
        if number in wanted:
            _, frame = video.retrieve()
            width, height = size(frame.shape[1], frame.shape[0])
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return frames


def card(device: str) -> tuple[str, gpus.Gpu | None]:
    if device != "cuda":
        return "a small model on a CPU", None
    import torch

    name = torch.cuda.get_device_name()
    return name, gpus.find(name)


def measured(folder: Path, *, tiny: bool) -> Iterator[Figure]:
    import torch

    if tiny or torch.cuda.is_available():
        yield from Bench("cpu" if tiny else "cuda", folder).figures()
    else:
        yield Figure("Qwen2.5-VL-7B: all that needs a GPU", not_here("no GPU"))
    yield from alike.figures(folder / "alike")


def main(arguments: list[str]) -> int:
    if arguments[:1] in (["loop"], ["batches"]):
        what, device, folder = arguments
        print(json.dumps(getattr(Bench(device, Path(folder)), what)()))  # noqa: T201
        return 0
    if not find_spec("torch") or not find_spec("transformers"):
        print("vlm is not measured: pip install 'gpu-batch-worker[vlm]'")  # noqa: T201
        return 3
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        show("vlm", measured(Path(folder), tiny="--tiny" in arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
