"""Labelled boards to scores, as docs/pcb.md says to type it: with a small model, each step killed once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import tiny_models
from tests.workers import PATIENCE_S, ROOT, Worker, end_all, eventually, finish, worker
from worker.boards import demo
from worker.engines import checkpoint
from worker.jobs.checkpoints import hash_file
from worker.queue import layout

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytest.importorskip("peft", reason="peft is not installed: the inspector is not trained")

COMPRESSES = find_spec("llmcompressor") is not None
WHY_NOT = (
    "llm-compressor is not installed: it has an environment of its own. What was merged inspects instead"
)
LONG_S = 5 * PATIENCE_S
PAGE = (ROOT / "docs" / "pcb.md").read_text()
HELD_OUT = "PCBData/group00001"
SMALLER = {
    "pcb-convert": "--set held_out=0.4",
    "quantise": "--set group=32 --set samples=4 --set held_out=2",
    "pcb-inspect": "--set max_tokens=48",
}
"""what six boards and a model of a megabyte need besides"""


class Chain:
    """The page's lines, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.instead: Mapping[str, str] = {}
        """of what a line names"""
        block = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
        assert block
        self._lines = block[1].replace("/data/", f"{folder}/data/").replace("--gpus 0 ", "").splitlines()

    def words(self, step: str) -> list[str]:
        """What follows `worker`, as the shell hands it over."""
        (line,) = [one for one in self._lines if f"worker {step} " in one or f"--task {step} " in one]
        line = re.sub(r"(PCBData/group\d+ ?)+", HELD_OUT, line).partition("worker ")[2]
        line = line.replace(f"--task {step}", f"--task {step} {SMALLER.get(step, '')}")
        for named, other in self.instead.items():
            line = line.replace(named, other)
        known = [one for one in self._lines if one.startswith("boards=")]
        shown = ["bash", "-c", "\n".join([*known, f"printf '%s\\0' {line}"])]
        told = subprocess.run(shown, cwd=self.folder, capture_output=True, check=True, text=True)
        return told.stdout.split("\0")[:-1]

    def start(self, step: str) -> Worker:
        return worker(*self.words(step), cwd=self.folder, env={"WORKER_TTL": "1s"})

    def killed_and_typed_again(self, step: str, sign: Callable[[Path], object]) -> str:
        """`sign`: of its queue, that it is time to die. What the second one said."""
        queue = self.folder / self.words(step)[1]
        one = self.start(step)
        eventually(lambda: one.poll() is not None or sign(queue), LONG_S)
        one.signal_all(signal.SIGKILL)
        assert one.wait() in (-signal.SIGKILL, 0), one.said  # 0: it was quicker than we
        assert begun(queue)
        code, said = finish(self.start(step), LONG_S)
        assert code == 0, said
        return said

    def answers(self, out: str) -> list[Mapping[str, Any]]:
        document = json.loads((self.folder / out / "final_results.json").read_text())
        found: list[Mapping[str, Any]] = document["results"]
        return found

    def the(self, pattern: str) -> Path:
        (found,) = self.folder.glob(pattern)
        return found


def begun(queue: Path) -> bool:
    return any((queue / "claims").glob("*/*.json"))


def saved(queue: Path) -> bool:
    names = (file.relative_to(queue).as_posix() for file in (queue / "jobs").rglob("*"))
    return any(layout.checkpoint_of(one) for one in names)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    demo.make(folder / "PCBData")
    # about the spread of a real one's weights, so that four bits leave the logits alike
    model = tiny_models.vision_language("qwen3_vl", wide=0.03)
    model.save_pretrained(folder / "base", max_shard_size="200KB")
    tiny_models.tokenizer().save_pretrained(folder / "base")
    tiny_models.normalisation(folder / "base", "qwen3_vl")
    told = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
    told["model"]["name"] = "base"
    told["training"] |= {"max_steps": 12, "gradient_accumulation_steps": 1, "save_steps": 1}
    told["validation"] = {"boards": 2, "max_tokens": 12}
    told["monitor"]["all_freq"]["eval_log_freq"] = 12
    (folder / "config.yaml").write_text(yaml.safe_dump(told))
    yield Chain(folder)
    end_all()


