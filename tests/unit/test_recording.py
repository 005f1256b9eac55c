"""A stream becomes windows that overlap: every frame is in one of them, and is the frame that it was."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av import Packet, VideoStream

from tests import media
from worker.errors import UsageError
from worker.media.recording import Windows, record
from worker.media.rgb import Rgb
from worker.media.stamp import began_at

STREAMS = {
    "B-frames in mpegts": {"path": "a.ts", "options": {"g": "15", "bf": "2", "sc_threshold": "0"}},
    "open GOPs": {"path": "a.ts", "options": {"bf": "2", "x264-params": "open-gop=1:keyint=30"}},
    "HEVC": {
        "path": "a.mkv",
        "codec": "libx265",
        "options": {"x265-params": "log-level=error:keyint=20"},
    },
    "MPEG-4": {"path": "a.avi", "codec": "mpeg4", "options": {"g": "12"}},
}


def film(folder: Path, *, path: str, **how: object) -> Path:
    return media.film(folder / path, frames=240, **how)  # type: ignore[arg-type]


def frames(path: Path) -> list[Rgb]:
    return [frame.to_ndarray(format="rgb24") for _, frame in media.all_frames(path)]


def packets(path: Path, start_s: float) -> Iterator[Packet[VideoStream]]:
    """As a camera sends them whose clock says that it is so late."""
    with av.open(str(path)) as source:
        for packet in source.demux(source.streams.video[0]):
            later = round(start_s / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + later
            packet.dts = None if packet.dts is None else packet.dts + later
            yield packet


def never(_seconds: float) -> bool:
    return False


@pytest.mark.parametrize("kind", STREAMS)
def test_windows_hold_every_frame_and_share_what_was_asked_for(tmp_path: Path, kind: str) -> None:
    source = film(tmp_path, **STREAMS[kind])  # type: ignore[arg-type]
    whole = frames(source)
    assert record(str(source), tmp_path / "out", 3.0, 1.0, 1.0, never) >= 3
    behind = 0
    files = sorted((tmp_path / "out").iterdir())
    first = began_at(files[0].name)
    assert first is not None
    for file in files:
        shown = frames(file)
        begins = next(n for n, frame in enumerate(whole) if np.array_equal(frame, shown[0]))
        assert all(map(np.array_equal, shown, whole[begins:]))
        assert began_at(file.name) == pytest.approx(first + begins / 30, abs=0.05), "by the stream's clock"
        assert begins == 0 if not behind else behind - begins >= 28, "1 s of 30 frames, less B-frames"
        behind = begins + len(shown)
    assert behind == len(whole)


def test_a_window_is_hidden_until_it_is_whole(tmp_path: Path) -> None:
    source = film(tmp_path, path="a.ts", options={"g": "15"})
    seen: list[list[str]] = []

    def wait(_seconds: float) -> bool:
        seen.append([file.name for file in (tmp_path / "out").iterdir()])
        return len(seen) == 100

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".old.mkv").write_bytes(b"of one who was killed")
    assert record(str(source), tmp_path / "out", 3.0, 1.0, 1.0, wait) == 2
    assert [sum(not name.startswith(".") for name in names) for names in seen] == [0] * 90 + [1] * 10
    assert ".old.mkv" not in seen[0]
    assert not list((tmp_path / "out").glob(".*"))


def test_a_folder_is_one_recorders(tmp_path: Path) -> None:
    source = film(tmp_path, path="a.ts", options={"g": "15"})
    refused: list[str] = []

    def beside(_seconds: float) -> bool:
        if not refused:
            with pytest.raises(UsageError) as error:
                record(str(source), tmp_path / "out", 3.0, 1.0, 1.0, never)
            refused.append(str(error.value))
        return False

    assert record(str(source), tmp_path / "out", 3.0, 1.0, 1.0, beside) == 4
    assert "another recorder" in refused[0]
    assert record(str(source), tmp_path / "out", 3.0, 1.0, 1.0, never) == 4, "it is free again"


@pytest.mark.parametrize("kind", STREAMS)
def test_a_clock_that_goes_back_begins_a_new_window(tmp_path: Path, kind: str) -> None:
    source = film(tmp_path, **STREAMS[kind])  # type: ignore[arg-type]
    (tmp_path / "out").mkdir()
    windows = Windows(tmp_path / "out", 100.0, 1.0)
    for start_s in (20, 19, 26.5):
        for packet in packets(source, start_s):
            windows.take(packet)
    windows.close()
    whole = len(frames(source))
    assert [len(frames(file)) for file in sorted((tmp_path / "out").iterdir())] == [whole] * 3


def test_a_window_that_somebody_removed_costs_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = film(tmp_path, path="a.ts", options={"g": "15"})

    removed: list[Path] = []

    def remove(_seconds: float) -> bool:
        if not removed:
            removed.extend((tmp_path / "out").glob(".*"))
            removed[0].unlink()
        return False

    assert record(str(source), tmp_path / "out", 3.0, 1.0, 1.0, remove) == 3
    assert "somebody removed it" in caplog.text


def test_a_stream_that_is_lost_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = film(tmp_path, path="a.ts", options={"g": "15"})
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.extend([seconds] if seconds else [])
        return len(pauses) == 3

    monkeypatch.chdir(tmp_path)
    assert record("async://a.ts?password=hunter2", tmp_path / "none", 3.0, 1.0, 0.5, wait) == 0
    assert pauses == [0.5] * 3
    assert "opened again in 0.5 s" in caplog.text
    assert "hunter2" not in caplog.text
    pauses.clear()
    assert record(f"file://{source}", tmp_path / "out", 3.0, 1.0, 0.5, wait) == 3 * 4
    assert len(list((tmp_path / "out").iterdir())) == 3 * 4


def test_a_stream_without_keyframes_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.media.recording.KEYFRAME_S", 2.0)
    source = film(tmp_path, path="a.ts", options={"g": "600", "sc_threshold": "0"})
    with pytest.raises(UsageError, match="keyframe interval"):
        record(str(source), tmp_path / "out", 3.0, 1.0, 1.0, never)


def _sound(folder: Path) -> str:
    return str(media.audio_only(folder / "a.mp4"))


@pytest.mark.parametrize(
    ("source", "says"), [(_sound, "no video"), (lambda folder: str(folder / "absent.mp4"), "No such file")]
)
def test_a_file_that_is_no_film_is_one_line(tmp_path: Path, source: Callable[[Path], str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        record(source(tmp_path), tmp_path / "out", 3.0, 1.0, 1.0, never)


def test_a_full_disk_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    def full(*_: object) -> None:
        raise av.FFmpegError(errno.ENOSPC, "No space left on device")

    source = film(tmp_path, path="a.ts", options={"g": "15"})
    monkeypatch.setattr(Windows, "take", full)
    with pytest.raises(UsageError, match="make room"):
        record(f"file://{source}", tmp_path / "out", 3.0, 1.0, 1.0, never)
