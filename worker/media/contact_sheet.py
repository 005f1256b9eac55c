"""A contact sheet: a film on one page, evenly spaced frames with their times."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_WIDTH = 1200
_GUTTER = 8
_PAPER = (24, 26, 30)
_INK = (245, 245, 245)
_LANDSCAPE_COLUMNS, _PORTRAIT_COLUMNS = 4, 6


@dataclass(frozen=True, slots=True)
class Thumb:
    time: float
    image: Image.Image


def thumb_width(width: int, height: int) -> int:
    """How wide a frame of this shape, as shown, is drawn."""
    columns = _columns(width, height)
    return (_WIDTH - _GUTTER * (columns + 1)) // columns


def _columns(width: int, height: int) -> int:
    return _LANDSCAPE_COLUMNS if width >= height else _PORTRAIT_COLUMNS


class Sampler:
    """Chooses evenly spaced frames while they pass by. Of a film of unknown length it keeps up to
    twice as many as asked, dropping every other one as time goes on: bounded memory in one pass."""

    def __init__(self, count: int, duration_s: float | None) -> None:
        self.thumbs: list[Thumb] = []
        self._count = count
        self._every = duration_s / count if duration_s else 1.0
        self._next = self._every / 2

    def wants(self, until: float) -> bool:
        """Is the next one the frame that is shown until then?"""
        return until > self._next + 1e-6

    def take(self, thumb: Thumb, until: float) -> None:
        self.thumbs.append(thumb)
        # at one jump: a damaged file may claim to be a thousand years further on
        self._next += self._every * math.ceil((until - self._next) / self._every)
        if len(self.thumbs) >= 2 * self._count:
            self.thumbs = self.thumbs[::2]
            self._every *= 2


def contact_sheet(thumbs: list[Thumb]) -> bytes:
    """The sheet as JPEG."""
    first = thumbs[0].image
    columns = min(_columns(*first.size), len(thumbs))
    rows = -(-len(thumbs) // columns)
    cell_w, cell_h = first.width + _GUTTER, first.height + _GUTTER
    sheet = Image.new("RGB", (columns * cell_w + _GUTTER, rows * cell_h + _GUTTER), _PAPER)
    for n, thumb in enumerate(thumbs):
        x, y = _GUTTER + n % columns * cell_w, _GUTTER + n // columns * cell_h
        sheet.paste(_labelled(thumb.image.resize(first.size), clock(thumb.time)), (x, y))
    return jpeg(sheet)


def clock(time: float) -> str:
    """63.25 → "1:03.2", the way people read a film's time."""
    tenths = int(time * 10 + 1e-6)
    minutes, seconds = divmod(tenths // 10, 60)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{seconds:02}.{tenths % 10}"


def _labelled(image: Image.Image, text: str) -> Image.Image:
    image = image.convert("RGB")
    font = ImageFont.load_default(size=max(13, image.width // 18))
    left, top, right, bottom = font.getbbox(text)
    pad = 5
    box = (0, 0, int(right - left) + 2 * pad, int(bottom - top) + 2 * pad)
    corner = (0, image.height - box[3], box[2], image.height)
    plate = Image.blend(image.crop(corner), Image.new("RGB", (box[2], box[3])), 0.65)
    ImageDraw.Draw(plate).text((pad - left, pad - top), text, _INK, font)
    image.paste(plate, corner[:2])
    return image


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