@pytest.fixture(scope="module")
def converted(chain: Chain) -> Path:
    chain.killed_and_typed_again("pcb-convert", begun)
    return chain.the("run/converted/files/trainval.txt-*")


@pytest.fixture(scope="module")
def trained(chain: Chain, converted: Path) -> Path:
    assert converted
    said = chain.killed_and_typed_again("pcb-train", saved)
    assert "going on from step" in said
    return chain.the("run/trained/files/config.yaml-*")


@pytest.fixture(scope="module")
def merged(chain: Chain, trained: Path) -> Path:
    assert trained
    into = chain.folder / "data" / "merged"
    chain.killed_and_typed_again("merge", lambda _: [*into.glob("*.safetensors")])
    return into


@pytest.fixture(scope="module")
def quantised(chain: Chain, merged: Path) -> Path:
    assert merged
    into = chain.folder / "data" / "ours"
    chain.killed_and_typed_again("quantise", lambda _: (into.parent / "ours.part").exists())
    return into


def test_boards_are_converted(chain: Chain, converted: Path) -> None:
    (answer,) = chain.answers("run/converted")
    assert [HELD_OUT.removeprefix("PCBData/group")] == answer["held_out"]
    assert not answer["odd"]
    lines = {name: (converted / f"{name}.jsonl").read_text().splitlines() for name in ("train", "val")}
    assert {name: len(one) for name, one in lines.items()} == {"train": 8, "val": 4}


def test_the_adapter_names_what_it_was_trained_beside(chain: Chain, trained: Path) -> None:
    (answer,) = chain.answers("run/trained")
    assert (answer["status"], answer["steps"], answer["method"]) == ("ok", 12, "qlora")
    told = json.loads((trained / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str(chain.folder / "base")


def test_what_was_trained_is_merged(chain: Chain, trained: Path, merged: Path) -> None:
    (answer,) = chain.answers("run/merge-results")
    assert answer["changed"] == 21  # seven matrices in each of three layers
    told = json.loads((merged / "merged.json").read_text())["made_of"]
    assert told["base"]["revision"] == checkpoint.tree(chain.folder / "base")
    weights = "adapter_model.safetensors"
    assert told["adapter"][weights] == hash_file(trained / weights).sha256
    assert {one.name for one in checkpoint.files(merged)} == {
        one.name for one in checkpoint.files(chain.folder / "base")
    }


@pytest.mark.skipif(not COMPRESSES, reason=WHY_NOT)
def test_what_was_merged_is_made_small(chain: Chain, merged: Path, request: pytest.FixtureRequest) -> None:
    into: Path = request.getfixturevalue("quantised")
    told = json.loads((into / "quantised.json").read_text())
    assert told["merged"] == checkpoint.tree(merged)
    assert told["verdict"]["cosine"] > 0.97
    (answer,) = chain.answers("run/quantise-results")
    assert answer["input"].endswith("merged.json")
    assert [one.name for one in into.parent.iterdir() if one.name.startswith("ours")] == ["ours"]


def test_what_came_out_inspects_boards_and_is_scored(
    chain: Chain, merged: Path, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue("quantised") if COMPRESSES else merged
    chain.instead = {"data/ours": str(model.relative_to(chain.folder))}
    chain.killed_and_typed_again("pcb-inspect", begun)
    found = chain.answers("run/inspected")
    assert [(one["role"], one["status"]) for one in found] == [("template", "ok"), ("board", "ok")] * 2
    recipe = json.loads((chain.folder / "run/inspect/run.json").read_text())["recipe"]
    assert recipe["revision"] == checkpoint.tree(model)
    scores = subprocess.run(
        [sys.executable, "-m", "worker", *chain.words("evaluate"), "--json"],
        cwd=chain.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    told = json.loads(scores.stdout)
    assert (told["boards"], told["deeppcb"]["labelled"], len(told["missing"])) == (2, 12, 4)
