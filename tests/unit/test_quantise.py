"""A model is made small by what is installed, and by tools that err: those are found out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import board_chats, board_lessons, tiny_models
from worker.boards import asking, conversion, prompt
from worker.boards.coordinates import Coordinates
from worker.boards.defect import Box, Defect
from worker.engines.choice import Choice
from worker.errors import ItemError, UnfitError
from worker.quantising import copies, watching
from worker.quantising.samples import Reader, Sample, read
from worker.quantising.work import REPORT, Quantisation
from worker.tasks.quantise import QuantiseParams

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

WIDE = 0.03
"""spread of the weights: about that of a real model's, where four bits leave the logits alike"""


@pytest.fixture(scope="module", params=tiny_models.FAMILIES)
def merged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.checkpoint(tmp_path_factory.mktemp("m") / "merged", request.param, wide=WIDE)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.checkpoint(tmp_path_factory.mktemp("m") / "merged", "qwen3_vl", wide=WIDE)


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return board_chats.write(tmp_path_factory.mktemp("chats"))


def work(merged: Path, chats: Path, into: Path, **changed: Any) -> Quantisation:
    told = Quantisation(merged, into, chats, chats.parent, None, 8, 4, 32, 0.97, "cpu")
    return replace(told, **changed)


def run(one: Quantisation, tool: Any, saved: Callable[[], None] = lambda: None) -> dict[str, Any]:
    return one.run(tool, lambda *_: None, lambda: None, saved)


def plainly(model: Any, _: Any, into: Path, samples: list[Any], group: int, *__: Any) -> None:
    """Each matrix of the language model rounded to the nearest of 16 levels, and kept as it was stored."""
    assert samples
    rounded(model, group)
    model.save_pretrained(into)


def rounded(model: Any, group: int) -> None:
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and "language_model" in name:
                rows = module.weight.view(-1, group)
                low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
                step = ((high - low) / 15).clamp(min=1e-8)
                rows.copy_(((rows - low) / step).round() * step + low)


def aliased(model: Any, tokenizer: Any, into: Path, samples: list[Any], group: int, *_: Any) -> None:
    """What was to be restored had been changed with it: each trial of a scale stays in the weights."""
    with torch.no_grad():
        for module in model.model.language_model.layers[1].modules():
            if isinstance(module, torch.nn.Linear):
                restored = module.weight.data.cpu()  # no copy, on a CPU
                for _ in range(3):
                    module.weight.mul_(torch.linspace(0.5, 2, module.in_features))
                    module.weight.copy_(restored)
    plainly(model, tokenizer, into, samples, group)


def seeing(model: Any, tokenizer: Any, into: Path, samples: list[Any], group: int, *_: Any) -> None:
    """A list of what to skip that says "visual", where the library looks for "model.visual"."""
    with torch.no_grad():
        module = model.model.visual.blocks[0].attn.qkv
        module.weight.copy_((module.weight * 256).round() / 256)
    plainly(model, tokenizer, into, samples, group)


def forgetful(model: Any, tokenizer: Any, into: Path, samples: list[Any], group: int, *_: Any) -> None:
    from safetensors.torch import load_file, save_file

    plainly(model, tokenizer, into, samples, group)
    tensors = load_file(into / "model.safetensors")
    del tensors[next(name for name in tensors if "layers.1.mlp.up_proj" in name)]
    save_file(tensors, into / "model.safetensors", {"format": "pt"})


def test_what_passes_the_gate_has_its_name_and_its_figures(merged: Path, chats: Path, tmp_path: Path) -> None:
    told = run(work(merged, chats, tmp_path / "small"), plainly)
    assert 0.97 < told["verdict"]["cosine"] < 0.9999
    assert told["verdict"]["samples"] == 4
    assert json.loads((tmp_path / "small" / REPORT).read_text()) == told
    assert (tmp_path / "small" / "tokenizer.json").read_bytes() == (merged / "tokenizer.json").read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize(
    ("tool", "kind", "why"),
    [
        (aliased, "worse", r"cosine of 0\.\d+ .* 0.97 is the least .* 4 samples"),
        (seeing, "damaged", "visual.blocks.0.attn.qkv.* has other numbers"),
        (forgetful, "damaged", "1 missing .*up_proj"),
    ],
)
def test_a_tool_that_damages_weights_is_found_out(
    tool: Any, kind: str, why: str, one: Path, chats: Path, tmp_path: Path
) -> None:
    with pytest.raises(ItemError, match=why) as raised:
        run(work(one, chats, tmp_path / "small"), tool)
    assert raised.value.kind == kind
    assert "kept as small.rejected" in raised.value.message
    assert [one.name for one in tmp_path.iterdir()] == ["small.rejected"]


