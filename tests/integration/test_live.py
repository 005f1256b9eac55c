"""From a camera on the network to answers, while it runs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests import media
from tests.streams import camera
from tests.workers import answered_at, answers, counts, eventually, finish, worker
from worker.clock import Clock
from worker.queue.progress import Watcher
from worker.queue.store import open_store


def test_a_camera_is_recorded_and_answered_until_both_are_stopped(tmp_path: Path) -> None:
    queue, folder = tmp_path / "queue", tmp_path / "camera 1"
    folder.mkdir()
    live = ("--follow", "--still", "0.5", "--ttl", "4")
    at_work = worker("run", queue, "--task", "media-check", *live, folder)
    with camera() as url:
        recorder = worker("record", url, folder, "--window", "2", "--overlap", "0.5")
        eventually(lambda: queue.exists() and len(answered_at(queue)) >= 3, timeout=60)
        recorder.send_signal(signal.SIGTERM)
        code, said = finish(recorder)
        assert code == 0, said
    files = {file.name: file.stat().st_mtime for file in folder.iterdir()}
    eventually(lambda: len(answered_at(queue)) == len(files))
    at_work.send_signal(signal.SIGTERM)
    code, said = finish(at_work)
    assert code == 0, said
    assert (tmp_path / "queue-results" / "report.html").exists()
    found = answers(queue)
    assert sorted(found) == sorted(files)
    assert all(result.ok for result in found.values()), found
    delays = [at - files[name] for name, at in answered_at(queue).items()]
    assert min(delays) >= 0.5
    assert max(delays) < 10, delays


def test_a_file_that_grows_with_pauses_is_answered_as_what_it_becomes(tmp_path: Path) -> None:
    """Each pause is longer than --still, so each step is taken, and all but the last one fail."""
    queue, folder = tmp_path / "queue", tmp_path / "camera 1"
    folder.mkdir()
    film = media.film(tmp_path / "film.mp4").read_bytes()
    live = ("--follow", "--still", "0.2", "--ttl", "4", "--out", tmp_path / "out")
    at_work = worker("run", queue, "--task", "media-check", *live, folder)
    with (folder / "a.mp4").open("wb", buffering=0) as growing:
        for step, share in enumerate((0.4, 0.3, 0.3), 1):
            growing.write(film[growing.tell() :][: round(share * len(film)) + 1])
            eventually(lambda n=step: queue.exists() and counts(queue).get("done", 0) == n, timeout=60)
    eventually(lambda: Watcher(open_store(str(queue)), Clock()).look().superseded == 2)
    at_work.send_signal(signal.SIGTERM)
    code, said = finish(at_work)
    assert code == 0, said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["total"], summary["ok"], summary["superseded"]) == (1, 1, 2)


def test_a_camera_that_goes_and_comes_back_is_recorded_again(tmp_path: Path) -> None:
    with camera() as url:
        recorder = worker(
            "record", url, tmp_path / "out", "--window", "1", "--overlap", "0.2", "--pause", "0.1"
        )
        eventually(lambda: list(tmp_path.glob("out/2*.mkv")), timeout=60)
    eventually(lambda: "opened again in 0.1 s" in recorder.said, timeout=30)
    recorder.send_signal(signal.SIGTERM)
    code, said = finish(recorder)
    assert code == 0, said
    assert not list(tmp_path.glob("out/.*")), "what was open is whole, or gone"
