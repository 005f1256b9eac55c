"""COCO's JSON and DeepPCB's lists are looked at as YOLO's yaml is, and what comes out can be trained on."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.detect_data import BOX, HIGH, WIDE, check, draw, level, rows, yolo
from worker.boards import demo
from worker.detection.chapters import chapters
from worker.errors import ItemError
from worker.items import Answer, Json, Result
from worker.tasks.chapters import Curves, Sheet, Shown
from worker.tasks.detect_check import DetectCheck, DetectCheckParams


def coco(folder: Path, name: str = "train", count: int = 2) -> Json:
    """Pictures, each with a box, as a document that is not yet written."""
    for number in range(count):
        draw(folder / f"pictures/{name}{number}.png", None)
    return {
        "images": [
            {"id": 10 + n, "file_name": f"{name}{n}.png", "width": WIDE, "height": HIGH} for n in range(count)
        ],
        "annotations": [
            {
                "id": 100 + n,
                "image_id": 10 + n,
                "category_id": 7,
                "bbox": [8, 8, 40, 40],
                "segmentation": [[1]],
            }
            for n in range(count)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def write(folder: Path, document: Json, name: str = "train") -> Path:
    file = folder / f"{name}.json"
    file.write_text(json.dumps(document))
    return file


def test_a_json_of_coco_with_another_to_measure_by(tmp_path: Path) -> None:
    write(tmp_path, coco(tmp_path, "val"), "val")
    file = write(tmp_path, coco(tmp_path))
    answer = check(file, images="pictures", val="val.json", val_images="pictures")
    assert answer.keys["faults"] == {}
    assert answer.keys["classes"] == ["cat", "dog"]
    assert answer.keys["splits"]["train"]["classes"] == {"cat": 0, "dog": 2}
    assert answer.keys["splits"]["val"]["medium"] == 2
    assert level(check(file, images="pictures"), "pictures") == "warning"  # nothing to measure by


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("out-of-range", {"bbox": [80, 8, 40, 40]}),
        ("no-size", {"bbox": [8, 8, 0, 40]}),
        ("odd-line", {"bbox": [8, 8, 40]}),
        ("odd-line", {"bbox": [8, 8, 10**400, 40]}),
        ("odd-line", {"bbox": "8888"}),
        ("unknown-class", {"category_id": 1}),
        ("orphan-label", {"image_id": 99}),
        ("crowd", {"iscrowd": 1}),
    ],
)
def test_a_wrong_annotation_is_told_with_its_id(tmp_path: Path, fault: str, change: dict[str, Json]) -> None:
    document = coco(tmp_path)
    document["annotations"][1] |= change
    answer = check(write(tmp_path, document), images="pictures")
    assert rows(answer) == [[fault, "train", "train.json", "101"]]
    assert answer.keys["splits"]["train"]["boxes"] == (2 if fault == "out-of-range" else 1)


def test_half_a_letter_in_a_json_can_be_written_down(tmp_path: Path) -> None:
    document = coco(tmp_path, count=3)
    document["categories"][0]["name"] = "d\ud800g"
    document["images"][0]["file_name"] = "\udcff.png"
    document["annotations"][1]["bbox"] = ["\ud800"]
    answer = check(write(tmp_path, document), images="pictures")
    assert answer.keys["faults"] == {"missing-picture": 1, "odd-line": 1}
    assert json.dumps(answer.keys, ensure_ascii=False).encode()
    assert json.loads(answer.files["train-coco.json"])["categories"][1]["name"] == r"d\ud800g"


def test_pictures_of_a_json_that_are_absent_outside_or_of_another_size(tmp_path: Path) -> None:
    data = tmp_path / "data"
    document = coco(data, count=4)
    draw(tmp_path / "secret.png", None)
    document["images"][0]["file_name"] = "absent.png"
    document["images"][1]["file_name"] = "../../secret.png"
    document["images"][2] |= {"width": HIGH, "height": WIDE}
    answer = check(write(data, document), images="pictures")
    assert [one[0] for one in rows(answer)] == ["missing-picture", "outside-root", "other-size"]
    assert answer.keys["splits"]["train"]["useful"] == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told.pop("categories"),
        lambda told: told["images"].append({"id": 10, "file_name": "b.png"}),
        lambda told: told["images"].append({"id": 12}),
        lambda told: told["categories"].append({"id": 3, "name": "cow"}),
        lambda told: told["categories"].append({"id": 4, "name": "cat"}),
        lambda told: told["categories"].append({"name": "cow"}),
        lambda told: told["images"].clear(),
    ],
)
def test_a_json_that_is_no_data_set_is_refused(tmp_path: Path, spoil: Callable[[Json], object]) -> None:
    document = coco(tmp_path)
    spoil(document)
    with pytest.raises(ItemError) as refused:
        check(write(tmp_path, document), images="pictures")
    assert refused.value.kind == "no-data"


def test_two_jsons_of_different_classes_are_refused(tmp_path: Path) -> None:
    other = coco(tmp_path, "val")
    other["categories"][0]["name"] = "cow"
    write(tmp_path, other, "val")
    with pytest.raises(ItemError, match="different classes"):
        check(write(tmp_path, coco(tmp_path)), images="pictures", val="val.json", val_images="pictures")


def test_a_list_of_deeppcb_with_its_faults(tmp_path: Path) -> None:
    demo.make(tmp_path)
    listed = tmp_path / "trainval.txt"
    count = len(listed.read_text().split()) // 2
    answer = check(listed)
    assert answer.keys["faults"] == {}
    assert (answer.keys["splits"]["train"]["useful"], len(answer.keys["classes"])) == (count, 6)
    listed.write_text(f"{listed.read_text()}\nalone\nno/such.jpg no/such.txt\n../a.jpg ../a.txt")
    labels = tmp_path / "group00003/00003_not/00003001.txt"
    labels.write_text("1 2 30 40 1\n1 2 30 40 7\n1,2,30,40,0\n600 600 700 700 2\n1 2 3")
    name = labels.relative_to(tmp_path).as_posix()
    assert [(one[0], one[2], one[3]) for one in rows(check(listed))] == [
        ("odd-line", "trainval.txt", str(count + 1)),
        ("missing-picture", "trainval.txt", str(count + 2)),
        ("outside-root", "trainval.txt", str(count + 3)),
        ("odd-line", name, "5"),
        ("unknown-class", name, "2"),
        ("unknown-class", name, "3"),
        ("out-of-range", name, "4"),
    ]


def test_a_text_that_is_no_list_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text(BOX)
    with pytest.raises(ItemError, match="no list of DeepPCB: line 1"):
        check(file)


def faulty(folder: Path) -> Path:
    """With what a cleaning mends."""
    file = yolo(folder, test="images/test")
    draw(folder / "images/val/odd.png", f"{BOX}\n{BOX}\n0 0.95 0.5 0.2 0.2\n1 0.3 0.3 0 0\nx")
    draw(folder / "images/test/leaked.png", seed="t0.png")
    draw(folder / "images/train/nothing.png", "")
    draw(folder / "images/train/bare.png", None)
    draw(folder / "images/train/broken.png").write_bytes(b"\x89PNG")
    return file


def unpacked(answer: Answer, source: Path, into: Path) -> Path:
    """The archive where the pictures lie, without their old labels."""
    shutil.copytree(source, into)
    for text in into.rglob("*.txt"):
        text.unlink()
    with zipfile.ZipFile(io.BytesIO(answer.files["yolo.zip"])) as archive:
        archive.extractall(into)
    return into / "clean.yaml"


def test_the_cleaned_archive_has_no_fault_left(tmp_path: Path) -> None:
    answer = check(faulty(tmp_path / "data"))
    assert set(answer.keys["faults"]) == {
        "broken-picture", "duplicate-box", "leak", "missing-label", "no-size", "odd-line", "out-of-range",
    }  # fmt: skip
    again = check(unpacked(answer, tmp_path / "data", tmp_path / "clean"))
    assert again.keys["faults"] == {}
    for split, one in again.keys["splits"].items():
        before = answer.keys["splits"][split]
        assert one["pictures"] == one["useful"] == before["useful"]
        assert (one["classes"], one["without_boxes"]) == (before["classes"], before["without_boxes"])
    assert again.keys["splits"]["train"]["without_boxes"] == 1


def test_the_cleaned_json_has_no_fault_left(tmp_path: Path) -> None:
    data = tmp_path / "data"
    answer = check(faulty(data))
    for split in ("train", "val"):
        (data / f"{split}.json").write_bytes(answer.files[f"{split}-coco.json"])
    again = check(data / "train.json", images=".", val="val.json", val_images=".")
    assert again.keys["faults"] == {}
    for split in ("train", "val"):
        one, before = again.keys["splits"][split], answer.keys["splits"][split]
        assert one["pictures"] == one["useful"] == before["useful"]
        assert (one["classes"], one["without_boxes"]) == (before["classes"], before["without_boxes"])
        assert one["box_side"] == pytest.approx(before["box_side"], abs=0.002)


def test_boards_of_deeppcb_become_a_data_set_of_yolo(tmp_path: Path) -> None:
    demo.make(tmp_path / "data")
    answer = check(tmp_path / "data/trainval.txt")
    clean = unpacked(answer, tmp_path / "data", tmp_path / "clean")
    clean.write_text(f"{clean.read_text()}val: train-clean.txt\n")  # it has one split alone
    again = check(clean)
    assert set(again.keys["faults"]) == {"leak"}
    assert again.keys["splits"]["val"]["classes"] == answer.keys["splits"]["train"]["classes"]


def test_the_report_has_findings_counts_curves_and_pictures(tmp_path: Path) -> None:
    answer = check(faulty(tmp_path))
    told = {one.title[0]: one.parts for one in chapters(answer.keys, list(answer.files))}
    (wrong,) = told["What is wrong"]
    assert isinstance(wrong, Sheet)
    levels = [row[0] for row in wrong.rows]
    assert levels == sorted(levels, key=["blocker", "warning", "ok"].index)
    assert all(row[3] for row in wrong.rows if row[0] != "ok")  # each with what to do
    (classes,) = told["Boxes of each class"]
    assert isinstance(classes, Sheet)
    assert [row[0] for row in classes.rows] == ["cat", "dog"]
    assert all(isinstance(part, Curves) and part.lines for part in told["How large they are"])
    (shown,) = told["Evenly chosen pictures"]
    assert isinstance(shown, Shown)
    assert list(shown.pictures) == ["train.jpg", "val.jpg", "test.jpg"]


def test_the_summary_tells_the_worst_verdict_and_all_boxes(tmp_path: Path) -> None:
    task = DetectCheck(DetectCheckParams())
    good, bad = check(faulty(tmp_path / "a")), check(yolo(tmp_path / "b", train="images/val"))
    results = [Result(str(n), "data.yaml", one) for n, one in enumerate((good, bad))]
    summary = task.summarise(results)
    assert (good.keys["verdict"], bad.keys["verdict"]) == ("warning", "blocker")
    assert summary["verdict"] == "blocker"
    assert summary["pictures"] == (7 + 3 + 1) + (2 + 2)
    assert task.row(results[0])["Verdict"] == "warning"
