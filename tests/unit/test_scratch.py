"""Files of a moment: gone with their owner, or when the next one comes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.workers import ROOT
from worker import scratch
from worker.scratch import own_folder, sweep

OWNER = """
import sys, time
from pathlib import Path
from worker.scratch import own_folder

with own_folder(Path(sys.argv[1]), "in-") as folder:
    (folder / "half").write_bytes(bytes(100_000))
    print(folder, flush=True)
    time.sleep(60)
"""


@contextmanager
def owner(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a folder of its own."""
    command = [sys.executable, "-c", OWNER, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_folder_goes_with_its_owner(tmp_path: Path) -> None:
    with ExitStack() as owner:
        folder = owner.enter_context(own_folder(tmp_path, "in-"))
        (folder / "half").write_text("half")
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_owner_left_goes_when_the_next_one_comes(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, theirs):
        with own_folder(tmp_path, "in-"):
            assert (theirs / "half").exists(), "its owner lives"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert scratch.taken(tmp_path) >= 100_000
        with own_folder(tmp_path, "in-") as ours:
            assert list(tmp_path.iterdir()) == [ours]


def test_what_is_held_by_another_as_well_stays(tmp_path: Path) -> None:
    """The working process, when its parent is killed."""
    with owner(tmp_path) as (process, theirs):
        scratch.hold(theirs)
        process.kill()
        process.wait()
        sweep(tmp_path, "in-")
        assert theirs.exists()


def test_nothing_but_abandoned_folders_of_that_name_is_removed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    (tmp_path / "in-link").symlink_to(elsewhere)
    (tmp_path / "in-file").touch()
    sweep(tmp_path, "in-")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["elsewhere", "in-file", "in-link"]
    assert (elsewhere / "file").exists()


def test_a_folder_that_was_swept_before_it_was_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, swept = scratch.hold, []

    def late(path: Path) -> int:
        if not swept:
            swept.append(path)
            sweep(tmp_path, "in-")
        return hold(path)

    monkeypatch.setattr(scratch, "hold", late)
    with own_folder(tmp_path, "in-") as ours:
        assert swept
        assert list(tmp_path.iterdir()) == [ours]
        assert ours != swept[0]