class KilledError(BaseException):
    pass


def killed(*_: Any) -> None:
    raise KilledError


def test_killed_in_the_tool_it_begins_anew_and_after_it_goes_on(
    one: Path, chats: Path, tmp_path: Path
) -> None:
    quantisation, runs = work(one, chats, tmp_path / "small"), []

    def tool(model: Any, tokenizer: Any, into: Path, *rest: Any) -> None:
        runs.append(sorted(one.name for one in into.iterdir()))
        (into / "half").touch()
        if len(runs) == 1:
            raise KilledError
        (into / "half").unlink()
        plainly(model, tokenizer, into, *rest)

    with pytest.raises(KilledError):
        run(quantisation, tool)
    with pytest.raises(KilledError):
        run(quantisation, tool, saved=killed)
    assert not (tmp_path / "small").exists()
    told = run(quantisation, tool)
    assert runs == [[".quantising"]] * 2
    assert run(quantisation, killed) == told  # killed before it could answer: all is there


def test_other_folders_are_left_alone(one: Path, chats: Path, tmp_path: Path) -> None:
    for name in ("small", "other.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    with pytest.raises(ItemError, match="not empty"):
        run(work(one, chats, tmp_path / "small"), plainly)
    with pytest.raises(ItemError, match="in the way"):
        run(work(one, chats, tmp_path / "other"), plainly)
    assert (tmp_path / "other.part" / "mine").exists()


def test_what_passed_a_lower_gate_does_not_pass_a_higher_one(one: Path, chats: Path, tmp_path: Path) -> None:
    told = run(work(one, chats, tmp_path / "small", least=-1), plainly)
    assert run(work(one, chats, tmp_path / "small", least=0.9), killed) == told
    with pytest.raises(ItemError, match="not empty"):
        run(work(one, chats, tmp_path / "small", least=0.9999), killed)


def test_nothing_is_written_into_the_model_itself(one: Path, chats: Path) -> None:
    with pytest.raises(ItemError, match="beside it"):
        run(work(one, chats, one / "small"), killed)


def test_a_last_layer_that_is_the_embedding_need_not_be_stored_twice(
    one: Path, chats: Path, tmp_path: Path
) -> None:
    from shutil import copytree

    from safetensors.torch import load_file, save_file

    twice = copytree(one, tmp_path / "twice")
    told = json.loads((twice / "config.json").read_text())
    told["tie_word_embeddings"] = told["text_config"]["tie_word_embeddings"] = True
    (twice / "config.json").write_text(json.dumps(told))
    tensors = load_file(twice / "model.safetensors")
    tensors["lm_head.weight"] = tensors[next(name for name in tensors if "embed_tokens" in name)].clone()
    save_file(tensors, twice / "model.safetensors", {"format": "pt"})
    run(work(twice, chats, tmp_path / "small"), plainly)
    assert "lm_head.weight" not in load_file(tmp_path / "small" / "model.safetensors")


def test_a_full_disk_is_told_first(
    one: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(UnfitError, match="are free"):
        run(work(one, chats, tmp_path / "small"), killed)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("nonsense", "line 1 is no chat sample"),
        ('{"messages": [{"role": "user", "content": "?"}]}', "does not end with an answer"),
        (
            '{"messages": [{"role": "user", "content": [{"type": "image", "image": "../../x.jpg"}]}]}',
            "leads out of its folder",
        ),
        (
            '{"messages": [{"content": [{"type": "image", "image": "x.jpg"}], "role": "assistant"}]}',
            "x.jpg is not there",
        ),
        ("", "has no samples"),
    ],
)
def test_samples_that_are_none_are_refused(line: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(f"{line}\n")
    with pytest.raises(ItemError, match=why):
        read(tmp_path / "train.jsonl", tmp_path, 4)


def test_pictures_are_shown_as_inspection_shows_them(merged: Path, chats: Path) -> None:
    """Of the size that the model's own processor gives them."""
    reader = Reader.of(merged)
    (sample,) = read(chats, chats.parent, 1)
    picture = asking.opened(sample.pictures[0])
    grid = reader.sight.grid(1, *reader.sight.resizing.of(*picture.size))
    assert reader.inputs(sample)[0]["image_grid_thw"].tolist() == [list(grid)]
    (chats.parent / "cut.jpg").write_bytes(sample.pictures[0].read_bytes()[:99])
    with pytest.raises(ItemError, match=r"cut\.jpg is no picture"):
        reader.inputs(Sample(sample.messages, [chats.parent / "cut.jpg"]))


def test_held_out_samples_are_not_calibrated_with(one: Path, chats: Path, tmp_path: Path) -> None:
    calibrate, kept = work(one, chats, tmp_path / "small")._drawn
    assert (len(calibrate), len(kept)) == (8, 4)
    assert not {one.pictures[0] for one in calibrate} & {one.pictures[0] for one in kept}
    with pytest.raises(ItemError, match="take more"):
        _ = work(one, chats, tmp_path / "small", held_out=12)._drawn


def test_of_a_sample_the_answer_is_what_the_model_would_have_to_say(merged: Path, chats: Path) -> None:
    (sample,) = read(chats, chats.parent, 1)
    reader = Reader.of(merged)
    inputs, answer = reader.inputs(sample)
    text = sample.messages[-1]["content"][0]["text"]
    assert reader.tokenizer.decode(inputs["input_ids"][0, -answer:]).startswith(text)
    cells = int(inputs["mm_token_type_ids"].sum())
    assert cells == (inputs["image_grid_thw"].prod() // 4)
    two = Sample([*sample.messages[:1], *sample.messages], [*sample.pictures] * 2)
    assert int(reader.inputs(two)[0]["mm_token_type_ids"].sum()) == 2 * cells


@pytest.fixture
def _no_bars(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A log is no screen; transformers' own, of loading and of saving, come once."""
    from tqdm import tqdm

    seen: list[str] = []
    monkeypatch.setattr(tqdm, "display", lambda self, *_, **__: seen.append(str(self.desc)))
    yield
    assert {one for one in seen if one not in ("Loading weights", "Writing model shards")} == set()


@pytest.mark.usefixtures("_no_bars")
def test_llm_compressor_itself(merged: Path, chats: Path, tmp_path: Path) -> None:
    pytest.importorskip("llmcompressor", reason="llm-compressor is not installed: make test-quantise")
    from worker.quantising import compressor

    config, kept = made_by(compressor, work(merged, chats, tmp_path / "small"))
    assert (config["format"], kept) == ("pack-quantized", "compressed-tensors")


@pytest.mark.usefixtures("_no_bars")
def test_autoawq_itself(merged: Path, chats: Path, tmp_path: Path) -> None:
    pytest.importorskip("awq", reason="AutoAWQ is not installed: make test-quantise")
    from worker.quantising import autoawq

    config, kept = made_by(autoawq, work(merged, chats, tmp_path / "small", by="autoawq"))
    assert (config["version"], kept) == ("gemm", "awq")


def made_by(tool: Any, by: Quantisation) -> tuple[dict[str, Any], Any]:
    """Good enough, read by our own loading, and said how far it was on its way."""
    from worker.engines.loading import load

    tool.require()
    layers: list[tuple[int, int]] = []
    told = by.run(tool.quantise, lambda *reached: layers.append(reached), lambda: None, lambda: None)
    assert told["verdict"]["cosine"] > 0.98
    assert (layers, {of for _, of in layers}) == (sorted(layers), {3})
    found = load(Choice("qwen", "small", file=by.into), "cpu", architectures="AutoModelForImageTextToText")
    config = json.loads((by.into / "config.json").read_text())["quantization_config"]
    return config, found.about["quantisation"]


def test_autoawq_searches_with_what_comes_to_each_layer_in_the_model(merged: Path, chats: Path) -> None:
    pytest.importorskip("awq", reason="AutoAWQ is not installed: make test-quantise")
    from transformers import AutoModelForImageTextToText

    from worker.quantising import autoawq

    model = AutoModelForImageTextToText.from_pretrained(merged)
    layers, reader = model.model.language_model.layers, Reader.of(merged)
    two = [
        Sample([*one.messages[:1], *one.messages], [*one.pictures] * 2) if number else one
        for number, one in enumerate(read(chats, chats.parent, 2))
    ]
    samples = [reader.inputs(one)[0] for one in two]
    assert len({one["input_ids"].shape[1] for one in samples}) == 2, "of unequal length"
    came: list[list[Any]] = [[] for _ in layers]
    for layer, found in zip(layers, came, strict=True):
        layer.register_forward_pre_hook(lambda _, rows, found=found: found.append(rows[0]))
    with torch.no_grad():
        for one in samples:
            model(**one)
        true = [torch.cat(found, 1) for found in came]
        searching = autoawq.search(model, None, samples, 32)
        for layer, rows in zip(layers, true, strict=True):
            assert torch.allclose(searching.inps, rows, atol=1e-5)
            found = searching._get_input_feat(layer, {"mlp.up_proj": layer.mlp.up_proj})
            assert found["mlp.up_proj"].shape == rows.shape


def test_how_far_a_tool_is_the_layers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    from tqdm import tqdm

    monkeypatch.setattr(watching, "_SIGN_S", 0.0)
    layers, reached = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3)), []
    with watching.watched(layers, lambda *told: reached.append(told)):
        for layer in (*layers, layers[0]):  # the last is looked at again
            layer(torch.zeros(2))
        assert tqdm([1]).disable
    layers[1](torch.zeros(2))
    assert reached == [(0, 3), (1, 3), (2, 3), (2, 3)]
    assert not tqdm([1], leave=False).disable


def test_what_is_kept_for_later_is_not_what_becomes_of_it() -> None:
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    with copies.kept(layer), torch.no_grad():
        state = layer.state_dict()
        layer.weight.mul_(2)
    layer.load_state_dict(state)
    assert torch.equal(layer.weight, before)
    assert layer.state_dict()["weight"].data_ptr() == layer.weight.data_ptr()


def test_a_tool_that_nobody_knows_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="'llm-compressor' or 'autoawq'"):
        QuantiseParams(into="small", calibration="train.jsonl", pictures=".", tool="gptq")


