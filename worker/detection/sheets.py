"""Pictures with their boxes on one page, to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from worker.detection.dataset import Picture
from worker.detection.looking import Seen
from worker.media.contact_sheet import jpeg

SHOWN = 12
_CELL, _COLUMNS, _GUTTER = 300, 4, 6
_PAPER = (24, 26, 30)
_COLOURS = ("#ff5a7a", "#5ee07a", "#ffc83d", "#6f9bff", "#ff9a52", "#d27bf0", "#5fe0f5", "#ff7ef0")
_LETTERS = 14
"""pixels from line to line"""


@dataclass(frozen=True, slots=True)
class Cell:
    seen: Seen
    thumb: Image.Image


def chosen(pictures: Sequence[Picture]) -> dict[int, str]:
    """Evenly from each split: place → split."""
    found: dict[int, str] = {}
    for split in dict.fromkeys(one.split for one in pictures):
        places = [at for at, one in enumerate(pictures) if one.split == split]
        count = min(SHOWN, len(places))
        found |= {places[number * len(places) // count]: split for number in range(count)}
    return found


def small(thumb: Image.Image) -> Image.Image:
    copy = thumb.copy()
    copy.thumbnail((_CELL, _CELL))
    return copy


def sheet(cells: Sequence[Cell], classes: Sequence[str]) -> bytes:
    """As JPEG."""
    columns = min(_COLUMNS, len(cells))
    step = _CELL + _GUTTER
    page = Image.new("RGB", (columns * step + _GUTTER, -(-len(cells) // columns) * step + _GUTTER), _PAPER)
    font = ImageFont.load_default(size=11)
    for number, cell in enumerate(cells):
        x, y = _GUTTER + number % columns * step, _GUTTER + number // columns * step
        page.paste(_drawn(cell, classes, font), (x, y))
    return jpeg(page)


def _drawn(
    cell: Cell, classes: Sequence[str], font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> Image.Image:
    picture = cell.thumb.copy()
    draw = ImageDraw.Draw(picture)
    across, down = picture.width / cell.seen.width, picture.height / cell.seen.height
    for box in cell.seen.boxes:
        left, top = box.left * across, box.top * down
        right, bottom = max(left + 1, box.right * across), max(top + 1, box.bottom * down)
        ink = _COLOURS[box.kind % len(_COLOURS)]
        draw.rectangle((left, top, right, bottom), outline=ink, width=2)
        at = (left, top - _LETTERS if top > _LETTERS else bottom)
        draw.text(at, _name(classes, box.kind), ink, font, stroke_width=2, stroke_fill=_PAPER)
    return picture


def _name(classes: Sequence[str], kind: int) -> str:
    """Pillow's own font has no letters but Latin ones."""
    return classes[kind][:16] if classes[kind].isascii() else f"#{kind}"


def sheets(cells: Mapping[str, Sequence[Cell]], classes: Sequence[str]) -> dict[str, bytes]:
    return {f"{split}.jpg": sheet(some, classes) for split, some in cells.items() if some}
