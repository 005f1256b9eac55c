"""An inspector is shown boards as it is asked about them, and learns from answers alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import board_lessons, tiny_models
from worker.boards import prompt, reading
from worker.boards.asking import question
from worker.boards.coordinates import Coordinates
from worker.boards.defect import Box, Defect
from worker.engines.device import Device
from worker.engines.qwen_prompt import read_pictures
from worker.engines.qwen_sight import NAMES
from worker.errors import ItemError, UnfitError
from worker.inspector import room, samples, settings, verdict
from worker.inspector.asking import ASKED, Asker, chosen
from worker.inspector.course import BEST_BY, each, loss, measure, score
from worker.inspector.reading import IGNORED, Reader
from worker.inspector.samples import Sample, Samples, Shown, shown
from worker.items import Item
from worker.planning import known
from worker.planning.memory import Lesson
from worker.planning.seconds import Seen
from worker.tasks.pcb_train import PcbTrain, PcbTrainParams
from worker.training.course import Tried
from worker.training.fitting import Amount
from worker.training.settings import read as read_settings
from worker.training.world import World

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

both = pytest.mark.parametrize("family", tiny_models.FAMILIES)
LABELLED = [Defect("open", Box(10, 20, 40, 60)), Defect("spur", Box(70, 10, 100, 40))]


@pytest.fixture(scope="module", params=tiny_models.FAMILIES)
def lesson(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return board_lessons.write(tmp_path_factory.mktemp("lesson"), request.param, boards=2, side=112).parent


def rows(lesson: Path, reader: Reader) -> list[Sample]:
    return samples.read(lesson / "train.jsonl", lesson / "boards", reader.sight)


def paired(row: Sample) -> Sample:
    """The template is shown before it."""
    files = [row.files[-1].with_name(row.files[-1].name.replace("test", "temp")), *row.files]
    return replace(row, files=files, prompt=prompt.ask("en", row.where.family, pair=True))


def content(row: Sample) -> list[dict[str, str]]:
    return [*[{"type": "image"}] * len(row.files), {"type": "text", "text": row.prompt}]


def test_loss_is_of_the_answers_tokens_alone_and_what_the_model_itself_says_it_is(lesson: Path) -> None:
    reader = Reader.of(lesson / "base")
    board, template = rows(lesson, reader)[:2]
    model = tiny_models.vision_language(reader.sight.family, wide=0.1)
    learnt = [shown(board), shown(template), shown(paired(board))]
    batch = dict(reader.learn(learnt))
    labels = batch.pop("labels")
    for row, one in zip(labels, learnt, strict=True):
        said = reader.tokenizer(one.answer).input_ids
        assert row[row != IGNORED].tolist() == [*said, tiny_models.id_of(tiny_models.IM_END)]
    with torch.no_grad():
        likely = model(**batch).logits
    assert likely.shape[1] == labels.shape[1] < batch["input_ids"].shape[1]  # the rest is not worked out
    off, count = each(likely, labels).sum(0).tolist()
    assert float(loss({"logits": likely}, labels)) == pytest.approx(off / count, rel=1e-5)
    for at, one in enumerate(learnt):  # alone, without padding, positions and labels as transformers has them
        row = reader.row(one)
        plain = dict(reader.ask([one]))
        ids = torch.tensor([row.ids])
        told = torch.tensor([[IGNORED] * (len(row.ids) - row.answer) + row.ids[-row.answer :]])
        kinds = torch.zeros_like(ids)
        kinds[0, row.pictures] = 1
        plain |= {"input_ids": ids, "mm_token_type_ids": kinds, "attention_mask": torch.ones_like(ids)}
        with torch.no_grad():
            alone = float(model(**plain, labels=told).loss)
        mine = each(likely, labels)[at]
        assert float(mine[0] / mine[1]) == pytest.approx(alone, rel=1e-4)


def test_it_is_asked_with_the_tokens_that_it_was_trained_with(lesson: Path) -> None:
    reader = Reader.of(lesson / "base")
    single = rows(lesson, reader)[0]
    for row in (single, paired(single)):
        one, where = shown(row), row.where
        inspected = question(
            row.files[-1],
            row.files[0] if len(row.files) > 1 else None,
            role="board",
            family=where.family,
            resizing=reader.sight.resizing,
            lang="en",
            max_tokens=9,
            second=None,
        ).request
        grids = [reader.sight.grid(1, frame.shape[1], frame.shape[0]) for frame in inspected.frames]
        theirs = read_pictures(reader.tokenizer, reader.sight, inspected.prompt, grids)
        asked, learnt = reader.row(one, answered=False), reader.row(one)
        assert learnt.ids[: len(asked.ids)] == asked.ids == theirs.ids
        assert all(map(np.array_equal, one.frames, inspected.frames))
        assert np.array_equal(learnt.positions[:, : len(asked.ids)], asked.positions)
        assert reader.ask([one])["input_ids"].tolist() == [asked.ids]
        user = {"role": "user", "content": content(row)}
        answered = {"role": "assistant", "content": [{"type": "text", "text": one.answer}]}
        whole = reader.tokenizer.apply_chat_template([user, answered], tokenize=False)
        marks = [token for token in learnt.ids if token != tiny_models.id_of("<|image_pad|>")]
        told = reader.tokenizer(whole, add_special_tokens=False).input_ids
        plain = [token for token in told if token != tiny_models.id_of("<|image_pad|>")]
        assert plain[: len(marks)] == marks
        assert reader.tokenizer.decode(plain[len(marks) :]) == "\n"


@pytest.mark.skipif(not find_spec("torchvision"), reason="the processors of transformers need torchvision")
def test_pictures_and_tokens_are_those_of_the_processor(lesson: Path) -> None:
    from tests import qwen_processor

    reader = Reader.of(lesson / "base")
    row = rows(lesson, reader)[0]
    processor = qwen_processor.processor(reader.sight.family)
    least = {"qwen3_vl": 65_536, "qwen2_5_vl": 3_136}[reader.sight.family]
    processor.image_processor.size = {"shortest_edge": least, "longest_edge": 12_845_056}
    processor.image_processor.patch_size = reader.sight.patch
    chat = reader.tokenizer.apply_chat_template(
        [{"role": "user", "content": content(row)}], tokenize=False, add_generation_prompt=True
    )
    found = processor(text=[chat], images=[Image.open(row.files[0]).convert("RGB")], return_tensors="pt")
    mine = reader.ask([shown(row)])
    assert mine["input_ids"].tolist() == found["input_ids"].tolist()
    assert mine["image_grid_thw"].tolist() == found["image_grid_thw"].tolist()
    if reader.sight.family == "qwen2_5_vl":  # the other one's has means of its own
        assert torch.allclose(mine["pixel_values"], found["pixel_values"], atol=1e-2)


def test_boards_are_turned_by_seed_epoch_and_number_and_their_boxes_with_them(lesson: Path) -> None:
    reader = Reader.of(lesson / "base")
    some = rows(lesson, reader) * 4
    one, other = Samples(some, 7), Samples(some, 7)
    said = [one[at].answer for at in range(0, len(some), 2)]
    assert said == [other[at].answer for at in range(0, len(some), 2)]
    assert len(set(said)) > 2
    other.set_epoch(1)
    assert said != [other[at].answer for at in range(0, len(some), 2)]
    assert Samples(some)[0].answer == some[0].answer
    for at in range(0, len(some), 2):
        assert brightness(one[at], reader) == pytest.approx(brightness(shown(some[at]), reader), abs=12)


def brightness(one: Shown, reader: Reader) -> dict[str, float]:
    """Of what lies in the box of each defect."""
    frame = one.frames[0]
    where = Coordinates(NAMES[reader.sight.family], frame.shape[1], frame.shape[0], reader.sight.resizing)
    found = reading.read(one.answer, where).defects
    return {
        each.type: float(
            frame[
                round(each.box.top) : round(each.box.bottom), round(each.box.left) : round(each.box.right)
            ].mean()
        )
        for each in found
    }


def test_answers_are_generated_in_batches_of_unequal_length_as_alone(lesson: Path) -> None:
    reader = Reader.of(lesson / "base")
    board = rows(lesson, reader)[0]
    some = [board, paired(board), rows(lesson, reader)[1]]
    model = tiny_models.vision_language(reader.sight.family, wide=0.1)
    calls = []
    together = Asker(model, reader, some, 3, 8)(World(), lambda: calls.append(1))[ASKED].outputs
    alone = Asker(model, reader, some, 1, 8)(World(), lambda: calls.append(1))[ASKED].outputs
    assert together == alone
    assert len(calls) == 1 + 3  # between batches it can be stopped
    assert Asker(model, reader, [], 1, 8)(World(), lambda: None) == {}


def test_what_cannot_be_read_is_counted_and_the_rest_of_an_answer_too() -> None:
    where = Coordinates("qwen3-vl", 100, 100)
    row = Sample("", "", [], "a_test.jpg", where, LABELLED)
    right = prompt.answer(LABELLED, where)
    partly = right[:-1] + ',["open",1,1,1,1]]'
    answers = verdict.judge([row, row, row], [right, partly, "[["])
    assert [len(one.found) for one in answers] == [2, 2, 0]
    assert [len(one.wrong) for one in answers] == [0, 1, 1]
    found = verdict.measured(answers)
    assert found["readable"] == pytest.approx(1 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert verdict.measured(answers[:1])["f1"] == 1.0
    assert [one.said for one in verdict.worst(answers)] == ["[[", partly]
    assert verdict.written(verdict.read(verdict.written(answers))) == verdict.written(answers)


def test_the_best_has_the_highest_f_and_of_those_the_smallest_loss() -> None:
    assert score(0.5, 9.0) > score(0.49, 0.1)
    assert score(0.5, 0.1) > score(0.5, 0.2)
    assert np.isnan(score(0.5, float("nan")))
    val = Tried(0.0, np.array([[3.0, 2], [9.0, 4]]), None)
    assert measure(val, []) == {"loss": 2.0, BEST_BY: score(0.0, 2.0)}


def test_always_the_same_boards_are_asked_about() -> None:
    some = [Sample("", "", [], str(at), Coordinates("qwen3-vl", 9, 9), []) for at in range(40)]
    assert chosen(some, 10) == chosen(some, 10) != some[:10]
    assert len(chosen(some, 10)) == 10
    assert chosen(some, 99) == some


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"messages": []}, "line 1 is no chat sample"),
        ({"image": "../out.jpg"}, r"names \.\./out\.jpg, which is not below"),
        ({"image": "nobody.jpg"}, "nobody.jpg is not there"),
        ({"answer": '[["open",1,2]]'}, "of its answer entry 1 is not"),
        ({"answer": "none"}, "its answer cannot be read"),
        ({"asked": "other"}, "convert with --set family="),
        ({"asked": "What is wrong here?"}, "asks what inspection would not ask"),
        ({"image": "cut.jpg"}, "cut.jpg is no picture that can be read"),
        ({"image": "thin.png", "answer": "[]"}, "thin.png: a picture of 900x3 is too long and thin"),
        ({"image": "a\0b"}, "line 1 is no chat sample"),
        ({"template": "nobody.jpg"}, "nobody.jpg is not there"),
        ({"template": "thin.png"}, "have different sizes"),
    ],
)
def test_a_sample_that_is_none_is_told_with_its_line(lesson: Path, changed: dict[str, str], why: str) -> None:
    reader = Reader.of(lesson / "base")
    told = json.loads((lesson / "train.jsonl").read_text().splitlines()[0])
    asked, answered = told["messages"]
    board = lesson / "boards" / asked["content"][0]["image"]
    (lesson / "boards" / "cut.jpg").write_bytes(board.read_bytes()[:900])
    Image.new("L", (900, 3)).save(lesson / "boards" / "thin.png")
    if "image" in changed:
        asked["content"][0]["image"] = changed["image"]
    if "asked" in changed:
        other = next(one for name, one in board_lessons.FAMILIES.items() if name != reader.sight.family)
        asked["content"][1]["text"] = (
            prompt.ask("zh", other) if changed["asked"] == "other" else changed["asked"]
        )
    if "template" in changed:
        asked["content"][1]["text"] = prompt.ask("en", NAMES[reader.sight.family], pair=True)
        asked["content"].insert(0, {"type": "image", "image": changed["template"]})
    answered["content"] = changed.get("answer", answered["content"])
    file = lesson / "changed.jsonl"
    file.write_text(json.dumps({"messages": changed.get("messages", [asked, answered])}))
    with pytest.raises(ItemError, match=why):
        samples.read(file, lesson / "boards", reader.sight)


def _is_an_adapter(base: Path, config: dict[str, Any]) -> None:
    (base / "adapter_config.json").write_text(json.dumps(config))


def _is_quantised(base: Path, config: dict[str, Any]) -> None:
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))


def _is_another_family(base: Path, config: dict[str, Any]) -> None:
    (base / "config.json").write_text(json.dumps({**config, "model_type": "qwen2"}))


def _has_no_words(base: Path, config: dict[str, Any]) -> None:  # noqa: ARG001
    for one in base.glob("tokenizer*"):
        one.unlink()


def _is_cut(base: Path, config: dict[str, Any]) -> None:  # noqa: ARG001
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:-9])


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (_is_an_adapter, "is an adapter: merge it"),
        (_is_quantised, "is quantised already"),
        (_is_another_family, "takes Qwen2.5-VL and Qwen3-VL"),
        (_has_no_words, "copy it again"),
        (_is_cut, "is cut short"),
    ],
)
def test_a_base_that_cannot_learn_is_the_failure_of_its_item_alone(
    harm: Callable[[Path, dict[str, Any]], None], why: str, lesson: Path, tmp_path: Path
) -> None:
    shutil.copytree(lesson, tmp_path / "lesson")
    base = tmp_path / "lesson" / "base"
    harm(base, json.loads((base / "config.json").read_text()))
    item = Item("1", "config.yaml", file=tmp_path / "lesson" / "config.yaml")
    nowhere: Any = None  # nothing is written before
    with pytest.raises(ItemError, match=why) as failed:
        PcbTrain(PcbTrainParams()).run(item, nowhere, nowhere)
    assert failed.value.kind == "no-model"
    assert "\n" not in failed.value.message


def told(folder: Path, text: str) -> settings.Inspection:
    (folder / "config.yaml").write_text(text)
    return read_settings(folder / "config.yaml", settings.Inspection)


def test_four_bits_are_a_method_and_defaults_are_those_of_a_large_model(tmp_path: Path) -> None:
    usual = told(tmp_path, "model: {name: a}")
    assert (usual.training.method, usual.training.batch_size) == ("qlora", 1)
    assert (usual.training.gradient_accumulation_steps, usual.training.gradient_checkpointing) == (16, True)
    assert told(tmp_path, "model: {name: a, use_4bit: false}").training.method == "lora"
    assert (
        told(tmp_path, "model: {name: a}\ntraining: {method: lora, batch_size: 2}").training.method == "lora"
    )
    for no in ("'no'", "0", "off"):
        assert told(tmp_path, f"model: {{name: a, use_4bit: {no}}}").training.method == "lora"
    for wrong, why in (
        ("model: {name: a}\ntraining: {max_steps: 9}\ntraining: {save_steps: 1}", "training stands there tw"),
        ("model: {name: ''}", "model.name"),
        ("model: {name: a, use_4bit: 4}", "use_4bit"),
        ("model: {name: a}\ntraining: {max_steps: 2,000, batch_size: 0}", "batch_size"),
        ("model: {name: a}\ntraining: {method: full}", "learns by adapters"),
        ("model: {name: a, use_4bit: true}\ntraining: {method: lora}", "contradict"),
        ("training: {batch_size: 1}", "model: Field required"),
        ("model: {name: a, device_map: cpu}", "device_map"),
    ):
        with pytest.raises(ItemError, match=why):
            told(tmp_path, wrong)
    with pytest.raises(ItemError, match="--set data=FOLDER"):
        settings.require_data(usual.data)
    over = settings.told_over(usual, "run/files", "boards").data
    assert settings.require_data(over) == (Path("run/files/train.jsonl"), Path("run/files/val.jsonl"))
    assert over.pictures == Path("boards")


def test_what_does_not_fit_is_refused_and_what_may_be_deleted_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, lesson = known.find("qwen3-vl-32b"), Lesson(1, 600, 1600)
    training, amount = settings.Training(), Amount(Seen((1, 40, 40)), 100, 10)
    small, large = (
        Device("cuda:0", name, (8, 0), bf16=True, total=size, free=size)
        for name, size in (("NVIDIA RTX A5000", 24 * 10**9), ("NVIDIA A800 80GB PCIe", 80 * 2**30))
    )
    monkeypatch.setattr(room, "look", lambda _: iter([Device("cpu", "CPU", free=64 * 10**9)]))
    with pytest.raises(UnfitError, match=r"qwen3-vl-32b needs 2\d\.\d GB to be trained \(qlora\)"):
        room.require(shape, lesson, small, tmp_path, training, amount, 2)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: __import__("types").SimpleNamespace(free=50e9))
    with caplog.at_level("INFO"):
        room.require(shape, lesson, large, tmp_path, training, amount, 2)
    assert "merged weights, 66.7 GB: may be deleted once quantise is done" in caplog.text
    assert "merge will take" in caplog.text
    monkeypatch.setattr(room, "look", lambda _: iter([Device("cpu", "CPU", free=4 * 10**9)]))
    with pytest.raises(UnfitError, match="of the machine's memory"):
        room.require(shape, lesson, large, tmp_path, training, amount, 2)
