"""Clips cut out of films, and frames with boxes on them."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests import media
from worker.errors import ItemError
from worker.media import evidence
from worker.media.evidence import Box, clip, drawn
from worker.media.sampling import sample

GREY = np.full((300, 400, 3), 90, np.uint8)


def picture(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def film_of(data: bytes, folder: Path) -> Path:
    (folder / "clip.mp4").write_bytes(data)
    return folder / "clip.mp4"


def test_a_clip_is_what_was_shown_then(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", frames=90, options=media.B_FRAMES)
    cut = sample(film_of(clip(path, 1.0, 2.0), tmp_path), fps=10.0)
    whole = sample(path, fps=10.0)
    assert cut.times == pytest.approx([n / 10 for n in range(10)])
    differences = np.abs(cut.frames.astype(int) - whole.frames[10:20].astype(int)).mean(axis=(1, 2, 3))
    others = np.abs(cut.frames.astype(int) - whole.frames[11:21].astype(int)).mean(axis=(1, 2, 3))
    assert (differences < others / 2).all()


def test_a_clip_keeps_the_pace_of_an_unsteady_film(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", times=[0, 2, 12, 13, 14, 40, 41, 44])
    cut = sample(film_of(clip(path, 0.0, 1.4, fps=30), tmp_path), fps=30)
    assert [b - a for a, b in pairwise(cut.times)] == pytest.approx(
        [n / 30 for n in (2, 10, 1, 1, 26, 1)], abs=1e-3
    )


@pytest.mark.parametrize(
    ("size", "width", "expected"), [((160, 96), 64, (64, 38)), ((101, 75), 640, (100, 76))]
)
def test_a_clip_is_no_wider_than_asked_and_never_widened(
    tmp_path: Path, size: tuple[int, int], width: int, expected: tuple[int, int]
) -> None:
    path = media.film(tmp_path / "a.mp4", size=size, pixels="yuv444p", frames=20)
    assert sample(film_of(clip(path, 0.0, 0.5, width=width), tmp_path), n=1).frames.shape[2:0:-1] == expected


@pytest.mark.parametrize("codec", evidence._ENCODERS)
def test_a_clip_is_the_same_every_time(tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = media.film(tmp_path / "a.mp4")
    monkeypatch.setattr(evidence.av, "codecs_available", {codec})
    data = clip(path, 0.5, 1.0)
    assert data == clip(path, 0.5, 1.0)
    with av.open(io.BytesIO(data)) as container:
        assert (
            container.streams.video[0].codec_context.codec.canonical_name
            == {
                "libx264": "h264",
                "mpeg4": "mpeg4",
            }[codec]
        )


def test_a_clip_of_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=r"from 7\.0 s on"):
        clip(media.film(tmp_path / "a.mp4"), 7.0, 9.0)


def test_boxes_are_drawn_where_they_belong() -> None:
    found = picture(drawn(GREY, [Box(0.25, 0.5, 0.75, 0.9, colour=(255, 0, 0))]))
    reddish = np.argwhere((found[..., 0] > 150) & (found[..., 1] < 100))
    assert reddish.min(axis=0) == pytest.approx([150, 100], abs=3)
    assert reddish.max(axis=0) == pytest.approx([270, 300], abs=3)
    assert abs(found[200, 200] - 90).max() < 10


def test_a_large_frame_is_made_smaller_and_its_boxes_with_it() -> None:
    found = picture(drawn(GREY, [Box(0, 0.5, 0.5, 1, colour=(255, 0, 0))], width=200))
    assert found.shape == (150, 200, 3)
    assert np.argwhere(found[..., 0] > 150)[:, 1].max() == pytest.approx(100, abs=3)


@pytest.mark.parametrize("label", ["rider 0.83", "骑车人"])
@pytest.mark.parametrize("top", [0.0, 0.5])
def test_a_label_stands_inside_of_the_picture(label: str, top: float) -> None:
    plain = picture(drawn(GREY, [Box(0.8, top, 1, 0.9)]))
    if not evidence._chinese(13) and not label.isascii():
        pytest.skip("no Chinese font on this system")
    assert (abs(picture(drawn(GREY, [Box(0.8, top, 1, 0.9, label)])) - plain) > 60).sum() > 100


def test_without_a_chinese_font_the_rest_of_a_label_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_chinese", lambda _size: None)
    one, other, none = (
        drawn(GREY, [Box(0.2, 0.4, 0.6, 0.9, label)]) for label in ("骑车人0.83", "0.83", "骑车人")
    )
    assert one == other
    assert none == drawn(GREY, [Box(0.2, 0.4, 0.6, 0.9)])


def test_a_caption_is_written_at_the_foot() -> None:
    changed = np.argwhere(abs(picture(drawn(GREY, caption="12.4 s")) - 90).max(axis=2) > 60)
    assert changed[:, 0].min() > 250
