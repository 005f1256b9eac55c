"""32 evenly spaced frames of a film, scaled: what that costs, here and elsewhere; are they the right ones?"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tests.bench.clips import CLIPS, Clip, draw, number_of
from tests.bench.readers import COUNT, READERS
from tests.bench.table import Figure, not_here, show
from tests.workers import ROOT
from worker.media.choice import midpoints

WIDTH = 448
ROUNDS = 3
"""the median of so many, in turns"""
LIMIT_S = 600.0
PACKAGES = {"pyav": "av", "opencv": "opencv-python-headless", "decord": "decord", "torchcodec": "torchcodec"}
HOW = {
    "ours": "`sample`",
    "pyav": "all frames decoded by PyAV",
    "opencv": "grab all, retrieve 32",
    "decord": "`get_batch`",
    "torchcodec": "exact, `get_frames_at`",
}


@dataclass(frozen=True, slots=True)
class Reading:
    cpu_s: float
    memory_mb: float
    frames: np.ndarray


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        libraries = ffmpeg_of_pyav(Path(folder) / "libraries")
        for clip in CLIPS:
            film = draw(clip, Path(folder))
            yield from rows(clip, in_turns(clip, film, libraries))
            film.unlink()


def in_turns(clip: Clip, film: Path, libraries: str) -> dict[str, Reading | str]:
    """What each reader took, or why there is nothing."""
    made: dict[str, list[Reading]] = {name: [] for name in READERS}
    broken: dict[str, str] = {}
    for _ in range(ROUNDS):
        for name in READERS:
            if name not in broken:
                try:
                    made[name].append(reading(name, clip, film, libraries))
                except Exception as error:
                    broken[name] = not_here(error)
    return {
        name: broken.get(name)
        or Reading(
            statistics.median(one.cpu_s for one in made[name]),
            statistics.median(one.memory_mb for one in made[name]),
            made[name][-1].frames,
        )
        for name in READERS
    }


def reading(name: str, clip: Clip, film: Path, libraries: str) -> Reading:
    """In a process of its own; it measures itself, behind its imports."""
    if name in PACKAGES:
        version(PACKAGES[name])
    out, height = film.with_suffix(".npy"), WIDTH * clip.size[1] // clip.size[0]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if name == "torchcodec":
        env["LD_LIBRARY_PATH"] = libraries
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.readers", name, str(film), str(WIDTH), str(height), str(out)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    cpu_s, memory_mb = done.stdout.split()
    return Reading(float(cpu_s), float(memory_mb), np.load(out))


def rows(clip: Clip, found: dict[str, Reading | str]) -> Iterator[Figure]:
    whole = found["pyav"]
    others = {n: r for n, r in found.items() if n != "ours" and isinstance(r, Reading)}
    for name, one in found.items():
        what, aim = f"{clip.what}: {named(name)}, {HOW[name]}", ""
        if isinstance(one, str):
            yield Figure(what, one)
            continue
        figure = f"{one.cpu_s:.2f} CPU s, {right(clip, one)} of {COUNT} right, {one.memory_mb:.0f} MB"
        if name == "ours" and others:
            best = min(others, key=lambda name: others[name].cpu_s)
            figure += f"; {one.cpu_s / others[best].cpu_s:.2f} times the best other ({best})"
            aim = f"at most {'0.7' if clip.seconds > 60 else '1.0'} times"
            if isinstance(whole, Reading):
                figure += f"; {same(one, whole)} the same bytes as all decoded"
        yield Figure(what, figure, aim)


def right(clip: Clip, one: Reading) -> int:
    wanted = midpoints(clip.seconds * clip.rate, COUNT)
    return sum(number_of(frame) == n for frame, n in zip(one.frames, wanted, strict=False))


def same(one: Reading, other: Reading) -> int:
    return sum(map(np.array_equal, one.frames, other.frames))


def named(name: str) -> str:
    try:
        return f"{PACKAGES[name]} {version(PACKAGES[name])}" if name in PACKAGES else "ours"
    except PackageNotFoundError:
        return PACKAGES[name]


def ffmpeg_of_pyav(folder: Path) -> str:
    """torchcodec brings no FFmpeg: it is given PyAV's, under the names that it looks for."""
    folder.mkdir()
    found = find_spec("av")
    assert found
    assert found.origin
    bundled = Path(found.origin).parents[1] / "av.libs"
    for library in bundled.glob("*.so*"):
        name = re.sub(r"-[0-9a-f]{8}(\.so\.\d+).*", r"\1", library.name)
        (folder / name).symlink_to(library)
    return f"{folder}:{bundled}"


if __name__ == "__main__":
    show("video", figures())
