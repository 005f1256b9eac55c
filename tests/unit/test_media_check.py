"""The task as a person sees it: answers, failures, the summary and the table."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from tests import media
from worker.errors import ItemError
from worker.items import Answer, Item, Json, Result
from worker.tasks.media_check import MediaCheck, MediaCheckParams


def prepare(path: Path, **params: Json) -> Answer:
    return MediaCheck(MediaCheckParams()).prepare(Item("id", path.name, params=params, file=path))


def test_the_answer_for_a_video_is_plain_json(tmp_path: Path) -> None:
    keys = prepare(media.film(tmp_path / "a.mp4", frames=30, tone=True)).keys
    assert json.loads(json.dumps(keys)) == {
        "kind": "video",
        "container": "mp4",
        "codec": "h264",
        "width": media.WIDTH,
        "height": media.HEIGHT,
        "rotation": 0,
        "frame_rate": 30.0,
        "variable_frame_rate": False,
        "frames": 30,
        "duration_s": 1.0,
        "has_audio": True,
        "pixel_format": "yuv420p",
        "black": [],
        "frozen": [],
        "warnings": [],
    }


def test_the_answer_for_a_picture_is_plain_json(tmp_path: Path) -> None:
    keys = prepare(media.turned_jpeg(tmp_path / "a.jpg", 6)).keys
    assert json.loads(json.dumps(keys)) == {
        "kind": "picture",
        "format": "JPEG",
        "width": 48,
        "height": 64,
        "mode": "RGB",
        "rotation": 90,
        "mirrored": False,
        "frames": 1,
        "black": False,
        "uniform": False,
        "warnings": [],
    }


def test_the_same_file_gives_the_same_answer_twice(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", options=media.B_FRAMES)
    assert prepare(path, contact_sheet=True) == prepare(path, contact_sheet=True)


def test_an_empty_file_fails_as_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ItemError) as caught:
        prepare(tmp_path / "a.mp4")
    assert caught.value.kind == "empty"


def test_a_lying_name_is_told_by_content_with_a_warning(tmp_path: Path) -> None:
    jpeg = media.picture(tmp_path / "a.jpg").rename(tmp_path / "a.png")
    film = media.film(tmp_path / "b.mp4", frames=5).rename(tmp_path / "b.JPG")
    assert prepare(jpeg).keys["warnings"] == ["it is named .png but holds JPEG"]
    assert prepare(film).keys["warnings"] == ["it is named .jpg but holds mp4"]
    assert prepare(film).keys["kind"] == "video"


def test_a_contact_sheet_is_drawn_only_on_request(tmp_path: Path) -> None:
    film = media.film(tmp_path / "a.mp4", rotation=90)
    assert prepare(film).files == {}
    sheet = prepare(film, contact_sheet=True, sheet_frames=6).files["contact_sheet.jpg"]
    width, height = Image.open(io.BytesIO(sheet)).size
    assert height < width <= 1200


def test_a_film_of_one_frame_has_a_sheet_too(tmp_path: Path) -> None:
    film = media.film(tmp_path / "a.mp4", frames=1)
    assert "contact_sheet.jpg" in prepare(film, contact_sheet=True).files


def test_an_items_own_params_go_over_those_of_the_recipe(tmp_path: Path) -> None:
    film = media.film(tmp_path / "a.mp4", media.dark)
    assert prepare(film).keys["black"] == [[0.0, 2.0]]
    assert prepare(film, min_black_s=3).keys["black"] == []


def test_the_summary_counts_what_was_found(tmp_path: Path) -> None:
    paths = [
        media.film(tmp_path / "a.mp4"),
        media.film(tmp_path / "b.avi", media.dark, codec="mpeg4", rate=25, frames=50),
        media.turned_jpeg(tmp_path / "c.jpg", 6),
    ]
    task = MediaCheck(MediaCheckParams())
    results = [Result("id", p.name, prepare(p)) for p in paths]
    summary = task.summarise(results)
    assert summary == task.summarise(reversed(results))
    assert summary["kinds"] == {"picture": 1, "video": 2}
    assert summary["codecs"] == {"h264": 1, "mpeg4": 1}
    assert summary["frame_rates"] == {"25": 1, "30": 1}
    assert summary["sizes"] == {"160x96": 2, "48x64": 1}
    assert (summary["duration_s"], summary["with_black"], summary["rotated"]) == (4.0, 1, 1)


def test_the_table_says_in_words_what_is_odd(tmp_path: Path) -> None:
    film = media.film(tmp_path / "a.avi", media.dark, codec="mpeg4")
    row = MediaCheck(MediaCheckParams()).row(Result("id", "a.avi", prepare(film)))
    assert row == {
        "Kind": "video",
        "Codec": "mpeg4",
        "Size": "160x96",
        "Rate": "30",
        "Duration": "2.0 s",
        "Notes": "black 0–2 s",
    }


@pytest.mark.parametrize("wrong", [{"sheet_frames": 0}, {"black_luma": 300}, {"min_black_s": 0}, {"typo": 1}])
def test_senseless_params_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        MediaCheckParams.model_validate(wrong)


def test_importing_the_task_loads_no_decoder() -> None:
    code = "import sys, worker.tasks.media_check as m; print({'av', 'PIL', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("folder", ["dada", "deeppcb", "cifar10/test"])
def test_real_files_raise_no_false_alarm(folder: str) -> None:
    root = os.environ.get("WORKER_TEST_DATA")
    if not root:
        pytest.skip("WORKER_TEST_DATA is not set")
    endings = MediaCheck.suffixes
    files = [p for p in sorted(Path(root, folder).rglob("*")) if p.suffix.lower() in endings][:60]
    answers = [prepare(p).keys for p in files]
    assert answers
    assert [k["warnings"] for k in answers if k["warnings"]] == []
    assert [k for k in answers if k.get("frozen") or k.get("variable_frame_rate")] == []
