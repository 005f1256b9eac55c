"""The marks of the real clips agree with each other, and with the labels where these are at hand."""

from __future__ import annotations

import csv
import os
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.marks import COLUMNS, FRAME_HEIGHT, FRAME_WIDTH, FRAMES_PER_S, Clip, Event, Mark, read, read_dada

CLIPS = read_dada()
GHOSTS = [clip for clip in CLIPS if clip.has_ghost]
OTHERS = [clip for clip in CLIPS if not clip.has_ghost]
HEADER = ",".join(COLUMNS)
GOOD = "images_1_001.avi,hazard,1.50,0,0,10,10,rider,nothing,left,high,crosses"


def each(clips: list[Clip]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("clip", clips, ids=[clip.video_id for clip in clips])


def one(clip: Clip, event: Event) -> Mark:
    (mark,) = clip.of(event)
    return mark


def test_all_clips_are_marked() -> None:
    assert (len(GHOSTS), len(OTHERS)) == (11, 13)
    assert [clip.video_id for clip in CLIPS] == sorted(clip.video_id for clip in CLIPS)
    assert all(re.fullmatch(r"images_\d+_\d{3}\.avi", clip.video_id) for clip in CLIPS)


@each(CLIPS)
def test_boxes_lie_in_the_picture(clip: Clip) -> None:
    for mark in clip.marks:
        box = mark.box
        assert 0 <= box.x < box.right <= FRAME_WIDTH, mark
        assert 0 <= box.y < box.bottom <= FRAME_HEIGHT, mark


@each(CLIPS)
def test_times_are_frames_and_run_forward(clip: Clip) -> None:
    times = [mark.time_s for mark in clip.marks]
    assert times == sorted(times)
    assert times == [round(round(time * FRAMES_PER_S) / FRAMES_PER_S, 2) for time in times]
    for kind in Event:
        moments = [mark.time_s for mark in clip.of(kind)]
        assert len(moments) == len(set(moments)), kind


@each(CLIPS)
def test_a_clip_says_in_its_first_row_what_happens(clip: Clip) -> None:
    assert clip.marks[0].note
    assert not any(mark.note for mark in clip.marks[1:])
    hidden = {mark.event for mark in clip.marks if mark.hidden_by}
    assert hidden == ({Event.FIRST_SEEN} if clip.has_ghost else {Event.HAZARD})


@each(GHOSTS)
def test_a_ghost_comes_from_behind_something_and_is_followed_into_the_path(clip: Clip) -> None:
    seen, occluder, enters = (one(clip, e) for e in (Event.FIRST_SEEN, Event.OCCLUDER, Event.ENTERS_PATH))
    assert clip.marks[:2] == (seen, occluder)
    assert seen.time_s == occluder.time_s < enters.time_s
    assert (enters.time_s, enters.box) in [(mark.time_s, mark.box) for mark in clip.of(Event.TRACK)]
    assert not clip.of(Event.HAZARD)


@each(GHOSTS)
def test_a_track_has_no_gaps_and_makes_no_jumps(clip: Clip) -> None:
    for before, after in pairwise(clip.of(Event.FIRST_SEEN, Event.TRACK)):
        assert after.time_s - before.time_s < 0.31
        assert after.box.touches(before.box), after
        assert after.object == before.object


@each(OTHERS)
def test_a_clip_without_a_ghost_has_only_hazards(clip: Clip) -> None:
    assert {mark.event for mark in clip.marks} == {Event.HAZARD}


def test_marks_agree_with_the_labels() -> None:
    root = os.environ.get("WORKER_TEST_DATA")
    if not root:
        pytest.skip("WORKER_TEST_DATA is not set")
    with open(Path(root, "dada", "labels.csv"), encoding="utf-8-sig", newline="") as file:
        labels = {row["video_id"]: row["ground_truth_label"] for row in csv.DictReader(file)}
    assert {clip.video_id: clip.has_ghost for clip in CLIPS} == {
        video_id: label.endswith("ghost probing") for video_id, label in labels.items()
    }
    for clip in GHOSTS:
        labelled_s = float(labels[clip.video_id].partition("s:")[0])
        seen, enters = one(clip, Event.FIRST_SEEN), one(clip, Event.ENTERS_PATH)
        assert seen.time_s - 2 <= labelled_s <= enters.time_s + 2, clip.video_id


def test_a_row_is_read_as_it_stands() -> None:
    (clip,) = read([HEADER, GOOD])
    assert (clip.video_id, clip.has_ghost, clip.label_is_doubtful) == ("images_1_001.avi", False, False)
    (mark,) = clip.marks
    assert (mark.time_s, mark.box.right, mark.side, mark.note) == (1.5, 10, "left", "crosses")


@pytest.mark.parametrize(
    ("good", "wrong"),
    [
        ("hazard", "accident"),
        ("nothing", "fog"),
        ("left", "above"),
        ("high", "sure"),
        ("1.50", ""),
        (",10,", ",ten,"),
    ],
)
def test_an_unknown_word_is_refused_with_its_row(good: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^row 3: "):
        read([HEADER, GOOD, GOOD.replace(good, wrong, 1)])


def test_a_file_with_other_columns_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^columns "):
        read([HEADER.replace("side", "from"), GOOD])
    with pytest.raises(ValueError, match=r"^row 2: "):
        read([HEADER, GOOD + ",more"])
