"""Data sets of three kinds, and a model whose body is never left random."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import lessons, tiny_models
from worker.classification import datasets, model
from worker.classification.course import measure
from worker.classification.datasets import Pictures, classes_of
from worker.engines import attention
from worker.engines.choice import Choice
from worker.errors import ItemError, UsageError
from worker.training.course import Tried
from worker.training.settings import Training

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lessons.draw(tmp_path_factory.mktemp("data") / "colours", 3, 2)


def test_folders_name_the_classes_of_what_is_in_them(colours: Path) -> None:
    rows = datasets.read(colours / "train")
    assert [one.label for one in rows] == ["blue"] * 3 + ["red"] * 3
    picture, label = Pictures(rows, ["red", "blue"], 28)[0]
    assert picture.shape == (28, 28, 3)
    assert picture[..., 2].mean() > picture[..., 0].mean()
    assert label == 1


def test_a_csv_names_files_beside_it(colours: Path, tmp_path: Path) -> None:
    table = colours / "table.csv"
    table.write_text("path,class\ntrain/red/0.png,warm\ntest/blue/1.png,cold\n")
    rows = datasets.read(table)
    assert [one.label for one in rows] == ["warm", "cold"]
    assert rows[0].open().size == (40, 40)
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    with pytest.raises(ItemError, match="needs a column"):
        datasets.read(wrong)


def test_a_data_set_of_hugging_face_is_read_from_this_disk(colours: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("datasets", reason="datasets is not installed")
    files = sorted((colours / "train").rglob("*.png"))
    features = library.Features(
        {"image": library.Image(), "label": library.ClassLabel(names=["blue", "red"])}
    )
    told = {"image": [str(one) for one in files], "label": [one.parent.name for one in files]}
    made = library.Dataset.from_dict(told, features=features)
    library.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "saved")
    rows = datasets.read(tmp_path / "saved" / "train")
    assert [one.label for one in rows] == [one.parent.name for one in files]
    assert rows[-1].open().size == (40, 40)


def test_classes_are_those_of_all_data_sets_unless_they_are_given(colours: Path) -> None:
    rows = {"a": datasets.read(colours / "train")}
    assert classes_of(rows, (), None) == ["blue", "red"]
    assert classes_of(rows, ("red", "green", "blue"), 3) == ["red", "green", "blue"]
    with pytest.raises(
        ItemError, match="num_labels is 101, and there are 2 classes; the rarest are red, blue"
    ):
        classes_of(rows, (), 101)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")
    row = datasets.read(tmp_path)[0]
    with pytest.raises(ItemError, match=r"torn\.png"):
        row.open()


def test_accuracies_of_all_pictures_weigh_data_sets_by_their_size() -> None:
    sure = np.eye(2)[[0, 0, 0, 1]]
    found = measure({"a": Tried(1.0, sure, np.array([0, 0, 0, 1])), "b": Tried(3.0, sure[:1], np.array([1]))})
    assert found == {
        "overall_loss": pytest.approx(7 / 5),
        "overall_accuracy": 0.8,
        "a_accuracy": 1.0,
        "b_accuracy": 0.0,
    }


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_the_whole_body_is_moved_and_saved_and_found_again(family: str, tmp_path: Path) -> None:
    base = tiny_models.checkpoint(tmp_path / "base", family)
    made = model.new(base, ["cat", "dog"], "cpu", Training()).eval()
    whole = tiny_models.vision_language(family).model.state_dict()
    moved = made.model.state_dict()
    assert moved.keys() == whole.keys()
    assert all(torch.equal(moved[name], one) for name, one in whole.items())

    made.save_pretrained(tmp_path / "saved")
    found = model.trained(Choice("classifier", "saved", file=tmp_path / "saved"), "cpu").model.eval()
    assert found.config.id2label == {0: "cat", 1: "dog"}
    reader = model.Reader.of(base, "What is it?", 64)
    picture = np.asarray(Image.new("RGB", (reader.side, reader.side), (9, 99, 199)))
    inputs: dict[str, Any] = {**reader.inputs([picture, picture])}
    with torch.no_grad():
        assert torch.equal(found(**inputs).logits, made(**inputs).logits)


def test_a_body_with_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = tiny_models.checkpoint(tmp_path / "base", "qwen2_5_vl")
    weights = load_file(base / "model.safetensors")
    gone = next(name for name in weights if "layers.0.mlp.up_proj" in name)
    del weights[gone]
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"1 missing .*up_proj"):
        model.new(base, ["cat", "dog"], "cpu", Training())


def test_a_model_that_writes_is_refused_as_a_classifier_whose_body_would_be_random(tmp_path: Path) -> None:
    base = tiny_models.checkpoint(tmp_path / "base", "qwen2_5_vl")
    with pytest.raises(UsageError, match=r"missing .*language_model"):
        model.trained(Choice("classifier", "base", file=base), "cpu")


def test_a_csv_that_cannot_be_read_to_its_end_is_refused_by_its_name(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    for told, why in (
        ("file,label\n一.png,红\n".encode("gbk"), "not written in UTF-8"),
        (b'file,label\n"a.png,red\nb.png,blue\n', "table.csv, line .*unexpected end"),
        (b"file,label\n" + b"x" * 200_000 + b",red\n", "table.csv, line .*field larger"),
    ):
        table.write_bytes(told)
        with pytest.raises(ItemError, match=why):
            datasets.read(table)


def test_spaces_about_a_class_make_no_other_one_and_a_comma_in_a_name_is_told(tmp_path: Path) -> None:
    table = tmp_path / "TABLE.CSV"
    table.write_text("file,label\na.png,red \nb,c.png,red\n")
    rows = datasets.read(table)
    assert [one.label for one in rows if not one.wrong] == ["red"]
    assert rows[1].wrong == "too-many-commas"


def test_a_row_of_hugging_face_whose_class_nobody_knows_is_of_none(colours: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("datasets", reason="datasets is not installed")
    features = library.Features(
        {"image": library.Image(), "label": library.ClassLabel(names=["blue", "red"])}
    )
    told = {"image": [str(colours / "train/red/0.png")] * 3, "label": [-1, None, 0]}
    library.Dataset.from_dict(told, features=features).save_to_disk(tmp_path / "saved")
    assert [(one.label, one.wrong) for one in datasets.read(tmp_path / "saved")] == [
        ("", "no-class"),
        ("", "no-class"),
        ("blue", ""),
    ]
    (tmp_path / "saved" / "state.json").write_text("{")
    with pytest.raises(ItemError, match="no whole data set"):
        datasets.read(tmp_path / "saved")


def test_names_can_be_written_down_whatever_bytes_they_have(colours: Path, tmp_path: Path) -> None:
    picture = (colours / "train/red/0.png").read_bytes()
    try:
        folder = tmp_path / os.fsdecode(b"r\xff")
        folder.mkdir()
    except OSError:
        pytest.skip("names on this disk are text")
    (folder / os.fsdecode(b"\xfe.png")).write_bytes(picture)
    (row,) = datasets.read(tmp_path)
    assert (row.name, row.label) == ("r\\xff/\\xfe.png", "r\\xff")
    assert row.open().size == (40, 40)


def test_a_class_cannot_be_given_twice(colours: Path) -> None:
    with pytest.raises(ItemError, match="names red twice"):
        classes_of({"a": datasets.read(colours / "train")}, ("red", "blue", "red"), 3)


def test_a_grey_of_sixteen_bits_is_not_white() -> None:
    deep = Image.fromarray(np.linspace(0, 65535, 1600).reshape(40, 40).astype(np.uint16))
    assert datasets.squared(deep, 40).mean() == pytest.approx(127, abs=2)


def test_its_kernels_are_chosen_for_the_numbers_that_it_computes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it learns in 32 bits, for which FlashAttention-2 has no kernels; but products are in 16."""
    base, asked = tiny_models.checkpoint(tmp_path / "base", "qwen2_5_vl"), []

    def works(_one: str, _device: Any, numbers: str) -> None:
        asked.append(numbers)

    monkeypatch.setattr(attention, "works", works)
    made = model.new(base, ["cat", "dog"], "cpu", Training(precision="bf16"))
    assert {one.dtype for one in made.parameters()} == {torch.float32}
    assert set(asked) == {"bf16"}
