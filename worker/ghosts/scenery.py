"""Streets drawn for demonstration and tests: a camera drives along, with things beside the road and on it.

Metres: x to the right, y upwards, z ahead of where the camera began. Everything has a texture, for
engines that follow points. No sine and no random numbers of the platform: the same pixels everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from PIL import Image, ImageDraw

SIZE = (640, 360)
FOCAL = 560.0
HORIZON = 165.0
EYE_M = 1.35
NEAR_M = 0.8
FAR_M = 120.0

Point: TypeAlias = tuple[float, float, float]
Colour: TypeAlias = tuple[int, int, int]
Place: TypeAlias = Callable[[float], tuple[float, float]]
"""time → x and z"""


@dataclass(frozen=True, slots=True)
class Slab:
    """An upright or lying rectangle with a texture; its corners go round."""

    corners: tuple[Point, Point, Point, Point]
    colour: Colour
    seed: int
    spots: int = 14

    @property
    def depth(self) -> float:
        return sum(z for _, _, z in self.corners) / 4


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who moves: a few slabs around a place."""

    place: Place
    parts: Sequence[tuple[float, float, float, float, Colour]]
    """left, bottom, width, height from the place on the ground, in metres; colour"""
    seed: int = 1

    def slabs(self, time: float) -> Iterator[Slab]:
        x, z = self.place(time)
        for n, (left, bottom, width, height, colour) in enumerate(self.parts):
            yield face(x + left, bottom, z - n * 0.02, width, height, colour, self.seed + n, spots=6)


@dataclass(frozen=True, slots=True)
class Drive:
    driven: Callable[[float], float]
    """time → how far the camera has driven"""
    slabs: Sequence[Slab] = ()
    actors: Sequence[Actor] = field(default_factory=tuple)

    def __call__(self, time: float) -> Image.Image:
        image = Image.new("RGB", SIZE, (178, 200, 222))
        draw = ImageDraw.Draw(image)
        camera = self.driven(time)
        for slab in _GROUND:
            _draw(draw, slab, camera)
        standing = [*self.slabs, *(slab for actor in self.actors for slab in actor.slabs(time))]
        for slab in sorted(standing, key=lambda one: -one.depth):
            _draw(draw, slab, camera)
        return image


def face(
    x: float, y: float, z: float, width: float, height: float, colour: Colour, seed: int, *, spots: int = 14
) -> Slab:
    """Upright, and turned to the camera."""
    return Slab(
        ((x, y, z), (x + width, y, z), (x + width, y + height, z), (x, y + height, z)), colour, seed, spots
    )


def side(x: float, y: float, z: float, length: float, height: float, colour: Colour, seed: int) -> Slab:
    """Upright, and along the road."""
    return Slab(
        ((x, y, z), (x, y, z + length), (x, y + height, z + length), (x, y + height, z)), colour, seed
    )


def block(
    x: float, z: float, width: float, length: float, height: float, colour: Colour, seed: int
) -> list[Slab]:
    """A house, a bus or a wall: its side towards the road and its near end; x is its left edge."""
    towards = x if x > 0 else x + width
    dark: Colour = (colour[0] * 3 // 4, colour[1] * 3 // 4, colour[2] * 3 // 4)
    return [
        *(
            side(towards, 0, z + at, min(4.0, length - at), height, dark, seed + int(at))
            for at in _steps(length)
        ),
        face(x, 0, z, width, height, colour, seed),
    ]


def _steps(length: float) -> Iterator[float]:
    """Long walls in pieces, for what lies half behind the camera is not drawn."""
    at = 0.0
    while at < length:
        yield at
        at += 4.0


def _lying(x: float, z: float, width: float, length: float, colour: Colour, seed: int) -> Slab:
    return Slab(
        ((x, 0, z), (x + width, 0, z), (x + width, 0, z + length), (x, 0, z + length)), colour, seed, spots=4
    )


def _ground() -> Iterator[Slab]:
    draw = random.Random(5)
    for z in range(int(FAR_M * 2), -2, -4):
        shade = draw.randint(-5, 5)
        yield _lying(-60, z, 120, 4.2, (118 + shade, 132 + shade, 92 + shade), z)
        yield _lying(-5.4, z, 10.8, 4.2, (150, 150, 148), 1000 + z)  # pavement
        yield _lying(-3.6, z, 7.2, 4.2, (84 + shade, 86 + shade, 90 + shade), 2000 + z)
        for _ in range(3):  # patches that a follower of points can hold on to
            x, grey = draw.uniform(-3.4, 2.8), draw.randint(58, 116)
            yield _lying(x, z + draw.uniform(0, 3), draw.uniform(0.2, 0.7), 0.8, (grey, grey, grey), 0)
        if z % 8 == 0:
            yield _lying(-0.08, z, 0.16, 3.0, (224, 222, 214), 0)


_GROUND = tuple(_ground())


def _draw(draw: ImageDraw.ImageDraw, slab: Slab, camera: float) -> None:
    ahead = [z - camera for _, _, z in slab.corners]
    if max(ahead) > FAR_M or max(ahead) < NEAR_M:
        return
    points = [_seen(x, y, max(z, NEAR_M)) for (x, y, _), z in zip(slab.corners, ahead, strict=True)]
    draw.polygon(points, fill=slab.colour)
    if slab.seed and min(ahead) > NEAR_M:
        _spots(draw, slab, points)


def _seen(x: float, y: float, z: float) -> tuple[float, float]:
    return SIZE[0] / 2 + FOCAL * x / z, HORIZON + FOCAL * (EYE_M - y) / z


def _spots(draw: ImageDraw.ImageDraw, slab: Slab, points: Sequence[tuple[float, float]]) -> None:
    """Small darker and lighter quarters, always at the same places of the slab."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    if abs(bx - ax) + abs(by - ay) < 6 or abs(dx - ax) + abs(dy - ay) < 6:
        return
    chance = random.Random(slab.seed)
    for _ in range(slab.spots):
        u, v = chance.random() * 0.85, chance.random() * 0.85
        wide, high, tone = 0.05 + 0.1 * chance.random(), 0.05 + 0.1 * chance.random(), chance.randint(-38, 38)
        corners = [
            (
                (1 - p) * (1 - q) * ax + p * (1 - q) * bx + p * q * cx + (1 - p) * q * dx,
                (1 - p) * (1 - q) * ay + p * (1 - q) * by + p * q * cy + (1 - p) * q * dy,
            )
            for p, q in ((u, v), (u + wide, v), (u + wide, v + high), (u, v + high))
        ]
        draw.polygon(corners, fill=tuple(max(0, min(255, part + tone)) for part in slab.colour))
