"""A board as a question to a model that sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from worker.boards import prompt
from worker.boards.coordinates import Coordinates, Family, scaled
from worker.boards.defect import Defect, Lang
from worker.boards.reading import Said, read
from worker.engines.engine import Request
from worker.engines.reply import UnreadableError
from worker.errors import ItemError
from worker.media.picture import rgb

if TYPE_CHECKING:
    from worker.engines.resizing import Resizing
    from worker.media.rgb import Rgb

_COMPLAINTS = 5
"""that a model is told of"""


@dataclass(frozen=True, slots=True)
class Question:
    request: Request
    """its last picture is the board"""
    where: Coordinates
    lang: Lang
    role: str
    second: Sequence[Defect] | None
    """what somebody else sees; None: nobody was asked"""

    def read(self, text: str) -> Said:
        said = read(text, self.where)
        if said.wrong:
            more = len(said.wrong) - _COMPLAINTS
            told = "; ".join([*said.wrong[:_COMPLAINTS], *[f"and {more} more"] * (more > 0)])
            raise UnreadableError(told, said)
        return said

    def again(self, why: str) -> str:
        return prompt.ask_again(self.lang, self.request.prompt, why)

    def as_shown(self, defect: Defect) -> Defect:
        """In pixels of the picture that the model saw."""
        where = self.where
        return replace(defect, box=scaled(defect.box, (where.width, where.height), where.resized))


def question(
    board: Path,
    template: Path | None,
    *,
    role: str,
    family: Family,
    resizing: Resizing | None,
    lang: Lang,
    max_tokens: int,
    second: Sequence[Defect] | None,
) -> Question:
    """`template`: is shown before the board."""
    shown = [opened(file) for file in (template, board) if file]
    places = [Coordinates(family, one.width, one.height, resizing) for one in shown]
    try:
        frames = [resized(one, place.resized) for one, place in zip(shown, places, strict=True)]
    except ValueError as error:
        raise ItemError("too-long", str(error)) from None
    request = Request(
        frames,
        (),
        prompt.ask(lang, family, pair=template is not None),
        prompt.schema(places[-1]),
        max_tokens,
    )
    return Question(request, places[-1], lang, role, second)


def opened(file: Path) -> Image.Image:
    """Decoded, in the pixels of the file, whichever way it was held: boxes are counted in those."""
    try:
        with Image.open(file, formats=("JPEG", "PNG", "BMP")) as picture:
            return rgb(picture)
    except Image.DecompressionBombError as error:
        raise ItemError("too-large", f"{file.name}: {error}") from None
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # no fault of the picture's
        why = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise ItemError("damaged", f"{file.name} is no picture that can be read{why}") from None


def resized(picture: Image.Image, size: tuple[int, int]) -> Rgb:
    """As the models' processors do it."""
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.uint8)
