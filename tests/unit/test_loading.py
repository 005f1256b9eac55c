"""Tiny models of the true architectures, loaded as large ones are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models

torch = pytest.importorskip("torch", exc_type=ImportError)
pytest.importorskip("transformers", reason="the extra vlm is not installed")

from worker.engines import attention, loading  # noqa: E402
from worker.engines.checkpoint import tree  # noqa: E402
from worker.engines.choice import Choice  # noqa: E402
from worker.engines.device import Device  # noqa: E402
from worker.engines.loading import Loaded, load  # noqa: E402
from worker.errors import MachineError, UsageError  # noqa: E402

SEEING, SPEAKING = "AutoModelForImageTextToText", "AutoModelForCausalLM"
MODELING = """
import torch
from transformers import PreTrainedModel
from .configuration_tiny import TinyConfig

class Tiny(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config, extra=0):
        super().__init__(config)
        self.extra = extra
        self.table = torch.nn.Linear(4, config.width)
        self.post_init()
"""
CONFIGURATION = """
from transformers import PreTrainedConfig

class TinyConfig(PreTrainedConfig):
    model_type = "tiny-of-its-own"

    def __init__(self, width=3, **others):
        super().__init__(**others)
        self.width = width
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this machine learns about itself in these tests: kernels are tried once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def at_home(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CACHE", str(cache))
    for name in ("WORKER_PRECISION", "WORKER_ATTENTION", "WORKER_ALLOW_CODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    below = tmp_path_factory.mktemp("models")
    made = {family: tiny_models.checkpoint(below / family, family) for family in tiny_models.FAMILIES}
    tiny_models.mistral().save_pretrained(below / "mistral")
    return {**made, "mistral": below / "mistral"}


@pytest.fixture
def copy(folders: Mapping[str, Path], tmp_path: Path) -> Path:
    """Of Qwen2.5-VL, to be damaged."""
    return shutil.copytree(folders["qwen2_5_vl"], tmp_path / "copy")


def opened(folder: Path, architectures: str = SEEING, **how: Any) -> Loaded:
    return load(Choice("qwen", folder.name, tree(folder), folder), "cpu", architectures=architectures, **how)


def change(folder: Path, change: Any) -> None:
    """Its tensors, by name."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def configure(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.mark.parametrize("name", [*tiny_models.FAMILIES, "mistral"])
def test_a_model_comes_as_it_was_saved_and_says_how(name: str, folders: Mapping[str, Path]) -> None:
    speaks = name == "mistral"
    loaded = opened(folders[name], SPEAKING if speaks else SEEING)
    made = tiny_models.mistral() if speaks else tiny_models.vision_language(name)
    for (key, one), (other_key, other) in zip(
        loaded.model.state_dict().items(), made.state_dict().items(), strict=True
    ):
        assert key == other_key
        assert torch.equal(one, other), key
    assert not loaded.model.training
    assert not any(one.requires_grad for one in loaded.model.parameters())
    about = loaded.about
    assert (about["precision"], about["precision_why"]) == ("fp32", "the default on a CPU")
    assert (about["attention"], about["quantisation"]) == ("sdpa", "none")
    assert about["devices"] == ["cpu (CPU)"]
    assert about["weights_gb"] == round((folders[name] / "model.safetensors").stat().st_size / 1e9, 3)
    json.dumps(dict(about))


@pytest.mark.parametrize(("wish", "kind"), [("fp16", "float16"), ("bf16", "bfloat16"), ("fp32", "float32")])
def test_a_person_may_choose_the_precision(
    wish: str, kind: str, folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_PRECISION", wish)
    loaded = opened(folders["qwen3_vl"])
    assert {one.dtype for one in loaded.model.parameters()} == {getattr(torch, kind)}
    assert (loaded.about["precision"], loaded.about["precision_why"]) == (wish, "asked for")


@pytest.mark.parametrize("wish", ["sdpa", "eager"])
def test_a_person_may_choose_the_attention(
    wish: str, folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_ATTENTION", wish)
    loaded = opened(folders["qwen2_5_vl"])
    assert loaded.about["attention"] == wish
    config = loaded.model.config
    parts = (config, config.text_config, config.vision_config)
    assert {one._attn_implementation for one in parts} == {wish}


@pytest.mark.parametrize("name", ["WORKER_PRECISION", "WORKER_ATTENTION"])
def test_a_wish_that_means_nothing_is_refused(
    name: str, folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "best")
    with pytest.raises(UsageError, match=f"{name}=best: it takes auto, "):
        opened(folders["mistral"], SPEAKING)


def test_where_no_kernel_works_the_plain_one_is_used(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "works", lambda one, *_: None if one == "eager" else "no kernel image")
    loaded = opened(folders["mistral"], SPEAKING)
    assert loaded.about["attention"] == "eager"
    assert "not sdpa: no kernel image" in loaded.about["attention_why"]
    assert loaded.model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


@pytest.mark.parametrize("name", tiny_models.FAMILIES)
def test_four_bits_leave_the_eyes_and_the_last_layer_whole(name: str, folders: Mapping[str, Path]) -> None:
    bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    loaded = opened(folders[name], quantise="nf4")
    small = {path for path, one in loaded.model.named_modules() if isinstance(one, bnb.nn.Linear4bit)}
    assert len(small) == 3 * 7, "of each layer: q, k, v, o, gate, up, down"
    assert all(path.startswith("model.language_model.layers.") for path in small)
    assert (loaded.about["quantisation"], loaded.about["quantisation_why"]) == ("nf4", "asked for")
    assert loaded.model(input_ids=torch.tensor([[1, 2, 3]])).logits.isfinite().all()


@pytest.mark.parametrize("name", tiny_models.FAMILIES)
@pytest.mark.parametrize(("how", "near"), [("fp16", 0.9999), ("bf16", 0.999), ("nf4", 0.97)])
def test_fewer_bits_say_nearly_the_same(
    name: str, how: str, near: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four bits of other makers: tests/unit/test_int4.py"""
    if how == "nf4":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    folder = tiny_models.checkpoint(tmp_path / "model", name, wide=0.04)

    def logits(loaded: Loaded) -> Any:
        with torch.inference_mode():
            return loaded.model(input_ids=torch.arange(24).view(2, 12)).logits.float().flatten()

    full = logits(opened(folder))
    if how != "nf4":
        monkeypatch.setenv("WORKER_PRECISION", how)
    few = logits(opened(folder, quantise="nf4" if how == "nf4" else "none"))
    assert near < torch.nn.functional.cosine_similarity(full, few, dim=0) < 1


def test_a_tied_weight_is_not_missing(tmp_path: Path) -> None:
    from transformers import Qwen3VLForConditionalGeneration

    config = tiny_models.config("qwen3_vl")
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = True
    Qwen3VLForConditionalGeneration(config).save_pretrained(tmp_path / "tied")
    model = opened(tmp_path / "tied").model
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_a_tensor_that_is_missing_is_an_error_that_names_it(copy: Path) -> None:
    def take_away(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if "layers.1" in name]:
            del tensors[name]

    change(copy, take_away)
    with pytest.raises(UsageError) as refused:
        opened(copy)
    said = str(refused.value)
    assert said.startswith(
        "copy does not fit its configuration: of its tensors 12 missing (model.language_mo"
    )
    assert "and 9 more)" in said
    assert "\n" not in said


def test_a_tensor_that_is_left_over_is_an_error(copy: Path) -> None:
    change(copy, lambda tensors: tensors.update({"model.layers.7.mlp.gate.weight": torch.zeros(2, 2)}))
    with pytest.raises(UsageError, match=r"1 left over \(model\..*layers\.7\.mlp\.gate\.weight\)"):
        opened(copy)


def test_a_tensor_of_another_shape_is_an_error(copy: Path) -> None:
    change(copy, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(5, 64)}))
    with pytest.raises(UsageError, match=r"1 of another shape \(lm_head\.weight\)"):
        opened(copy)


