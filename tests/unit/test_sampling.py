"""Frames of a film are those of a full decode, bit for bit, whatever the film is like."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import media
from tests.films import FILMS
from worker.errors import ItemError
from worker.media import packets, sampling
from worker.media.film import Film
from worker.media.rgb import ToRgb
from worker.media.sampling import Frames, sample
from worker.media.video import VideoLimits, check_video

LIMITS = VideoLimits(max_pixels=1_000_000, black_luma=20, min_black_s=0.5, min_frozen_s=1.0, damaged_frames=9)


def same_as_full_decode(path: Path, found: Frames) -> bool:
    whole, to_rgb = media.all_frames(path), ToRgb()
    assert found.total == len(whole)
    assert found.times == tuple(whole[n][0] for n in found.numbers)
    return all(
        np.array_equal(to_rgb(whole[n][1]), frame)
        for n, frame in zip(found.numbers, found.frames, strict=True)
    )


def why(path: Path, **options: Any) -> ItemError:
    with pytest.raises(ItemError) as caught:
        sample(path, **{"n": 8, **options})
    return caught.value


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every packet that is given to a decoder."""
    given: list[object] = []
    decode = Film.decode

    def counted(film: Film, packet: Any, **options: Any) -> Any:
        given.append(packet)
        return decode(film, packet, **options)

    monkeypatch.setattr(Film, "decode", counted)
    return given


@pytest.mark.parametrize("name", FILMS)
def test_frames_are_those_of_a_full_decode(tmp_path: Path, name: str) -> None:
    path = FILMS[name](tmp_path)
    for wish in ({"n": 7}, {"n": 100}, {"fps": 4.0}):
        assert same_as_full_decode(path, sample(path, **wish)), wish


