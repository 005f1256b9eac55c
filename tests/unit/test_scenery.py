"""The drives that are drawn for the demonstration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worker.evaluation.labels import read_labels
from worker.ghosts.demo import make
from worker.ghosts.scenery import SIZE, Actor, Drive, block
from worker.media.sampling import sample

RED = (200, 20, 20)


def red(scene: Drive, time: float) -> int:
    """How many pixels the actor has."""
    pixels = np.asarray(scene(time)).astype(int)
    return int(((pixels[..., 0] > 120) & (pixels[..., 1] < 70)).sum())


def test_what_stands_before_somebody_hides_them() -> None:
    walks = Actor(lambda time: (3.0 - 2.0 * time, 20.0), [(-0.3, 0.0, 0.6, 1.7, RED)])
    bus = block(2.0, 10.0, 2.5, 8.0, 3.0, (40, 80, 160), 3)
    scene = Drive(lambda _: 0.0, bus, [walks])
    assert red(scene, 0.0) == 0
    assert red(scene, 1.5) > 500


def test_what_is_nearer_is_larger() -> None:
    stands = Actor(lambda _: (0.0, 30.0), [(-0.3, 0.0, 0.6, 1.7, RED)])
    scene = Drive(lambda time: 10.0 * time, (), [stands])
    assert red(scene, 2.0) > 5 * red(scene, 0.0) > 0


def test_the_set_is_drawn_once_and_says_what_is_true(tmp_path: Path) -> None:
    assert make(tmp_path / "demo").endswith("4 drives and one file that is cut off")
    assert make(tmp_path / "demo").endswith("nothing to do")
    labels = read_labels(tmp_path / "demo" / "labels.csv")
    assert [label.positive for label in labels.labels] == [True, True, False, False]
    assert not labels.unusable
    for label in labels.labels:
        frames = sample(tmp_path / "demo" / label.clip, n=2)
        assert frames.frames.shape == (2, SIZE[1], SIZE[0], 3)
        assert frames.total == 150
