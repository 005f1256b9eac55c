"""Drawn dashcam scenes: a textured world that a car drives towards, and boxes in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

WIDTH, HEIGHT, FPS = 480, 200, 10
MIDDLE = np.array([WIDTH / 2, HEIGHT / 2])

Draw = Callable[[Any, float], None]
"""into the gray frame, at a time"""


def texture(seed: int, width: int = 2 * WIDTH, height: int = 2 * HEIGHT) -> Any:
    """Blotches of several sizes, from dark to light."""
    random = np.random.default_rng(seed)
    sum_ = np.zeros((height, width), np.float32)
    for size in (4, 12, 40):
        rough = random.random((height // size + 1, width // size + 1), np.float32)
        sum_ += cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.normalize(sum_, np.empty_like(sum_), 30, 220, cv2.NORM_MINMAX).astype(np.uint8)


def world(zoom: float, seed: int = 1, pan: float = 0.0) -> Draw:
    """Comes nearer by `zoom` a second, and passes sideways by `pan` pixels a second."""
    picture = texture(seed)

    def draw(frame: Any, time: float) -> None:
        by = float(np.exp(zoom * time))
        shift = MIDDLE - by * np.array([WIDTH, HEIGHT]) - [pan * time, 0]
        move = np.array([[by, 0, shift[0]], [0, by, shift[1]]])
        frame[:] = cv2.warpAffine(
            picture, move, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )

    return draw


def box(where: Callable[[float], tuple[float, float, float, float] | None], seed: int) -> Draw:
    """Left, top, width and height at each time; None: it is not there."""
    picture = texture(seed, 160, 160)

    def draw(frame: Any, time: float) -> None:
        place = where(time)
        if place is None:
            return
        left, top, width, height = place
        move = np.array([[width / 160, 0, left], [0, height / 160, top]])
        cv2.warpAffine(picture, move, (WIDTH, HEIGHT), frame, borderMode=cv2.BORDER_TRANSPARENT)

    return draw


def passing(left: float, top: float, width: float, height: float, zoom: float, seed: int) -> Draw:
    """A still thing that the car comes near: it grows away from the middle."""

    def where(time: float) -> tuple[float, float, float, float]:
        by = np.exp(zoom * time)
        x, y = MIDDLE + ([left, top] - MIDDLE) * by
        return x, y, width * by, height * by

    return box(where, seed)


def film(seconds: float, *draws: Draw) -> Iterator[tuple[float, Any]]:
    """Frames of three equal channels and their times; what is drawn later lies in front."""
    for number in range(round(seconds * FPS)):
        frame = np.zeros((HEIGHT, WIDTH), np.uint8)
        for draw in draws:
            draw(frame, number / FPS)
        yield number / FPS, cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)
