"""The engine: a model's file in, incidents out. The model here answers the same to every picture."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker.enqueue
from tests import media
from tests.onnx_file import constant_model
from worker.engines.choice import Choice
from worker.engines.coco import Seen
from worker.engines.detector import Detector, Net, boxes, parts
from worker.enqueue import Enqueued, Wanted
from worker.errors import MachineError, UsageError
from worker.ghosts.tracking import TOLD_S
from worker.media.rgb import Rgb
from worker.queue.store import open_store

BLACK = np.zeros((480, 640, 3), np.uint8)


@pytest.fixture(scope="module")
def runtime() -> None:
    pytest.importorskip("onnxruntime")


@pytest.fixture
def one_person(runtime: None, tmp_path: Path) -> Path:  # noqa: ARG001
    """A YOLOv8 that sees a person in the middle of every picture."""
    output = np.zeros((1, 84, 20), np.float32)
    output[0, :5, 3] = 32, 32, 8, 16, 0.9
    return constant_model(tmp_path / "one.onnx", output)


def test_a_wide_picture_is_looked_at_in_parts_that_overlap_and_cover_it() -> None:
    assert parts(1584, 660) == [(0, 880), (704, 1584)]
    assert parts(1920, 1080) == [(0, 1440), (480, 1920)]
    assert parts(640, 480) == []
    assert parts(480, 640) == []


def test_a_box_of_a_part_lies_where_it_is_in_the_whole() -> None:
    seen = Seen(np.array([[0.5, 0.5, 0.1, 0.2]]), np.array([0.8]), np.array([0]))
    (one,) = boxes(seen, 704, 1584, 1584, 660)
    assert one.label == "person"
    assert (one.box.left, one.box.top, one.box.width, one.box.height) == pytest.approx((1144, 330, 88, 132))


def test_what_a_part_cuts_off_is_left_to_the_other() -> None:
    """Not at the picture's own border: nothing of it is behind that."""
    at_left = Seen(np.array([[0.0, 0.5, 0.1, 0.2]]), np.array([0.8]), np.array([0]))
    assert list(boxes(at_left, 704, 1584, 1584, 660)) == []
    assert len(list(boxes(at_left, 0, 880, 1584, 660))) == 1


def test_nobody_is_wider_than_high_and_nothing_fills_the_picture() -> None:
    wide = Seen(
        np.array([[0.3, 0.5, 0.3, 0.2], [0.3, 0.5, 0.3, 0.2]]), np.array([0.8, 0.8]), np.array([0, 2])
    )
    assert [one.label for one in boxes(wide, 0, 1584, 1584, 660)] == ["car"]
    whole = Seen(np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([0.8]), np.array([2]))
    assert list(boxes(whole, 0, 1584, 1584, 660)) == []


def test_a_model_is_asked_about_any_size(one_person: Path) -> None:
    for shape in ((660, 1584, 3), (48, 64, 3)):
        seen = Net(one_person, "a model").ask(np.zeros(shape, np.uint8))
        assert seen.boxes[0] == pytest.approx((0.4375, 0.375, 0.125, 0.25))


def test_who_stands_before_the_car_from_the_first_frame_is_no_ghost(one_person: Path) -> None:
    engine = opened(one_person)
    watched = engine.watch((n / 10, BLACK) for n in range(20))
    assert watched is not None
    assert {path.track.since_s for path in watched.ways} == {0.0}
    assert engine.find(((n / 10, BLACK) for n in range(20)), "high") == []


def test_a_clip_without_a_frame_has_no_incident(one_person: Path) -> None:
    assert opened(one_person).find([], "high") == []


def test_two_clips_know_nothing_of_each_other(one_person: Path) -> None:
    engine = opened(one_person)
    first, second = (engine.watch((n / 10, BLACK) for n in range(5)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert [one.track.times for one in first.ways] == [one.track.times for one in second.ways]


def test_a_track_is_handed_out_while_the_clip_goes_on(one_person: Path) -> None:
    """So that no more than the last seconds of it are held."""
    shown = []

    def frames() -> Iterator[tuple[float, Rgb]]:
        for n in range(100):
            shown.append(n / 10)
            yield n / 10, BLACK

    watched = opened(one_person).watch(frames())
    assert watched is not None
    assert next(iter(watched.ways)).track.since_s == 0
    assert shown[-1] < TOLD_S + 0.5


def opened(file: Path) -> Detector:
    engine = Detector(Choice("detector", file.name, "", file))
    engine.open("cpu")
    return engine


def test_without_a_file_it_says_what_it_needs() -> None:
    with pytest.raises(UsageError, match="needs --model"):
        Detector(Choice("detector")).open("cpu")


@pytest.mark.usefixtures("runtime")
def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "notes.onnx"
    file.write_text("no model")
    with pytest.raises(UsageError, match="is no ONNX model") as refused:
        opened(file)
    assert "\n" not in str(refused.value)


def enqueue(queue: Path, model: Path) -> Enqueued:
    film = media.film(queue.with_name("a.mp4"))
    wanted = Wanted("ghost-probing", model=str(model))
    return worker.enqueue.enqueue(open_store(str(queue), make=True), wanted, [str(film)], None)


@pytest.mark.usefixtures("runtime")
def test_a_model_that_is_none_of_ours_is_noticed_before_anything_is_frozen(tmp_path: Path) -> None:
    queue, junk = tmp_path / "queue", tmp_path / "junk.onnx"
    junk.write_text("no model")
    other = constant_model(tmp_path / "other.onnx", np.zeros((1, 7), np.float32))
    for model, says in ((junk, "is no ONNX model"), (other, "a model whose output is 1x7 is not known")):
        with pytest.raises(UsageError, match=f"^--model {model}.*{says}"):
            enqueue(queue, model)
        assert not [*queue.rglob("*.*")]


def test_a_model_of_ours_travels_with_the_queue(one_person: Path, tmp_path: Path) -> None:
    assert enqueue(tmp_path / "queue", one_person).added.new == 1


def test_a_missing_runtime_is_told_where_a_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = constant_model(tmp_path / "one.onnx", np.zeros((1, 84, 20), np.float32))
    with pytest.raises(MachineError, match=r"needs onnxruntime: .* -r env/locks/detector\.txt"):
        enqueue(tmp_path / "queue", model)


@pytest.mark.usefixtures("runtime")
def test_a_model_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="whose output is 1x1000 is not known"):
        opened(constant_model(tmp_path / "classes.onnx", np.zeros((1, 1000), np.float32)))
    with pytest.raises(UsageError, match="not one picture"):
        opened(constant_model(tmp_path / "sound.onnx", np.zeros((1, 84, 20), np.float32), shape=(1, 16000)))
