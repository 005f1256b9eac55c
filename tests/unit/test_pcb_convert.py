"""DeepPCB's lists become what others read; nothing odd in them passes unseen."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from worker.boards import demo
from worker.boards.defect import TYPES
from worker.errors import ItemError
from worker.items import Answer, Item, Json
from worker.tasks.pcb_convert import PcbConvert, PcbConvertParams


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    demo.make(tmp_path)
    return tmp_path / "trainval.txt"


def convert(listed: Path, **params: Json) -> Answer:
    task = PcbConvert(PcbConvertParams.model_validate({"held_out": 0.4, **params}))
    return task.prepare(Item("id", listed.name, file=listed))


def test_boards_and_templates_become_samples_split_by_group(listed: Path) -> None:
    answer = convert(listed)
    assert answer.keys["held_out"] == ["00001"]
    assert answer.keys["odd"] == []
    assert answer.keys["splits"]["val"]["types"] == dict.fromkeys(TYPES, 2)
    assert answer.keys["splits"]["train"]["groups"] == {"00002": 2, "00003": 2}
    samples = [json.loads(line) for line in answer.files["train.jsonl"].splitlines()]
    assert len(samples) == 8
    pictures = [one["messages"][0]["content"][0]["image"] for one in samples]
    assert all((listed.parent / picture).is_file() for picture in pictures)
    said = {
        picture: json.loads(one["messages"][1]["content"])
        for picture, one in zip(pictures, samples, strict=True)
    }
    assert said["group00002/00002/00002000_temp.jpg"] == []
    board = said["group00002/00002/00002000_test.jpg"]
    assert sorted(one[0] for one in board) == sorted(TYPES)
    lines = (listed.parent / "group00002/00002_not/00002000.txt").read_text().splitlines()
    first = ["open", *(round(int(side) * 1000 / 640) for side in lines[0].split()[:4])]
    assert first in board


def test_templates_are_shown_before_their_boards_if_wanted(listed: Path) -> None:
    samples = [json.loads(line) for line in convert(listed, pair=True).files["train.jsonl"].splitlines()]
    for one in samples:
        template, picture, asked = one["messages"][0]["content"]
        assert template["image"] == picture["image"].replace("_test", "_temp")
        assert "first picture is the template" in asked["text"]
    assert sum(one["messages"][1]["content"] == "[]" for one in samples) == len(samples) / 2


def test_coco_and_yolo_tell_the_same_boxes(listed: Path) -> None:
    files = convert(listed).files
    coco = json.loads(files["val-coco.json"])
    assert [one["name"] for one in coco["categories"]] == list(TYPES)
    names = {one["id"]: one["file_name"] for one in coco["images"]}
    with zipfile.ZipFile(io.BytesIO(files["val-yolo.zip"])) as archive:
        texts = {name: archive.read(name).decode().splitlines() for name in archive.namelist()}
    assert texts["group00001/00001/00001000_temp.txt"] == []
    told = {name: iter(lines) for name, lines in texts.items()}
    for one in coco["annotations"]:
        name = names[one["image_id"]].replace(".jpg", ".txt")
        kind, x, y, wide, high = map(float, next(told[name]).split())
        assert kind == one["category_id"] - 1
        box = [(x - wide / 2) * 640, (y - high / 2) * 640, wide * 640, high * 640]
        assert box == pytest.approx(one["bbox"], abs=0.01)
    assert len(coco["annotations"]) == 12


def test_the_same_list_gives_the_same_files(listed: Path) -> None:
    assert convert(listed).files == convert(listed).files


def test_odd_lines_are_told_with_their_file_and_number(listed: Path) -> None:
    (listed.parent / "group00003/00003_not/00003001.txt").write_text("1 2 30 40 1\n1 2 30 40 9")
    listed.write_text(f"{listed.read_text()}\nonly-one-word\nno/such.jpg no/such.txt")
    odd = [(one["file"], one["line"]) for one in convert(listed).keys["odd"]]
    assert sorted(odd) == [("group00003/00003_not/00003001.txt", 2), ("trainval.txt", 7), ("trainval.txt", 8)]


def test_bad_boards_are_odd_and_the_others_do_not_pay(listed: Path) -> None:
    lines = listed.read_text().splitlines()
    first, second = (listed.parent / one.split()[0].replace(".jpg", "_test.jpg") for one in lines[:2])
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    labels = listed.parent / lines[1].split()[1]
    labels.write_text(labels.read_text().rstrip() + "\n600 10 641 40 1\n")
    abroad = listed.parent.parent / f"{listed.parent.name}-abroad_test.jpg"
    abroad.write_bytes(whole)
    listed.write_text("\n".join([*lines, f"../{abroad.name.replace('_test', '')} a.txt", f"{abroad} a.txt"]))
    answer = convert(listed)
    cut, outside, *out = sorted(answer.keys["odd"], key=lambda one: (one["file"] != listed.name, one["line"]))
    assert (cut["line"], cut["why"].split(":")[0]) == (1, f"{first.name} is no picture that can be read")
    told = [one["why"] for one in (outside, *out)]
    assert sum("leads out of the list's folder" in one for one in told) == 2
    assert told[-1] == "outside of 640x640: 600 10 641 40"
    boards = [one for part in answer.keys["splits"].values() for one in part["groups"].values()]
    assert sum(boards) == len(lines) - 1
    assert not any(rb"[\"open\",938,16," in answer.files[f"{one}.jsonl"] for one in ("train", "val"))
    assert second.name in (answer.files["train.jsonl"] + answer.files["val.jsonl"]).decode()


def test_what_lies_above_the_boards_is_no_group_of_theirs(listed: Path, tmp_path: Path) -> None:
    above = tmp_path / "group7" / "mygroup_a"
    shutil.copytree(listed.parent, above, ignore=shutil.ignore_patterns("group7"))
    assert convert(above / listed.name).keys["held_out"] == ["00001"]


def test_a_list_of_nothing_fails_and_says_why(tmp_path: Path) -> None:
    labels = tmp_path / "00041000.txt"
    labels.write_text("1 2 30 40 1")
    with pytest.raises(ItemError, match="not a picture and its labels"):
        convert(labels)


def test_the_contact_sheet_shows_all_of_a_few_boards(listed: Path) -> None:
    sheet = cv2.imdecode(
        np.frombuffer(convert(listed).files["contact_sheet.jpg"], np.uint8), cv2.IMREAD_COLOR
    )
    assert sheet is not None
    assert sheet.shape == (2 * 420, 4 * 420, 3)
    assert sheet[:420].mean() > sheet[420:].mean()  # the second row is half empty