def test_numbers_that_overflow_in_half_precision_are_an_error(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(copy, lambda tensors: tensors["lm_head.weight"][3, 4].fill_(70_000))
    assert opened(copy).about["precision"] == "fp32"
    monkeypatch.setenv("WORKER_PRECISION", "fp16")
    with pytest.raises(UsageError, match=r"numbers of lm_head\.weight are too large for float16"):
        opened(copy)


def test_pickles_are_never_read(copy: Path) -> None:
    torch.save({}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="only as pickles"):
        opened(copy)


def test_a_model_of_an_unknown_type_is_refused(copy: Path) -> None:
    configure(copy, model_type="of-next-year")
    with pytest.raises(
        UsageError, match=r"of the type 'of-next-year', which transformers 5\.[\d.]+ does not"
    ):
        opened(copy)


def test_a_model_that_is_no_such_kind_is_refused(folders: Mapping[str, Path]) -> None:
    with pytest.raises(UsageError, match="of the type 'mistral', and so none of AutoModelForImageTextToText"):
        opened(folders["mistral"])


def small(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    device = Device("cpu", "a small one", bf16=True, free=free)
    monkeypatch.setattr(loading, "look", lambda _: iter([device]))


def test_a_device_that_is_too_small_is_told_before_loading(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, 1_000_000)
    with pytest.raises(MachineError, match=r"qwen3_vl in fp32 needs .* free are cpu \(a small one\) 0\.0 GB"):
        opened(folders["qwen3_vl"])


def test_memory_that_runs_out_while_loading_is_told_in_the_same_line(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …")

    monkeypatch.setattr(transformers.MistralForCausalLM, "from_pretrained", full)
    with pytest.raises(
        MachineError, match=r"mistral needs .* for its weights and some to work; free are cpu"
    ):
        opened(folders["mistral"], SPEAKING)


def test_a_machine_without_cards_says_so(folders: Mapping[str, Path]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    folder = folders["mistral"]
    with pytest.raises(MachineError, match="--device cuda: torch sees none here"):
        load(Choice("e", "mistral", "tree:", folder), "cuda", architectures=SPEAKING)


@pytest.fixture
def own_code(tmp_path: Path) -> Path:
    """A model that brings its code along."""
    from safetensors.torch import save_file

    folder = tmp_path / "own-code"
    folder.mkdir()
    (folder / "configuration_tiny.py").write_text(CONFIGURATION)
    (folder / "modeling_tiny.py").write_text(MODELING)
    where = {"AutoConfig": "configuration_tiny.TinyConfig", "AutoModel": "modeling_tiny.Tiny"}
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny-of-its-own", "auto_map": where}))
    tensors = {"table.weight": torch.ones(5, 4), "table.bias": torch.zeros(5)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_models_own_code_is_not_run_unless_allowed(own_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_code / "configuration_tiny.py").write_text("raise SystemExit('it ran')")
    named = f"own-code@{tree(own_code)}"
    with pytest.raises(MachineError, match=rf"\(configuration_tiny\.py, modeling_tiny\.py\).*{named}"):
        opened(own_code, "AutoModel")
    monkeypatch.setenv("WORKER_ALLOW_CODE", named)
    with pytest.raises(SystemExit, match="it ran"):
        opened(own_code, "AutoModel")


def test_code_that_was_allowed_is_no_longer_when_it_changes(
    own_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_ALLOW_CODE", f"own-code@{tree(own_code)}")
    loaded = opened(own_code, "AutoModel", settings={"width": 5, "extra": 7})
    assert loaded.trusted
    assert (loaded.model.config.width, loaded.model.extra) == (5, 7)
    assert torch.equal(loaded.model.table.weight, torch.ones(5, 4))
    assert (loaded.about["attention"], loaded.about["attention_why"]) == ("own", "its own code chooses")
    with (own_code / "modeling_tiny.py").open("a") as code:
        code.write("\nraise SystemExit('it ran')\n")
    with pytest.raises(MachineError, match="runs python code of its own"):
        opened(own_code, "AutoModel", settings={"width": 5})


def test_a_known_model_does_not_run_the_code_beside_it(copy: Path) -> None:
    configure(copy, auto_map={"AutoModelForImageTextToText": "modeling_bad.Bad"})
    (copy / "modeling_bad.py").write_text("raise SystemExit('it ran')")
    assert not opened(copy).trusted


def test_who_only_wants_to_know_how_loads_no_torch() -> None:
    heavy = "{'torch', 'transformers'} & {*sys.modules}"
    code = f"import sys, worker.engines.loading, worker.models; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_asked_of_the_network(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def connect(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert opened(folders["qwen3_vl"]).model


def test_nothing_is_fetched_whatever_a_person_set(own_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    from huggingface_hub import constants

    def connect(*_: object) -> None:
        asked.append("the network")
        raise OSError

    asked = list[str]()
    asks = MODELING.replace("self.post_init()", "hf_hub_download('owner/other', 'config.json')")
    (own_code / "modeling_tiny.py").write_text(f"from huggingface_hub import hf_hub_download{asks}")
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("WORKER_ALLOW_CODE", f"own-code@{tree(own_code)}")
    with pytest.raises(OSError, match="cannot find the requested files in the local cache"):
        opened(own_code, "AutoModel")
    assert asked == []


def test_code_is_copied_and_imported_by_one_process_at_a_time(
    own_code: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    from transformers import dynamic_module_utils

    def guarded(*arguments: Any, **how: Any) -> str:
        with (cache / "code.lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        copied.append(str(arguments[1]))
        return usual(*arguments, **how)

    (own_code / "modeling_tiny.py").write_text(f"{MODELING}\n# no test has imported this before")
    usual, copied = dynamic_module_utils.get_cached_module_file, list[str]()
    monkeypatch.setattr(dynamic_module_utils, "get_cached_module_file", guarded)
    monkeypatch.setenv("WORKER_ALLOW_CODE", f"own-code@{tree(own_code)}")
    opened(own_code, "AutoModel", settings={"width": 5})
    assert set(copied) == {"configuration_tiny.py", "modeling_tiny.py"}