def test_a_tool_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.quantising import autoawq, compressor

    for tool, remedy in ((compressor, "make setup TARGET=quantise"), (autoawq, "-r env/locks/autoawq.txt")):
        monkeypatch.setattr(tool, "find_spec", lambda _: None)
        with pytest.raises(UnfitError, match=remedy):
            tool.require()


@pytest.fixture(scope="module")
def inspecting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that finds the same gap on every board, beside boards that have it."""
    folder = tmp_path_factory.mktemp("inspecting")
    gap = [Defect("open", Box(20, 30, 50, 70))]
    shown = [replace(one, defects=gap) for one in board_lessons.draw(folder / "boards", range(4), 128, 0)]
    for name, some in (("train", shown[:4]), ("val", shown[4:])):
        (folder / f"{name}.jsonl").write_bytes(conversion.chat(some, "qwen3-vl", "en"))
    answer = prompt.answer(gap, Coordinates("qwen3-vl", 128, 128))
    tiny_models.checkpoint(folder / "merged", "qwen3_vl", says=answer)
    return folder


def asked(inspecting: Path, into: Path) -> Quantisation:
    return Quantisation(
        inspecting / "merged",
        into,
        inspecting / "train.jsonl",
        inspecting / "boards",
        inspecting / "val.jsonl",
        4,
        4,
        32,
        -1,
        "cpu",
        boards=3,
        may_lose=0.02,
    )


def silenced(model: Any, tokenizer: Any, into: Path, *rest: Any) -> None:
    """It ends before it says anything."""
    with torch.no_grad():
        model.model.language_model.norm.weight.neg_()
    plainly(model, tokenizer, into, *rest)


def test_what_is_asked_about_boards_and_finds_as_much_passes(inspecting: Path, tmp_path: Path) -> None:
    told = run(asked(inspecting, tmp_path / "small"), plainly)["verdict"]
    assert (told["f1_merged"], told["f1"], told["boards"]) == (1.0, 1.0, 3)
    assert run(asked(inspecting, tmp_path / "small"), killed)["verdict"] == told


def test_what_was_asked_about_no_boards_does_not_pass_a_gate_that_asks(
    inspecting: Path, tmp_path: Path
) -> None:
    wanted = asked(inspecting, tmp_path / "small")
    run(replace(wanted, boards=0), plainly)
    with pytest.raises(ItemError, match="not empty"):
        run(wanted, killed)


def test_what_finds_less_is_rejected_with_both_figures(inspecting: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ItemError, match=r"3 boards its F is 0.0%, and that of the merged model 100.0%"
    ) as one:
        run(asked(inspecting, tmp_path / "small"), silenced)
    assert one.value.kind == "worse"
    told = json.loads((tmp_path / "small.rejected" / REPORT).read_text())["verdict"]
    assert (told["f1_merged"], told["f1"]) == (1.0, 0.0)


def test_boards_that_were_calibrated_with_are_not_asked_about(inspecting: Path, tmp_path: Path) -> None:
    with pytest.raises(ItemError, match="validation="):
        run(replace(asked(inspecting, tmp_path / "small"), validation=None, samples=2, held_out=2), killed)
