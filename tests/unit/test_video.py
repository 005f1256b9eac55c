"""What a walk over a video finds, and where it says that a broken one breaks."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests import media
from worker.errors import ItemError
from worker.media.video import VideoFindings, VideoLimits, check_video

LIMITS = VideoLimits(max_pixels=1_000_000, black_luma=20, min_black_s=0.5, min_frozen_s=1.0, damaged_frames=0)
CONTAINERS: dict[str, dict[str, Any]] = {
    "mp4": {"options": media.B_FRAMES, "muxer": media.FASTSTART},
    "mov": {"options": media.B_FRAMES, "muxer": media.FASTSTART},
    "mkv": {"options": media.B_FRAMES},
    "flv": {"options": media.B_FRAMES},
    "webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "avi": {"codec": "mpeg4"},
}


def check(path: Path) -> VideoFindings:
    return check_video(path, LIMITS)[0]


def why(path: Path, limits: VideoLimits = LIMITS) -> ItemError:
    with pytest.raises(ItemError) as caught:
        check_video(path, limits)
    return caught.value


def rounded(stretches: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    return [(round(start, 1), round(end, 1)) for start, end in stretches]


@pytest.mark.parametrize("ending", [*CONTAINERS, "ts", "mpg"])
def test_a_good_file_raises_no_alarm(tmp_path: Path, ending: str) -> None:
    codec = "mpeg2video" if ending == "mpg" else "libx264"
    found = check(media.film(tmp_path / f"a.{ending}", **CONTAINERS.get(ending, {"codec": codec})))
    assert (found.frames, found.width, found.height) == (60, media.WIDTH, media.HEIGHT)
    assert found.frame_rate == 30
    assert not found.variable_frame_rate
    assert found.duration_s == pytest.approx(2.0, abs=0.04)
    assert found.black == found.frozen == ()


@pytest.mark.parametrize("ending", CONTAINERS)
def test_a_truncated_file_fails_with_how_much_is_readable(tmp_path: Path, ending: str) -> None:
    error = why(media.cut(media.film(tmp_path / f"a.{ending}", **CONTAINERS[ending]), 0.55))
    said = re.fullmatch(r"(\d+) of (\d+) frames readable, ([\d.]+) s of ([\d.]+) s", error.message)
    assert error.kind == "truncated"
    assert said
    assert 10 <= int(said[1]) <= 45
    assert int(said[2]) == pytest.approx(60, abs=3)
    assert float(said[3]) == pytest.approx(int(said[1]) / 30, abs=0.1)
    assert float(said[4]) == pytest.approx(2.0, abs=0.15)


def test_an_mp4_that_misses_its_last_frames_only_is_truncated(tmp_path: Path) -> None:
    error = why(media.cut(media.film(tmp_path / "a.mp4", **CONTAINERS["mp4"]), 0.97))
    assert (error.kind, "of 60 frames" in error.message) == ("truncated", True)


def test_an_mp4_cut_before_its_index_is_truncated_not_unknown(tmp_path: Path) -> None:
    error = why(media.cut(media.film(tmp_path / "a.mp4"), 0.5))
    assert error.kind == "truncated"
    assert "moov" in error.message


def test_b_frames_in_avi_are_neither_variable_nor_lost(tmp_path: Path) -> None:
    found = check(media.film(tmp_path / "a.avi", options=media.B_FRAMES))
    assert (found.frames, found.variable_frame_rate, found.frame_rate) == (60, False, 30)


def test_frames_dropped_by_an_avi_recorder_are_no_truncation(tmp_path: Path) -> None:
    times = [n for n in range(60) if n % 10 not in (3, 4)]
    found = check(media.film(tmp_path / "a.avi", codec="mpeg4", times=times))
    assert found.frames == len(times)
    assert found.variable_frame_rate


def test_frames_outside_an_edit_list_are_not_missed(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", frames=90, options=media.B_FRAMES, muxer=media.FASTSTART)
    found = check(media.shown_from(path, start_s=1, length_s=1))
    assert found.frames == 30
    assert found.duration_s == pytest.approx(1.0, abs=0.04)


def test_a_variable_frame_rate_is_told(tmp_path: Path) -> None:
    times = [n * 3 + (n % 3) for n in range(40)]
    found = check(media.film(tmp_path / "a.mp4", times=times))
    assert found.variable_frame_rate
    assert found.frame_rate == pytest.approx(10, rel=0.05)


def test_a_rotated_video_has_the_size_as_shown(tmp_path: Path) -> None:
    found = check(media.film(tmp_path / "a.mp4", rotation=90, frames=10))
    assert (found.rotation, found.width, found.height) == (90, media.HEIGHT, media.WIDTH)


@pytest.mark.parametrize(("codec", "pixels"), [("libx264", "yuv420p"), ("libx265", "yuv420p10le")])
def test_black_is_found_in_8_and_10_bit_and_not_called_frozen(
    tmp_path: Path, codec: str, pixels: str
) -> None:
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = media.film(
        tmp_path / "a.mp4",
        lambda n: media.dark(n) if 20 <= n < 60 else media.moving(n),
        frames=80,
        codec=codec,
        pixels=pixels,
        options=quiet,
    )
    found = check(path)
    assert found.pixel_format == pixels
    assert rounded(found.black) == [(0.7, 2.0)]
    assert found.frozen == ()


def test_a_freeze_is_found_through_keyframes_and_their_noise(tmp_path: Path) -> None:
    path = media.film(
        tmp_path / "a.mp4",
        lambda n: media.moving(min(n, 15) if n < 75 else n - 60),
        frames=100,
        options={"g": "10", "bf": "2"},
    )
    ((start, end),) = check(path).frozen
    assert 0.5 <= start <= 0.7
    assert 2.3 <= end <= 2.54


def test_a_small_thing_moving_before_a_still_wall_is_no_freeze(tmp_path: Path) -> None:
    def bird(n: int) -> media.Drawing:
        wall = media.still(n)
        wall[40:46, 2 * n : 2 * n + 6] = 255
        return wall

    assert check(media.film(tmp_path / "a.mp4", bird)).frozen == ()


@pytest.mark.parametrize("pixels", ["bgr24", "yuv422p", "gray", "rgb24"])
def test_other_pixel_formats_are_measured_too(tmp_path: Path, pixels: str) -> None:
    codec = {"yuv422p": "mjpeg", "gray": "ffv1"}.get(pixels, "rawvideo")
    path = tmp_path / ("a.mkv" if codec == "ffv1" else "a.avi")
    options = {"strict": "-1"} if codec == "mjpeg" else {}
    found = check(media.film(path, media.dark, frames=20, codec=codec, pixels=pixels, options=options))
    assert rounded(found.black) == [(0.0, 0.7)]


def test_an_odd_size_is_reported_as_it_is(tmp_path: Path) -> None:
    found = check(media.film(tmp_path / "a.mp4", size=(101, 75), pixels="yuv444p", frames=10))
    assert (found.width, found.height, found.frames) == (101, 75, 10)


def test_a_hole_in_an_mp4_is_damage_with_its_place(tmp_path: Path) -> None:
    error = why(media.holed(media.film(tmp_path / "a.mp4", **CONTAINERS["mp4"])))
    assert error.kind == "damaged"
    assert re.fullmatch(r"\d+ of 60 frames damaged, the first at [01]\.\d s", error.message)


@pytest.mark.parametrize("ending", ["mkv", "avi"])
def test_a_hole_that_swallows_frames_fails_the_file(tmp_path: Path, ending: str) -> None:
    error = why(media.holed(media.film(tmp_path / f"a.{ending}", **CONTAINERS[ending])))
    assert error.kind in ("damaged", "truncated")
    assert " of 60 frames " in error.message


def test_damage_within_what_is_allowed_is_a_warning(tmp_path: Path) -> None:
    path = media.holed(media.film(tmp_path / "a.mp4", **CONTAINERS["mp4"]))
    assert "frames damaged" in check_video(path, replace(LIMITS, damaged_frames=60))[0].warnings[0]


def test_a_container_that_states_no_length_says_so(tmp_path: Path) -> None:
    assert "states no length" in check(media.film(tmp_path / "a.ts")).warnings[0]


def test_sound_without_a_picture_is_no_video(tmp_path: Path) -> None:
    error = why(media.audio_only(tmp_path / "a.mp4"))
    assert (error.kind, "only sound" in error.message) == ("no-video", True)


def test_sound_is_noticed(tmp_path: Path) -> None:
    assert check(media.film(tmp_path / "a.mp4", tone=True)).has_audio
    assert not check(media.film(tmp_path / "b.mp4")).has_audio


def test_a_codec_nobody_knows_is_named_as_the_reason(tmp_path: Path) -> None:
    path = media.film(tmp_path / "a.mp4", muxer=media.FASTSTART)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert why(path).kind == "unknown-codec"


def test_a_frame_beyond_the_limit_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    small = replace(LIMITS, max_pixels=10_000)
    assert why(media.film(tmp_path / "a.mp4"), small).kind == "too-large"


@pytest.mark.parametrize("garbage", [b"\x00" * 5000, b"hello\n" * 500, bytes(range(256)) * 40])
def test_garbage_is_not_media(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(garbage)
    assert why(path).kind == "not-media"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{good}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{good}'\n",
        '<?xml version="1.0"?><MPD><Period><BaseURL>{good}</BaseURL></Period></MPD>',
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    ],
)
def test_a_playlist_in_disguise_is_not_followed(tmp_path: Path, text: str) -> None:
    good = media.film(tmp_path / "good.ts", frames=10)
    planted = tmp_path / "planted.mp4"
    planted.write_text(text.format(good=good))
    assert why(planted).kind == "not-media"


@pytest.mark.parametrize("name", ["frame %03d.mp4", "中文 路口.mp4", "🚗 a b.mp4", "-i.mp4", "http:x.mp4"])
def test_no_name_is_taken_for_a_pattern_an_option_or_a_url(tmp_path: Path, name: str) -> None:
    plain = media.film(tmp_path / "plain.mp4", frames=10)
    assert check(plain.rename(tmp_path / name)).frames == 10


@pytest.mark.parametrize("muxer", [{}, {"live": "1"}])
def test_sheet_frames_are_evenly_spaced_even_when_the_length_is_unknown(
    tmp_path: Path, muxer: dict[str, str]
) -> None:
    path = media.film(tmp_path / "a.mkv", frames=300, muxer=muxer)
    thumbs = check_video(path, LIMITS, 4)[1]
    gaps = [b.time - a.time for a, b in pairwise(thumbs)]
    assert 4 <= len(thumbs) < 8
    assert max(gaps) - min(gaps) < 0.08
    assert thumbs[-1].time > 7