def test_only_what_is_needed_is_decoded(tmp_path: Path, decoded: list[object]) -> None:
    path = media.film(tmp_path / "a.mp4", frames=200, options={"g": "10"})
    assert sample(path, n=2).numbers == (49, 149)
    assert len(decoded) <= 2 * (10 + 1)  # no further than the end of each one's GOP, and what was held back


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_frames_are_turned_as_the_file_asks(tmp_path: Path, rotation: int) -> None:
    plain = sample(media.film(tmp_path / "a.mp4"), n=3).frames
    turned = sample(media.film(tmp_path / "b.mp4", rotation=rotation), n=3).frames
    assert np.array_equal(np.rot90(plain, -rotation // 90, (1, 2)), turned)


def test_a_size_is_the_size_as_shown(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", rotation=90)
    assert sample(path, n=2, size=(24, 40)).frames.shape == (2, 40, 24, 3)
    assert sample(path, n=2, size=lambda w, h: (w // 2, h // 4)).frames.shape == (2, 40, 48, 3)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_white_is_white_when_scaled(tmp_path: Path, pixels: str) -> None:
    def white(_n: int) -> media.Drawing:
        return np.full((media.HEIGHT, media.WIDTH, 3), 255, np.uint8)

    path = media.film(tmp_path / "a.mp4", white, frames=3, pixels=pixels)
    assert sample(path, n=1, size=(64, 40)).frames.min() >= 254


def test_a_scaled_frame_is_near_to_pillows_of_the_whole(tmp_path: Path) -> None:
    def fields(n: int) -> media.Drawing:
        return np.kron(media.moving(n)[::8, ::8], np.ones((8, 8, 1), np.uint8))

    path = media.film(tmp_path / "a.mp4", fields, frames=5)
    whole = sample(path, n=5).frames
    pillow = [Image.fromarray(frame).resize((70, 42), Image.Resampling.BICUBIC) for frame in whole]
    difference = np.stack(pillow).astype(float) - sample(path, n=5, size=(70, 42)).frames
    assert 20 * np.log10(255 / np.sqrt((difference**2).mean())) > 38  # swscale's own defaults: 28


@pytest.mark.parametrize("size", [(70, 42), (224, 112), (29, 200)])
@pytest.mark.parametrize("rotation", [0, 90])
def test_a_sharply_scaled_frame_is_torchs_of_the_whole_in_whole_levels(
    tmp_path: Path, size: tuple[int, int], rotation: int
) -> None:
    """The whole as swscale gives it unasked: to the bit what decord reads."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    path = media.film(tmp_path / "a.mp4", frames=5, rotation=rotation)
    found, plain = (sample(path, n=5, size=size, sharp=sharp) for sharp in (True, False))
    shown = [one.to_ndarray(format="rgb24") for _, one in media.all_frames(path)]
    whole = [np.rot90(shown[number], -rotation // 90) for number in found.numbers]
    given = torch.from_numpy(np.stack(whole)).permute(0, 3, 1, 2).float()
    theirs = torch.nn.functional.interpolate(given, size=size[::-1], mode="bicubic", align_corners=False)
    theirs = theirs.permute(0, 2, 3, 1)
    assert np.abs(theirs.clamp(0, 255).numpy() - found.frames).max() < 0.51
    assert np.abs(theirs.numpy() - plain.frames).mean() > 1


def test_a_colour_matrix_nobody_knows_is_no_reason_to_fail(tmp_path: Path) -> None:
    plain = media.film(tmp_path / "a.mp4", frames=3)
    strange = media.film(tmp_path / "b.mp4", frames=3, options={"x264-params": "colormatrix=YCgCo"})
    assert np.array_equal(sample(plain, n=3).frames, sample(strange, n=3).frames)


def test_a_film_with_fewer_frames_than_asked_says_which_come_twice(tmp_path: Path) -> None:
    found = sample(media.film(tmp_path / "a.mp4", frames=3), n=6)
    assert (found.numbers, found.distinct, found.total) == ((0, 0, 1, 1, 1, 2), 3, 3)
    assert np.array_equal(found.frames[2], found.frames[4])
    assert found.partial is None


TRUNCATED: dict[str, dict[str, Any]] = {
    "mp4": {"options": media.B_FRAMES, "muxer": media.FASTSTART},
    "mkv": {"options": media.B_FRAMES},
    "avi": {"codec": "mpeg4"},
}


@pytest.mark.parametrize("ending", TRUNCATED)
def test_a_truncated_film_is_refused_or_taken_for_what_it_is(tmp_path: Path, ending: str) -> None:
    path = media.cut(media.film(tmp_path / f"a.{ending}", **TRUNCATED[ending]), 0.55)
    error = why(path)
    with pytest.raises(ItemError) as checked:
        check_video(path, LIMITS)
    assert (error.kind, error.message) == ("truncated", checked.value.message)
    part = sample(path, n=8, allow_partial=True)
    assert part.partial == error.message
    assert f"{part.total} of " in error.message


def test_sound_that_goes_on_behind_the_picture_is_no_truncation(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", frames=30, tone=True, muxer=media.FASTSTART)
    assert sample(path, n=4).total == 30


def test_damage_is_refused_or_told(tmp_path: Path) -> None:
    path = media.holed(media.film(tmp_path / "a.mp4", options=media.B_FRAMES, muxer=media.FASTSTART))
    error = why(path, n=60)
    assert error.kind == "damaged"
    assert re.fullmatch(r"\d+ of 60 frames damaged, the first at [01]\.\d s", error.message)
    part = sample(path, n=60, allow_partial=True)
    assert part.partial
    assert "damaged" in part.partial
    assert len(part.frames) == 60


BAD: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "empty": (lambda path: path.touch(), "empty", "0 bytes"),
    "garbage": (lambda path: path.write_bytes(bytes(range(256)) * 40), "not-media", "neither"),
    "a web page": (lambda path: path.write_text("<html>gone</html>"), "not-media", "neither"),
    "sound alone": (media.audio_only, "no-video", "only sound"),
    "no index": (lambda path: media.cut(media.film(path), 0.5), "truncated", "moov"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_film_says_why(tmp_path: Path, name: str) -> None:
    make, kind, part = BAD[name]
    make(tmp_path / "a.mp4")
    error = why(tmp_path / "a.mp4")
    assert error.kind == kind
    assert part in error.message


def test_frames_that_fill_all_memory_are_refused_before_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_MOST_BYTES", 4 * media.WIDTH * media.HEIGHT * 3)
    path = media.film(tmp_path / "a.mp4")
    assert len(sample(path, n=4).frames) == 4
    assert why(path, n=5).kind == "too-large"


def test_a_film_without_end_is_refused_before_it_fills_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media.film(tmp_path / "a.mp4")
    monkeypatch.setattr(packets, "_MOST", 60)
    assert sample(path, n=4).total == 60
    monkeypatch.setattr(packets, "_MOST", 59)
    assert why(path).kind == "too-long"


def test_a_picture_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    assert why(media.film(tmp_path / "a.mp4"), max_pixels=10_000).kind == "too-large"


@pytest.mark.parametrize("wish", [{}, {"n": 3, "fps": 2.0}, {"n": 0}, {"fps": 0.0}])
def test_one_has_to_say_how_many(tmp_path: Path, wish: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="how many"):
        sample(tmp_path / "a.mp4", **wish)


def test_real_clips_give_the_frames_of_a_full_decode() -> None:
    root = os.environ.get("WORKER_TEST_DATA")
    if not root:
        pytest.skip("WORKER_TEST_DATA is not set")
    clips = sorted(Path(root, "dada").glob("*.avi"))[:4]
    assert clips
    for clip in clips:
        assert same_as_full_decode(clip, sample(clip, n=16))
