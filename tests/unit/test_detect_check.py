"""A data set is looked at before a training is paid for: nothing that is wrong with it passes unseen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.unit.detect_data import BOX, HIGH, WIDE, check, draw, level, rows, yolo
from worker.detection import faults as faults_of
from worker.errors import ItemError
from worker.items import Json


def test_a_data_set_without_a_fault_is_told_so(tmp_path: Path) -> None:
    answer = check(yolo(tmp_path, test=None))
    assert answer.keys["faults"] == {}
    assert "faults.csv" not in answer.files
    assert [one["check"] for one in answer.keys["findings"] if one["level"] != "ok"] == ["classes"]
    train = answer.keys["splits"]["train"]
    assert (train["pictures"], train["useful"], train["boxes"]) == (4, 4, 8)
    assert train["classes"] == {"cat": 4, "dog": 4}
    assert (train["small"], train["medium"], train["large"]) == (8, 0, 0)
    assert train["box_side"][-1] == pytest.approx((WIDE * HIGH / 16) ** 0.5, abs=0.001)


@pytest.mark.parametrize(
    ("text", "found", "boxes"),
    [
        (f"{BOX}\n0 0.5 0.5 x 0.2", ("odd-line", "2"), 1),
        (f"{BOX}\n0 0.5 0.5", ("odd-line", "2"), 1),
        (f"{BOX}\n\n0 nan 0.5 0.1 0.1", ("odd-line", "3"), 1),
        (f"{BOX}\n0 0.3 0.3 0.1 0.1 0.9", ("odd-line", "2"), 1),
        (f"{BOX}\n0.5 0.3 0.3 0.1 0.1", ("odd-line", "2"), 1),
        (f"{BOX}\n0 0.95 0.5 0.2 0.2", ("out-of-range", "2"), 2),
        (f"{BOX}\n0 1.5 0.5 0.2 0.2", ("out-of-range", "2"), 1),
        (f"{BOX}\n0 48 32 20 20", ("out-of-range", "2"), 1),
        (f"{BOX}\n0 0.5 0.5 0 0.2", ("no-size", "2"), 1),
        (f"{BOX}\n0 0.5 0.5 -0.1 0.2", ("no-size", "2"), 1),
        (f"{BOX}\n2 0.2 0.2 0.1 0.1", ("unknown-class", "2"), 1),
        (f"{BOX}\n-1 0.2 0.2 0.1 0.1", ("unknown-class", "2"), 1),
        (f"{BOX}\n1 0.2 0.2 0.1 0.1\n{BOX}", ("duplicate-box", "3"), 2),
    ],
)
def test_an_odd_label_is_told_with_its_file_and_line(
    tmp_path: Path, text: str, found: tuple[str, str], boxes: int
) -> None:
    file = yolo(tmp_path)
    draw(tmp_path / "images/val/odd.png", text)
    answer = check(file)
    assert rows(answer) == [[found[0], "val", "labels/val/odd.txt", found[1]]]
    assert answer.keys["splits"]["val"]["boxes"] == 2 + boxes


def test_polygons_become_their_boxes_and_an_edge_may_be_rounded(tmp_path: Path) -> None:
    file = yolo(tmp_path)
    draw(tmp_path / "images/val/more.png", "1 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.9 0.5 0.200004 0.2\n")
    answer = check(file)
    assert answer.keys["faults"] == {}
    document = json.loads(answer.files["val-coco.json"])
    boxes = [one["bbox"] for one in document["annotations"] if one["category_id"] == 2]
    assert boxes == [pytest.approx([9.6, 6.4, 38.4, 25.6], abs=0.01)]


def test_missing_and_orphan_labels_and_what_shares_them(tmp_path: Path) -> None:
    file = yolo(tmp_path)
    draw(tmp_path / "images/train/bare.png", None)
    draw(tmp_path / "images/train/nothing.png", "")
    draw(tmp_path / "images/train/t1.bmp", None)
    (tmp_path / "labels/val/gone.txt").write_text(BOX)
    (tmp_path / "labels/val/classes.txt").write_text("cat\ndog\n")
    answer = check(file)
    assert sorted(one[::2] for one in rows(answer)) == [
        ["missing-label", "images/train/bare.png"],
        ["orphan-label", "labels/val/gone.txt"],
        ["shared-labels", "images/train/t1.png"],
    ]
    assert answer.keys["splits"]["train"]["without_boxes"] == 1


def test_labels_of_a_picture_that_no_split_names_are_no_orphans(tmp_path: Path) -> None:
    file = yolo(tmp_path, train="train.txt")
    names = [f"./images/train/t{number}.png" for number in range(3)]
    (tmp_path / "train.txt").write_text("\n".join([*names, "", "./images/train/absent.png"]))
    assert rows(check(file)) == [["missing-picture", "train", "train.txt", "5"]]


def test_broken_pictures_are_decoded_to_their_end(tmp_path: Path) -> None:
    file = yolo(tmp_path)
    whole = draw(tmp_path / "images/train/cut.jpg")
    whole.write_bytes(whole.read_bytes()[:-400])
    draw(tmp_path / "images/train/text.jpg").write_text("no picture")
    Image.new("RGB", (1200, 1000)).save(draw(tmp_path / "images/train/vast.png"))
    answer = check(file, max_megapixels=1)
    assert [one[2] for one in rows(answer)] == [
        "images/train/cut.jpg",
        "images/train/text.jpg",
        "images/train/vast.png",
    ]
    told = answer.files["faults.csv"].decode()
    assert "truncated" in told
    assert "too-large" in told
    assert answer.keys["splits"]["train"]["useful"] == 4


def test_a_picture_that_is_there_twice_counts_once_and_a_leak_is_taken_from_train(tmp_path: Path) -> None:
    file = yolo(tmp_path, test="images/test")
    draw(tmp_path / "images/test/x.bmp", seed="t0.png")  # another file that shows the same
    draw(tmp_path / "images/test/y.png", seed="v0.png")
    draw(tmp_path / "images/train/again.png", "", seed="t1.png")
    answer = check(file)
    assert sorted(rows(answer)) == [
        ["duplicate-picture", "train", "images/train/t1.png", "0"],
        ["leak", "train", "images/train/t0.png", "0"],
        ["leak", "val", "images/val/v0.png", "0"],
    ]
    assert "with other labels" in answer.files["faults.csv"].decode()
    left = {split: one["useful"] for split, one in answer.keys["splits"].items()}
    assert left == {"train": 3, "val": 1, "test": 2}
    assert level(answer, "leak") == "warning"


def test_a_train_that_is_its_own_val_is_a_blocker(tmp_path: Path) -> None:
    answer = check(yolo(tmp_path, train="images/val"))
    assert answer.keys["verdict"] == "blocker"
    assert answer.keys["faults"] == {"leak": 2}
    assert not any(name.endswith((".json", ".zip")) for name in answer.files)


def test_pictures_that_exif_turns_are_measured_as_people_see_them(tmp_path: Path) -> None:
    file = yolo(tmp_path)
    turned = draw(tmp_path / "images/val/turned.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(turned) as picture:
        picture.save(turned, exif=exif)
    answer = check(file)
    assert answer.keys["faults"] == {"turned": 1}
    assert answer.keys["splits"]["val"]["picture_sizes"] == {f"{HIGH}x{WIDE}": 1, f"{WIDE}x{HIGH}": 2}


def test_what_lies_outside_of_the_root_is_not_read(tmp_path: Path) -> None:
    secret = draw(tmp_path / "elsewhere/images/secret.png")
    inside = tmp_path / "data"
    file = yolo(inside)
    (inside / "images/train/link.png").symlink_to(secret)
    (inside / "labels/val/v1.txt").unlink()
    (inside / "labels/val/v1.txt").symlink_to(tmp_path / "elsewhere/labels/secret.txt")
    answer = check(file)
    assert [one[:3] for one in rows(answer)] == [
        ["outside-root", "train", "data.yaml"],
        ["outside-root", "val", "labels/val/v1.txt"],
    ]
    assert answer.keys["verdict"] == "blocker"
    assert str(tmp_path) not in json.dumps(answer.keys)
    assert check(file, root="..").keys["faults"] == {"missing-label": 1}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"path": ".."}, "root="),
        ({"train": "/etc"}, "root="),
        ({"train": "images/absent"}, "nothing is there"),
        ({"train": None}, "train:"),
        ({"names": {0: "cat", 2: "dog"}}, "without a gap"),
        ({"names": ["cat", "cat"]}, "cat twice"),
        ({"names": None}, "no classes"),
        ({"nc": 3}, "nc is 3"),
        ({"path": "absent"}, "no folder"),
    ],
)
def test_a_yaml_that_means_no_data_set_is_refused_in_one_line(
    tmp_path: Path, told: dict[str, Json], why: str
) -> None:
    with pytest.raises(ItemError, match=why) as refused:
        check(yolo(tmp_path / "data", **told))
    assert "\n" not in refused.value.message


def test_splits_may_be_lists_of_folders_and_names_a_map(tmp_path: Path) -> None:
    draw(tmp_path / "data/more/images/m.png")
    both = ["../images/train", "more/images"]  # the first is forgiven, as ultralytics does
    names = {0: "cat", 1: "dog"}
    answer = check(yolo(tmp_path / "data", path=".", train=both, names=names), root="..")
    assert answer.keys["splits"]["train"]["pictures"] == 5
    assert answer.keys["faults"] == {}


def test_faults_beyond_the_limit_are_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults_of, "KEPT", 5)
    file = yolo(tmp_path)
    draw(tmp_path / "images/train/odd.png", "x\n" * 8)
    answer = check(file)
    assert answer.keys["faults"] == {"odd-line": 8}
    assert len(rows(answer)) == 5
    assert "3 faults more" in json.dumps(answer.keys["findings"])


def test_boxes_too_small_for_the_training_size_are_told(tmp_path: Path) -> None:
    file = yolo(tmp_path)
    assert level(check(file), "tiny-boxes") == "ok"
    assert level(check(file, imgsz=32), "tiny-boxes") == "warning"


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    file = yolo(tmp_path)
    draw(tmp_path / "images/train/bare.png", None)
    once, again = check(file), check(file)
    assert once.files == again.files
    assert json.dumps(once.keys) == json.dumps(again.keys)


def test_a_picture_of_each_split_is_shown_with_its_boxes(tmp_path: Path) -> None:
    file = yolo(tmp_path)
    boxed = check(file).files["train.jpg"]
    for text in (tmp_path / "labels/train").iterdir():
        text.write_text("")
    bare = check(file).files["train.jpg"]
    assert bare != boxed
    (tmp_path / "sheet.jpg").write_bytes(boxed)
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (4 * 306 + 6, 306 + 6)


def test_a_yaml_of_another_kind_is_no_data_set(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"training": {"lr": 1}}))
    with pytest.raises(ItemError, match="no data set"):
        check(file)
    file.write_text("train: [")
    with pytest.raises(ItemError, match="cannot be read"):
        check(file)
