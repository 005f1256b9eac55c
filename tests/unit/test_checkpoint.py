"""A model's folder: what it is known by, and what is refused before anything is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.checkpoints import write, write_weights
from worker.engines import checkpoint, weights
from worker.errors import UsageError


def test_a_copy_is_the_same_model_wherever_it_lies(tmp_path: Path) -> None:
    here = write(tmp_path / "here")
    there = shutil.copytree(here, tmp_path / "another" / "name")
    assert checkpoint.tree(here) == checkpoint.tree(there)
    assert checkpoint.tree(here).startswith("tree:")


def test_what_a_downloader_and_people_leave_there_is_no_part_of_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    before = checkpoint.tree(folder)
    for name in (
        ".cache/huggingface/x.json",
        "README.md",
        "__pycache__/a.py",
        "pytorch_model.bin",
        ".a.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    assert checkpoint.tree(folder) == before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "modeling.py", "sub/merges.txt"])
def test_other_files_count_in_full(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "model")
    before = checkpoint.tree(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x" * 100_000)
    with_it = checkpoint.tree(folder)
    (folder / name).write_text("x" * 50_000 + "y" + "x" * 49_999)
    assert len({before, with_it, checkpoint.tree(folder)}) == 3


@pytest.mark.parametrize("name", ["fast.so", "sub/weights.npz", "README.md", "words", "late.pyc"])
def test_of_a_model_that_brings_code_every_file_counts(tmp_path: Path, name: str) -> None:
    """Code may run or read any of them."""
    folder = write(tmp_path / "model")
    (folder / "modeling.py").write_text("import ctypes")
    trees = {checkpoint.tree(folder)}
    (folder / name).parent.mkdir(exist_ok=True)
    for content in ("one", "two"):
        (folder / name).write_text(content)
        trees.add(checkpoint.tree(folder))
    assert len(trees) == 3


def test_a_folder_that_is_linked_counts_like_a_copy(tmp_path: Path) -> None:
    folder, part = write(tmp_path / "model"), write(tmp_path / "part")
    (folder / "part").symlink_to(part)
    (folder / "loop").symlink_to(folder)
    with_link = checkpoint.tree(folder)
    (folder / "part").unlink()
    shutil.copytree(part, folder / "part")
    assert checkpoint.tree(folder) == with_link
    (folder / "part" / "config.json").write_text("{}")
    assert checkpoint.tree(folder) != with_link


@pytest.mark.parametrize("name", ["training_args.bin", "sub/stage3.pth", "more.pkl"])
def test_pickles_beside_code_are_refused(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "model")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    checkpoint.check(folder)
    write(folder, auto_map={"AutoModel": "modeling.Model"})
    with pytest.raises(UsageError, match=rf"brings code, and pickles that it could read \({name}\)"):
        checkpoint.check(folder)


def test_training_any_one_tensor_makes_another_model(tmp_path: Path) -> None:
    sizes = {"first": 300_000, "middle": 70_000, "last": 3}
    plain = {name: bytes(size) for name, size in sizes.items()}
    trees = {checkpoint.tree(write(tmp_path / "plain", plain))}
    for name, size in sizes.items():
        trees.add(checkpoint.tree(write(tmp_path / name, {**plain, name: b"\1" * size})))
    assert len(trees) == 4


def test_weights_that_were_copied_in_part_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"model\.safetensors is cut short, .* copy or fetch it again"):
        checkpoint.check(folder)


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, (2).to_bytes(8, "little") + b"[]", b"PK\3\4" * 100])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(UsageError, match="is no safetensors file"):
        weights.header(tmp_path / "a.safetensors")


def test_pickles_are_refused_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"only as pickles \(pytorch_model\.bin\), which run code"):
        checkpoint.check(folder)


def test_a_part_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    names = [f"model-{n}.safetensors" for n in range(3)]
    index = {"weight_map": {f"t{n}": name for n, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_weights(folder / names[1], {"t1": b"1"})
    with pytest.raises(UsageError, match=r"has no model-0\.safetensors and 1 more"):
        checkpoint.check(folder)
    for name in names:
        write_weights(folder / name, {"t": b"1"})
    assert [file.name for file in checkpoint.files(folder)] == names


def test_an_index_may_not_point_outside_of_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    (folder / "model.safetensors").rename(tmp_path / "other.safetensors")
    index = {"weight_map": {"t": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match=r"names \.\./other\.safetensors, which is not in it"):
        checkpoint.check(folder)


def test_a_configuration_may_not_name_a_pickle_instead(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", transformers_weights="adapter_model.bin")
    with pytest.raises(UsageError, match=r"names other weights \(adapter_model\.bin\)"):
        checkpoint.check(folder)


@pytest.mark.parametrize(
    ("name", "said"), [("adapter_config.json", "is an adapter"), ("config.json", "is no model's config")]
)
def test_what_is_no_model_is_refused(tmp_path: Path, name: str, said: str) -> None:
    folder = write(tmp_path / "model")
    (folder / name).write_text("[]")
    with pytest.raises(UsageError, match=said):
        checkpoint.check(folder)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no config\.json: name the folder that a model was saved into"):
        checkpoint.check(tmp_path)
