"""An adapter is merged to the bit as PEFT does it, in little memory, and goes on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import adapters
from tests.adapters import EVERYTHING
from tests.workers import ROOT
from worker.engines import weights
from worker.engines.choice import Choice
from worker.errors import ItemError, UnfitError
from worker.items import Item
from worker.merging.merge import Merge
from worker.merging.output import MANIFEST, Output
from worker.tasks.merge import Merge as MergeTask
from worker.tasks.merge import MergeParams

torch = pytest.importorskip("torch")
pytest.importorskip("peft", reason="peft is not installed")
pytest.importorskip("accelerate")

from safetensors.torch import load_file, save_file  # noqa: E402

KINDS: dict[str, dict[str, Any]] = {
    "language": {},
    "all, rslora": {"target_modules": EVERYTHING, "use_rslora": True},
    "patterns, last layer": {
        "modules_to_save": ["lm_head"],
        "alpha_pattern": {"q_proj": 5},
        "rank_pattern": {"v_proj": 2},
    },
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
}


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["float32", "bfloat16", "float16"])
def base(request: pytest.FixtureRequest, family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapters.base(tmp_path_factory.mktemp("base") / "it", family, request.param)


@pytest.fixture(scope="module")
def one_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapters.base(tmp_path_factory.mktemp("base") / "one", "qwen3_vl", "bfloat16")


@pytest.fixture(scope="module")
def one_adapter(one_base: Path) -> Path:
    return adapters.adapter(one_base.parent / "adapter", one_base)


def write(folder: Path, into: Path, alive: Callable[[], None] = lambda: None, base: str = "") -> Merge:
    merge = Merge.of(folder, base)
    merge.write(into, alive, lambda *_: None)
    return merge


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_pefts_own_merge_to_the_bit(base: Path, kind: str, tmp_path: Path) -> None:
    adapter = adapters.adapter(tmp_path / "adapter", base, **KINDS[kind])
    merge = write(adapter, tmp_path / "merged")
    assert len(merge.files) > 3
    before, wanted = adapters.loaded(base).state_dict(), adapters.merged_by_peft(base, adapter)
    found = adapters.loaded(tmp_path / "merged").state_dict()
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
    assert sum(not torch.equal(before[name], wanted[name]) for name in wanted) == len(merge.changes)


def test_a_base_of_one_file_whose_embedding_is_its_last_layer(tmp_path: Path) -> None:
    model = adapters.vision_language("qwen3_vl")
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "base")
    adapter = adapters.adapter(tmp_path / "adapter", tmp_path / "base")
    write(adapter, tmp_path / "merged")
    names = [one.name for one in weights.header(tmp_path / "merged" / "model.safetensors").tensors]
    assert not any("lm_head" in name for name in names)
    wanted = adapters.merged_by_peft(tmp_path / "base", adapter)
    found = adapters.loaded(tmp_path / "merged").state_dict()
    assert all(torch.equal(found[name], one) for name, one in wanted.items())
    for targets in (["embed_tokens"], ["lm_head"]):
        tied = adapters.adapter(tmp_path / targets[0], tmp_path / "base", target_modules=targets)
        with pytest.raises(ItemError, match="are one tensor"):
            Merge.of(tied, "")


def test_the_merged_folder_is_taken_for_a_model(one_adapter: Path, tmp_path: Path) -> None:
    from worker.engines.loading import load

    write(one_adapter, tmp_path / "merged")
    choice = Choice("qwen", "merged", file=tmp_path / "merged")
    assert load(choice, "cpu", architectures="AutoModelForImageTextToText").about["quantisation"] == "none"


KILLED = """
import os, signal, sys
from pathlib import Path
from worker.merging.merge import Merge
left = int(sys.argv[3])
def alive():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
Merge.of(Path(sys.argv[1]), "").write(Path(sys.argv[2]), alive, lambda *_: None)
"""


def test_killed_it_goes_on_and_the_result_is_the_same_bytes(
    one_adapter: Path, one_base: Path, tmp_path: Path
) -> None:
    signs: list[None] = []
    write(one_adapter, tmp_path / "undisturbed", lambda: signs.append(None))
    into, whole = tmp_path / "merged", []
    for after in (len(signs) // 4, len(signs) * 2 // 3):
        command = [sys.executable, "-c", KILLED, str(one_adapter), str(into), str(after)]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
        assert not (into / "config.json").exists()  # nobody takes it for a model
        whole.append({one.name: one.stat().st_ino for one in into.glob("*.safetensors")})
    assert len(whole[0]) < len(whole[1])
    damaged = into / min(whole[1])
    with damaged.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read()
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    write(one_adapter, into)
    kept = {one.name: one.stat().st_ino for one in into.glob("*.safetensors")}
    assert [name for name, inode in whole[1].items() if kept[name] != inode] == [damaged.name]
    wanted = {one.name: one.read_bytes() for one in (tmp_path / "undisturbed").iterdir()}
    assert {one.name: one.read_bytes() for one in into.iterdir()} == wanted
    assert set(wanted) >= {one.name for one in one_base.iterdir()}


def changed(adapter: Path, folder: Path, **told: Any) -> Path:
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    config = json.loads((adapter / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **told}))
    return folder


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"lora_bias": True}, "biases"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"something_new": {"a": 1}}, "something_new"),
        ({"peft_type": "LOHA"}, "no LoRA"),
        ({"r": 0}, "one is not its own"),
        ({"rank_pattern": {"(": 2}}, "not as PEFT writes it"),
        ({"init_lora_weights": ["gaussian"]}, "gaussian"),
        ({"base_model_name_or_path": 5}, "is no text"),
        ({"base_model_name_or_path": None}, "names no base"),
        ({"base_model_name_or_path": "nobody/has-it"}, "hf download nobody/has-it"),
    ],
)
def test_what_is_no_plain_lora_is_refused(
    told: dict[str, Any], why: str, one_adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(ItemError, match=why):
        Merge.of(changed(one_adapter, tmp_path / "a", **told), "")


def _without(tensors: dict[str, Any], name: str) -> None:
    del tensors[name]


def _elsewhere(tensors: dict[str, Any], name: str) -> None:
    for part in ("A", "B"):
        one = name.replace("lora_A", f"lora_{part}")
        tensors[one.replace("layers.0", "layers.9")] = tensors.pop(one)


def _wider(tensors: dict[str, Any], name: str) -> None:
    tensors[name] = torch.ones(4, 128)


def _ranked(tensors: dict[str, Any], name: str) -> None:
    for part, shape in (("A", (2, 64)), ("B", (64, 2))):
        tensors[name.replace("lora_A", f"lora_{part}")] = torch.ones(shape)


def _folded(tensors: dict[str, Any], name: str) -> None:
    for part in ("A", "B"):
        tensors[name.replace("lora_A", f"lora_{part}")] = torch.ones(4, 4, 2, 2, 2)


def _endless(tensors: dict[str, Any], name: str) -> None:
    tensors[name][0, 0] = float("inf")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (_without, "no whole LoRA"),
        (_elsewhere, "have no place in the base"),
        (_wider, "do not fit the base"),
        (_ranked, "the rank is 2, and adapter_config.json says 4"),
        (_folded, "is a convolution"),
        (_endless, "too large"),
    ],
)
def test_tensors_that_are_missing_left_over_or_wrong_are_refused(
    harm: Callable[[dict[str, Any], str], None], why: str, one_adapter: Path, tmp_path: Path
) -> None:
    folder = changed(one_adapter, tmp_path / "a")
    tensors = load_file(folder / "adapter_model.safetensors")
    harm(tensors, min(name for name in tensors if "layers.0" in name and "q_proj.lora_A" in name))
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(ItemError, match=why):
        write(folder, tmp_path / "merged")
    assert not (tmp_path / "merged" / "config.json").exists()


def test_a_damaged_adapter_is_the_failure_of_its_item_alone(one_adapter: Path, tmp_path: Path) -> None:
    file = changed(one_adapter, tmp_path / "a") / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    nothing: Any = None
    with pytest.raises(ItemError, match="is cut short"):
        MergeTask(MergeParams(into="merged")).run(Item("1", file.name, file=file), nothing, nothing)


def test_a_base_of_four_bits_is_refused(one_base: Path, one_adapter: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    for file in one_base.iterdir():
        (small / file.name).symlink_to(file)
    told = json.loads((one_base / "config.json").read_text())
    (small / "config.json").unlink()
    (small / "config.json").write_text(
        json.dumps({**told, "quantization_config": {"quant_method": "bitsandbytes"}})
    )
    with pytest.raises(ItemError, match="full-precision"):
        Merge.of(one_adapter, str(small))


def test_another_merge_or_anything_else_is_not_written_over(
    one_base: Path, one_adapter: Path, tmp_path: Path
) -> None:
    into = tmp_path / "merged"
    write(one_adapter, into)
    with pytest.raises(ItemError, match="another base or adapter"):
        write(adapters.adapter(tmp_path / "other", one_base, seed=2), into)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ItemError, match="is not empty"):
        write(one_adapter, tmp_path / "mine")
    for place in (one_base, one_base / "merged", one_adapter):
        with pytest.raises(ItemError, match="the adapter itself, or in the base"):
            write(one_adapter, place)
    assert not (one_base / "merged").exists()


def test_of_two_merges_that_begin_at_once_only_one_goes_on(
    one_base: Path, one_adapter: Path, tmp_path: Path
) -> None:
    into, other = tmp_path / "merged", adapters.adapter(tmp_path / "other", one_base, seed=2)
    early = Output.open(into, Merge.of(one_adapter, "").made_of, lambda: None)
    (into / MANIFEST).unlink()  # neither sees the other's
    late = Output.open(into, Merge.of(other, "").made_of, lambda: None)
    with pytest.raises(ItemError, match="another base or adapter"):
        early.write("model.safetensors", [b"early"])
    late.write("model.safetensors", [b"late"])
    with pytest.raises(ItemError, match="another base or adapter"):
        Output.open(into, early.made_of, lambda: None)
    assert (into / "model.safetensors").read_bytes() == b"late"


def test_a_full_disk_is_told_before_anything_is_written(
    one_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(UnfitError, match="are still to be written"):
        write(one_adapter, tmp_path / "merged")
    assert not list((tmp_path / "merged").glob("*.safetensors"))


PEAK = """
import re, sys
from pathlib import Path
import torch
from worker.merging.merge import Merge
def high(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
torch.zeros(64, 64) @ torch.zeros(64, 64)
before = high("VmRSS")
Merge.of(Path(sys.argv[1]), "").write(Path(sys.argv[2]), lambda: None, lambda *_: None)
print(high("VmHWM") - before)
"""


@pytest.mark.parametrize(("shards", "megabytes", "tensors_each"), [(5, 24, 4), (2, 48, 1)])
def test_its_memory_is_bounded_by_a_file_whatever_the_models_size(
    shards: int, megabytes: int, tensors_each: int, tmp_path: Path
) -> None:
    largest = adapters.synthetic(
        tmp_path / "base", tmp_path / "adapter", shards, megabytes, tensors_each=tensors_each
    )
    command = [sys.executable, "-c", PEAK, str(tmp_path / "adapter"), str(tmp_path / "merged")]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert int(said) < 3 * largest
