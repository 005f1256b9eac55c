"""A film one frame after the other: the same frames that sampling takes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests import media
from tests.films import FILMS
from worker.errors import ItemError
from worker.media.rgb import ToRgb
from worker.media.sampling import sample
from worker.media.streaming import Stream


@pytest.mark.parametrize("name", FILMS)
def test_a_stream_has_the_frames_of_a_sample(tmp_path: Path, name: str) -> None:
    path = FILMS[name](tmp_path)
    found = sample(path, fps=4.0)
    times, frames = zip(*Stream(path, fps=4.0), strict=True)
    assert times == found.times
    assert np.array_equal(np.stack(frames), found.frames)


@pytest.mark.parametrize("name", FILMS)
def test_a_stretch_has_the_frames_shown_then(tmp_path: Path, name: str) -> None:
    path, to_rgb = FILMS[name](tmp_path), ToRgb()
    whole = media.all_frames(path)
    start = whole[len(whole) // 2][0]
    points = [point for n in range(4) if (point := start + n / 5) <= whole[-1][0]]
    shown = dict.fromkeys(max(i for i, (time, _) in enumerate(whole) if time <= p + 1e-3) for p in points)
    stretch = list(Stream(path, fps=5.0, from_s=start, to_s=points[-1] + 0.01))
    assert [time for time, _ in stretch] == [whole[n][0] for n in shown]
    for n, (_, frame) in zip(shown, stretch, strict=True):
        assert np.array_equal(to_rgb(whole[n][1]), frame)


@pytest.mark.parametrize("name", FILMS)
def test_of_told_times_what_is_shown_then_is_converted_and_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, to_rgb = FILMS[name](tmp_path), ToRgb()
    whole = media.all_frames(path)
    chosen = sorted({len(whole) // 3, len(whole) // 2, len(whole) - 1})
    converted: list[object] = []
    monkeypatch.setattr(
        "worker.media.streaming.ToRgb", lambda *_, **__: lambda one: converted.append(one) or to_rgb(one)
    )
    stretch = list(Stream(path, at=[whole[n][0] for n in chosen], allow_partial=True))
    assert [time for time, _ in stretch] == [whole[n][0] for n in chosen]
    for n, (_, frame) in zip(chosen, stretch, strict=True):
        assert np.array_equal(to_rgb(whole[n][1]), frame)
    assert len(converted) == len(chosen)


def test_a_stretch_begins_with_what_is_shown_then(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", times=[0, 10, 50, 60, 70], options=media.B_FRAMES)
    assert [round(time, 3) for time, _ in Stream(path, fps=30.0, from_s=1.0, to_s=2.1)] == [0.333, 1.667, 2.0]


def test_no_more_than_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", frames=300, options={"g": "30"}, muxer=media.FASTSTART)
    whole = sample(path, fps=10.0)
    path.write_bytes(path.read_bytes()[:-2000])
    first = [frame for _, frame in islice(Stream(path, fps=10.0), 5)]
    assert np.array_equal(np.stack(first), whole.frames[:5])


def test_a_truncated_film_ends_in_an_error_or_says_so(tmp_path: Path) -> None:
    path = media.cut(media.film(tmp_path / "a.mp4", options=media.B_FRAMES, muxer=media.FASTSTART), 0.6)
    seen: list[tuple[float, object]] = []
    with pytest.raises(ItemError, match=r"of 60 frames readable, 1\.\d s of 2\.0 s") as caught:
        seen.extend(Stream(path))
    assert caught.value.kind == "truncated"
    assert len(seen) > 5
    part = Stream(path, allow_partial=True)
    assert [time for time, _ in part] == [time for time, _ in seen]
    assert part.partial
    assert "of 60 frames readable" in part.partial


def test_damage_is_an_error_or_told(tmp_path: Path) -> None:
    path = media.holed(media.film(tmp_path / "a.mp4", options=media.B_FRAMES, muxer=media.FASTSTART))
    with pytest.raises(ItemError, match="frames damaged") as caught:
        list(Stream(path))
    assert caught.value.kind == "damaged"
    part = Stream(path, allow_partial=True)
    assert list(part)
    assert part.partial
    assert "frames damaged" in part.partial


def test_a_stretch_behind_the_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=r"from 9\.0 s on") as caught:
        list(Stream(media.film(tmp_path / "a.mp4"), from_s=9.0, to_s=10.0))
    assert caught.value.kind == "damaged"


def test_frames_are_as_large_as_wished(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", rotation=90)
    frames = [frame for _, frame in Stream(path, size=(24, 40))]
    assert {frame.shape for frame in frames} == {(40, 24, 3)}
    assert all(frame.flags.c_contiguous for frame in frames)
