"""A few short drives to try the task on: `python -m worker.ghosts.demo DIR`.

Everything is drawn here, the same on every machine. Two are ghosts, two are not, and one file is cut off."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from worker.ghosts.scenery import Actor, Colour, Drive, Place, Slab, block, face
from worker.media.demo import cut_off, write_clip

LABELS = "labels.csv"
_DONE = LABELS
"""written last: a folder that has it is complete"""
_SECONDS = 6.0

_SKIN, _COAT, _TROUSERS = (214, 170, 138), (176, 40, 52), (38, 46, 74)
_PERSON = (
    (-0.22, 0.0, 0.44, 0.85, _TROUSERS),
    (-0.28, 0.8, 0.56, 0.65, _COAT),
    (-0.13, 1.45, 0.26, 0.28, _SKIN),
)
_RIDER = (
    (-0.85, 0.0, 1.7, 0.62, (28, 30, 34)),
    (-0.3, 0.6, 0.62, 0.85, (232, 170, 40)),
    (-0.14, 1.42, 0.28, 0.28, _SKIN),
)
_CAR = (
    (-0.9, 0.0, 1.8, 0.45, (26, 28, 32)),
    (-0.9, 0.4, 1.8, 0.55, (196, 204, 214)),
    (-0.7, 0.9, 1.4, 0.5, (60, 74, 92)),
)


def make(folder: Path) -> str:
    """Draws the set, unless it is there already; one line that says what was done."""
    if (folder / _DONE).exists():
        return f"{folder} is there already, nothing to do"
    for name, scene, _ in _SCENES:
        write_clip(folder / name, scene, _SECONDS)
    cut_off(folder / _SCENES[0][0], folder / _CUT)
    rows = "".join(f"{name},{label},\n" for name, _, label in _SCENES)
    (folder / LABELS).write_text(f"video_id,ground_truth_label,note\n{rows}", encoding="utf-8")
    return f"{folder}: {len(_SCENES)} drives and one file that is cut off"


def street(seed: int) -> Iterator[Slab]:
    """Houses and trees on both sides."""
    draw = random.Random(seed)
    for at in range(4, 200, 9):
        for where in (-1, 1):
            colour: Colour = (draw.randint(120, 200), draw.randint(110, 180), draw.randint(100, 160))
            x = 9.0 + draw.uniform(0, 3) if where > 0 else -15.0 - draw.uniform(0, 3)
            yield from block(
                x, at + draw.uniform(0, 3), 6, 7, draw.uniform(4, 9), colour, draw.randint(1, 9999)
            )
            trunk = where * (6.3 + draw.uniform(0, 0.8))
            z = at + draw.uniform(0, 8)
            yield face(trunk - 0.15, 0, z, 0.3, 2.2, (84, 66, 48), draw.randint(1, 9999), spots=3)
            yield face(trunk - 1.0, 2.0, z, 2.0, 2.4, (72, 112, 66), draw.randint(1, 9999), spots=20)


def steady(speed: float) -> Callable[[float], float]:
    return lambda time: speed * time


def crossing(start_s: float, x: float, z: float, speed: float) -> Place:
    """Waits at a place and then crosses the road."""
    return lambda time: (x + speed * max(0.0, time - start_s), z)


def _bus() -> Drive:
    bus = block(2.1, 30.0, 2.5, 11.0, 3.1, (52, 104, 168), 77)
    return Drive(steady(8.0), [*street(1), *bus], [Actor(crossing(2.9, 3.2, 41.8, -2.3), _PERSON, 11)])


def _wall() -> Drive:
    wall = block(-4.4, 8.0, 0.8, 34.0, 2.6, (168, 150, 132), 88)
    return Drive(steady(8.0), [*street(2), *wall], [Actor(crossing(2.6, -5.6, 43.0, 3.6), _RIDER, 12)])


def _cut_in() -> Drive:
    def overtakes(time: float) -> tuple[float, float]:
        return -1.9 + 1.9 * max(0.0, min(1.0, (time - 2.5) / 1.6)), 9.0 + 10.5 * time

    return Drive(steady(9.0), [*street(3)], [Actor(overtakes, _CAR, 13)])


def _ordinary() -> Drive:
    def ahead(time: float) -> tuple[float, float]:
        return 0.2, 22.0 + 9.0 * time

    def comes(time: float) -> tuple[float, float]:
        return -2.6, 90.0 - 8.0 * time

    def walks(time: float) -> tuple[float, float]:
        return 4.6, 26.0 + 1.2 * time

    return Drive(
        steady(9.0), [*street(4)], [Actor(ahead, _CAR, 14), Actor(comes, _CAR, 15), Actor(walks, _PERSON, 16)]
    )


_SCENES = (
    ("bus and pedestrian.mp4", _bus(), "4s: ghost probing"),
    ("墙后 骑车人.mp4", _wall(), "4s: ghost probing"),
    ("cut-in.mp4", _cut_in(), "3s: cut-in"),
    ("ordinary driving.mp4", _ordinary(), "none"),
)
_CUT = "cut off.mp4"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m worker.ghosts.demo DIR")
    sys.stdout.write(make(Path(sys.argv[1])) + "\n")
