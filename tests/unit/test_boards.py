"""Boards: DeepPCB's files as they are, a template laid over its board, and what the baseline finds."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from worker.boards import demo
from worker.boards.alignment import align
from worker.boards.baseline import inspect
from worker.boards.copper import Mask, smoothed
from worker.boards.deeppcb import group, parse, read, split
from worker.boards.defect import TYPES, Box
from worker.boards.learning import learn, lesson
from worker.boards.network import fit, load, save
from worker.cli import group as worker
from worker.errors import ItemError, UsageError
from worker.evaluation.boxes import Board, deeppcb
from worker.items import Answer, Item, Result
from worker.tasks.pcb_inspect import PcbInspect, PcbInspectParams


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boards")
    demo.make(folder)
    return folder


def test_labels_without_a_last_line_end_and_with_odd_lines() -> None:
    defects, odd = parse(
        "10 20 30 40 1\n5,6,7,8,6\r\n\n1 2 3 4\n9 9 9 20 2\n1 1 5 5 7\n50 60 70 80 5", "a.txt"
    )
    assert [(one.type, one.box) for one in defects] == [
        ("open", Box(10, 20, 30, 40)),
        ("pin-hole", Box(5, 6, 7, 8)),
        ("copper", Box(50, 60, 70, 80)),
    ]
    assert [(one.file, one.line) for one in odd] == [("a.txt", 4), ("a.txt", 5), ("a.txt", 6)]


def test_a_board_without_its_template_is_told_and_left_out(folder: Path, tmp_path: Path) -> None:
    demo.make(tmp_path)
    (tmp_path / "group00002/00002/00002001_temp.jpg").unlink()
    pairs, odd = read(tmp_path)
    assert len(pairs) == len(read(folder)[0]) - 1
    assert [(one.file, one.why) for one in odd] == [
        ("group00002/00002/00002001_test.jpg", "there is no 00002001_temp.jpg")
    ]
    with pytest.raises(UsageError, match="holds no board"):
        read(tmp_path / "group00001/00001_not")


def test_groups_are_never_split() -> None:
    assert group("data/group00041/00041/00041000_test.jpg") == "00041"
    groups = ["a"] * 6 + ["b"] * 3 + ["c"]
    assert split(groups, 0.4) == {"c", "b"}
    assert split(groups, 0.2) == {"c"}
    assert split(["a"] * 5, 1.0) == set()  # somebody must be left to learn from


@pytest.mark.parametrize(("right", "down", "scale"), [(0, 0, 1), (5, -4, 1), (-3, 2, 1.008)])
def test_a_template_is_laid_over_its_board(right: float, down: float, scale: float) -> None:
    template, _, _ = demo.board(3)
    map_ = np.array([[scale, 0, right], [0, scale, down]], np.float32)
    moved = cv2.warpAffine(template * np.uint8(255), map_, template.shape[::-1])
    tested: Mask = np.asarray(moved > 127, np.uint8)
    laid = align(template, tested)
    assert np.mean(laid != tested) < 0.004
    if right:
        assert np.mean(template != tested) > 0.02


def test_an_empty_template_is_left_as_it_is() -> None:
    template, tested, _ = demo.board(0)
    empty = np.zeros_like(template)
    assert not align(empty, tested).any()
    assert inspect(empty, empty) == []
    with pytest.raises(ItemError, match="different sizes: 640x640 and 640x320"):
        inspect(template, tested[:320])


def test_every_type_is_found_on_the_drawn_boards() -> None:
    boards = [
        Board(str(seed), truth, inspect(template, tested))
        for seed in range(8)
        for template, tested, truth in [demo.board(seed)]
    ]
    score = deeppcb(boards)
    assert score.labelled == 8 * len(TYPES)
    assert score.f1 >= 0.95


def test_a_board_that_is_as_it_should_be_has_no_defects() -> None:
    template, _, _ = demo.board(1)
    moved = np.roll(template, (3, -2), (0, 1))
    assert [one for one in inspect(template, moved) if one.confidence >= 0.5] == []


def test_a_network_learns_and_is_the_same_from_its_file(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    traits = chance.normal(size=(600, 4)).astype(np.float32)
    kinds = (traits[:, 0] > 0).astype(int) + (traits[:, 1] > 0)
    sides = np.stack([traits[:, 2], traits[:, 3]], axis=1)
    one = fit(traits, kinds, sides, 3, epochs=25)
    shares, moved = one.ask(traits)
    assert np.mean(shares.argmax(1) == kinds) > 0.95
    assert np.abs(moved - sides)[kinds > 0].mean() < 0.15
    first, again = (fit(traits, kinds, sides, 3, epochs=2).ask(traits)[0] for _ in range(2))
    assert np.array_equal(first, again)
    save(tmp_path / "w.npz", [one])
    assert np.allclose(load(tmp_path / "w.npz")[0].ask(traits)[0], shares, atol=0.01)


def test_what_is_learnt_from_is_the_labelled_difference(folder: Path) -> None:
    pairs, _ = read(folder)
    lessons = [lesson(pair) for pair in pairs[:2]]
    for pair, one in zip(pairs, lessons, strict=False):
        learnt = sorted(kind for kind in one.kinds if kind)
        assert learnt == sorted(TYPES.index(defect.type) + 1 for defect in pair.defects)
    assert len(learn(lessons * 12)) == 3


def prepared(file: Path, lang: str = "en") -> Answer:
    return PcbInspect(PcbInspectParams.model_validate({"lang": lang})).prepare(
        Item("id", file.name, file=file)
    )


def test_an_answer_names_types_and_what_to_do(folder: Path) -> None:
    tested = folder / "group00001/00001/00001000_test.jpg"
    answer = prepared(tested, "zh")
    keys = json.loads(json.dumps(answer.keys))
    assert keys["role"] == "board"
    assert {one["type"] for one in keys["defects"]} == set(TYPES)
    assert {one["name"] for one in keys["defects"]} >= {"断路", "短路"}
    assert all(one["hint"] for one in keys["defects"])
    picture = cv2.imdecode(np.frombuffer(answer.files["marked.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (640, 640, 3)
    row = PcbInspect(PcbInspectParams()).row(Result("id", tested.name, answer))
    assert row["Defects"] == str(len(keys["defects"]))


def test_a_template_is_no_board_and_a_board_needs_one(folder: Path, tmp_path: Path) -> None:
    template = prepared(folder / "group00001/00001/00001000_temp.jpg")
    board = prepared(folder / "group00001/00001/00001000_test.jpg")
    task, results = PcbInspect(PcbInspectParams()), [Result("1", "a", template), Result("2", "b", board)]
    summary = task.summarise(results)
    assert (summary["boards"], summary["templates"], summary["defective"]) == (1, 1, 1)
    coco = json.loads(task.exports(results)["coco.json"])
    assert [one["file_name"] for one in coco["images"]] == ["b"]
    found = [(one["category_id"], one["score"]) for one in coco["annotations"]]
    told = [(TYPES.index(one["type"]) + 1, one["confidence"]) for one in board.keys["defects"]]
    assert found == told
    alone = tmp_path / "a_test.jpg"
    alone.write_bytes((folder / "group00001/00001/00001000_test.jpg").read_bytes())
    with pytest.raises(ItemError, match="there is no a_temp"):
        prepared(alone)
    broken = tmp_path / "b_test.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(ItemError, match="no picture that can be read"):
        prepared(broken)


def test_what_is_smoothed_has_neither_holes_nor_spurs() -> None:
    copper = np.zeros((120, 120), np.uint8)
    copper[40:80] = 1
    spoiled = copper.copy()
    spoiled[50:54, 50:54] = 0  # a pin-hole
    spoiled[80:100, 20:23] = 1  # a spur
    spoiled[10:14, 10:14] = 1  # an island
    found = smoothed(spoiled, 6)
    assert found[40:80].all()
    assert not found[:40].any()
    assert not found[90:].any()  # what is left of the spur are the corners at its foot
    assert np.array_equal(smoothed(copper, 6), copper)


def test_evaluate_scores_boards_against_a_folder_of_labels(folder: Path, tmp_path: Path) -> None:
    lines = [
        {"input": name, "status": "ok", **prepared(folder / name).keys}
        for name in (f"group00001/00001/0000100{n}_test.jpg" for n in range(2))
    ]
    lines.append({"input": "00002000_test.jpg", "status": "failed", "failure": {"kind": "damaged"}})
    results = tmp_path / "final_results.json"
    results.write_text(json.dumps({"task": "pcb-inspect", "results": lines}))
    arguments = ["evaluate", str(results), "--labels", str(folder)]
    said = CliRunner().invoke(worker, [*arguments, "--json"])
    assert said.exit_code == 0, said.output
    document = json.loads(said.output)
    assert document["boards"] == 3
    assert document["failed"] == ["00002000_test.jpg"]
    assert len(document["missing"]) == 3
    assert document["deeppcb"]["precision"] == 1
    assert document["deeppcb"]["recall"] == pytest.approx(2 / 3, abs=1e-3)  # what failed has found nothing
    page = CliRunner().invoke(worker, arguments).output
    assert "3 boards with an answer and labels, 18 defects" in page
    assert "mousebite" in page
    assert "--set templates=true" in page
    assert document["pictures"] is None


def test_evaluate_takes_templates_that_were_looked_at_as_negatives(folder: Path, tmp_path: Path) -> None:
    at = "group00001/00001/0000100"
    nothing: dict[str, object] = {"status": "ok", "defects": [], "candidates": []}
    alarm = {**nothing, "defects": [{"type": "open", "box": [1, 2, 9, 9], "confidence": 1.0}]}
    lines = [
        {"input": f"{at}0_test.jpg", **nothing, "role": "board", "inspected": True},
        {"input": f"{at}1_test.jpg", **alarm, "role": "board", "inspected": True},
        {"input": f"{at}0_temp.jpg", **alarm, "role": "template", "inspected": True},
        {"input": f"{at}1_temp.jpg", **nothing, "role": "template", "inspected": False},
        {"input": "00002000_temp.jpg", "status": "failed", "failure": {"kind": "unreadable"}},
    ]
    (tmp_path / "final_results.json").write_text(json.dumps({"task": "pcb-inspect", "results": lines}))
    arguments = ["evaluate", str(tmp_path), "--labels", str(folder)]
    document = json.loads(CliRunner().invoke(worker, [*arguments, "--json"]).output)
    pictures = document["pictures"]
    assert (pictures["with_defects"], pictures["missed"]) == (2, 1)
    assert (pictures["without"], pictures["false_alarms"]) == (1, 1)
    assert document["boards"] == 2
    assert document["failed"] == ["00002000_temp.jpg"]
    page = CliRunner().invoke(worker, arguments).output
    assert "2 pictures with defects, 1 of them missed; 1 without, 1 false alarms: precision 0.500" in page
