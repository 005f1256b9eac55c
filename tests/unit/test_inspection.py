"""Pictures that are of no use are found before the training, and it goes on without them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from tests import lessons
from worker.classification import datasets, inspection
from worker.classification.inspection import LeftOut
from worker.classification.teaching import Teaching
from worker.errors import ItemError, UnfitError
from worker.training.world import World


def never() -> None:
    pass


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    return lessons.draw(tmp_path / "colours", 3, 2)


def sets(folder: Path) -> inspection.Sets:
    return {(part, "colours"): datasets.read(folder / part) for part in ("train", "test")}


def test_what_is_torn_or_in_a_test_too_is_left_out(colours: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (colours / "train" / "red" / "1.png").read_bytes()
    (colours / "train" / "red" / "1.png").write_bytes(whole[: len(whole) // 2])
    (colours / "train" / "blue" / "2.png").write_bytes((colours / "test" / "blue" / "0.png").read_bytes())
    there = sets(colours)
    found = inspection.look(there, ["blue", "red"], never)
    assert found == [
        LeftOut("train", "colours", "blue/2.png", "blue", "in-a-test"),
        LeftOut("train", "colours", "red/1.png", "red", "damaged"),
    ]
    assert inspection.read(inspection.written(found)) == found
    kept = inspection.without(there, found)
    assert [one.name for one in kept["train", "colours"]] == [
        "blue/0.png",
        "blue/1.png",
        "red/0.png",
        "red/2.png",
    ]
    assert len(kept["test", "colours"]) == 4
    inspection.require_most(there, found, 1 / 3)
    assert "train colours: 2 of 6 pictures are of no use (1 in-a-test, 1 damaged): blue/2.png" in caplog.text
    with pytest.raises(ItemError, match=r"2 of 6 pictures .*left_out_most"):
        inspection.require_most(there, found, 0.3)


def test_a_line_of_a_csv_costs_itself_alone(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes((colours / "train" / "red" / "0.png").read_bytes())
    table = colours / "table.csv"
    table.write_text(
        "file,label\ntrain/red/0.png,red\n../secret.png,red\ngone.png,red\ntrain/red/1.png,read\ntrain/red/2.png\n"
        "\ntrain/blue/0.png,blue\n/etc/passwd,blue\n"
    )
    rows = datasets.read(table)
    found = inspection.look({("train", "table"): rows}, ["blue", "red"], never)
    assert [(one.picture, one.why) for one in found] == [
        ("../secret.png", "outside-root"),
        ("gone.png", "absent"),
        ("train/red/1.png", "unknown-class"),
        ("train/red/2.png", "no-class"),
        ("/etc/passwd", "outside-root"),
    ]
    wider = inspection.look({("train", "table"): datasets.read(table, tmp_path)}, ["blue", "red"], never)
    assert wider[0].why == "absent"  # for names are seen from that folder then


def test_who_goes_on_looks_at_no_picture_again(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    file = lessons.write(tmp_path)
    (tmp_path / "colours" / "train" / "red" / "0.png").write_bytes(b"")
    teaching = Teaching.of(file, "", "", "cpu")
    looked: list[int] = []
    first = teaching.inspected(None, lambda: looked.append(1))
    assert looked
    assert [one.picture for one in inspection.read(first.left_out or "")] == ["red/0.png"]
    looked.clear()
    (tmp_path / "checkpoint" / "record").mkdir(parents=True)
    for name, text in first.beside.items():
        (tmp_path / "checkpoint" / "record" / name).write_text(text)
    again = teaching.inspected(tmp_path / "checkpoint", lambda: looked.append(1))
    assert not looked
    names = [[row.name for row in one.train["colours"]] for one in (first, again)]
    assert names[0] == names[1]
    assert len(names[0]) == 47


class Second(World):
    """Hears what the first one has said."""

    heard: ClassVar[list[str]] = []

    def tell(self, said: str) -> str:  # noqa: ARG002
        return self.heard.pop(0)


class First(World):
    def tell(self, said: str) -> str:
        Second.heard.append(said)
        return said


def test_of_several_processes_the_first_looks_and_its_word_counts(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    file = lessons.write(tmp_path)
    broken = tmp_path / "colours" / "train" / "red" / "0.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    first = Teaching.of(file, "", "", "cpu").inspected(None, lambda: None, First(0, 2))
    broken.write_bytes(whole)  # as if another one had had more luck with it
    second = Teaching.of(file, "", "", "cpu").inspected(None, pytest.fail, Second(1, 2))
    names = [[row.name for row in one.train["colours"]] for one in (first, second)]
    assert names[0] == names[1]
    assert "red/0.png" not in names[0]
    first.inspected(None, lambda: None, First(0, 2))
    with pytest.raises(UnfitError, match="not those that the first process has"):
        Teaching.of(file, "", "", "cpu").inspected(None, pytest.fail, Second(1, 2))
    Second.heard.clear()


def test_a_class_without_pictures_to_learn_from_is_told(
    colours: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    inspection.tell_empty(sets(colours), ["blue", "green", "red"])
    assert "1 classes have no picture to learn from: green" in caplog.text


def test_a_picture_with_too_many_pixels_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    Image.new("1", (20_000, 20_000)).save(tmp_path / "red" / "bomb.png")
    (row,) = datasets.read(tmp_path)
    with pytest.raises(ItemError, match="make it smaller"):
        row.open()
    assert [one.why for one in inspection.look({("train", "a"): [row]}, ["red"], never)] == ["too-large"]
