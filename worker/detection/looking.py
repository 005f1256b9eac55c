"""Every picture is decoded and its boxes are measured against it, on all cores, a few pictures at a time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from worker.detection.boxes import fitted
from worker.detection.dataset import Box, DataSet, Fault, Labels, Picture
from worker.errors import ItemError
from worker.media.endings import PICTURES
from worker.media.picture import check_picture

_THREADS_MOST = 16
_AT_ONCE = 256
"""pictures on their way"""
_LARGE = 24_000_000
"""pixels of a picture that is decoded while no other such one is: so memory is bounded"""


@dataclass(frozen=True, slots=True)
class Seen:
    split: str
    name: str
    width: int
    height: int
    """as people see it, turned as its EXIF data ask"""
    digest: bytes
    """of what it shows"""
    boxes: Sequence[Box] = ()
    """right ones, in pixels, inside of it"""
    useless: str = ""
    """by which check; empty: to be learned from"""


@dataclass(frozen=True, slots=True)
class Looked:
    seen: Seen
    faults: Sequence[Fault]
    thumb: Image.Image | None
    """small, of those that are wanted"""


def look(
    data: DataSet, max_megapixels: int, wanted: Collection[int], alive: Callable[[], None]
) -> Iterator[Looked]:
    """In the data set's order. `wanted`: the places of those to be shown."""
    looker = _Looker(data.classes, max_megapixels * 1_000_000)
    threads = min(len(os.sched_getaffinity(0)), _THREADS_MOST)
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, looker.most // 2  # one for all threads
    try:
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(data.pictures), _AT_ONCE):
                some = enumerate(data.pictures[start : start + _AT_ONCE], start)
                for looked in pool.map(lambda one: looker(one[1], one[0] in wanted), some):
                    alive()
                    yield looked
    finally:
        Image.MAX_IMAGE_PIXELS = before


class _Looker:
    def __init__(self, classes: Sequence[str], most: int) -> None:
        self.most = most
        self._classes = len(classes)
        self._one_large = threading.Lock()

    def __call__(self, picture: Picture, shown: bool) -> Looked:
        labels = picture.labels()
        try:
            with self._one_large if _pixels(picture.file) > _LARGE else nullcontext():
                found, preview = check_picture(picture.file, max_pixels=self.most, black_luma=0)
        except ItemError as error:
            fault = Fault("broken-picture", picture.split, picture.name, 0, f"{error.kind}: {error.message}")
            seen = Seen(picture.split, picture.name, 0, 0, b"", useless=fault.check)
            return Looked(seen, [fault, *(labels.faults if labels else ())], None)
        size = f"{found.width}x{found.height}"
        digest = hashlib.blake2b(preview.tobytes(), digest_size=16, person=size.encode()).digest()
        seen = Seen(picture.split, picture.name, found.width, found.height, digest)
        faults = []
        if found.rotation or found.mirrored:
            why = f"EXIF turns it by {found.rotation}°" + (" and mirrors it" if found.mirrored else "")
            faults.append(Fault("turned", picture.split, picture.name, 0, why))
        seen, more = self._labelled(seen, picture, labels)
        return Looked(seen, [*faults, *more], preview if shown else None)

    def _labelled(self, seen: Seen, picture: Picture, labels: Labels | None) -> tuple[Seen, Sequence[Fault]]:
        if labels is None:
            fault = Fault("missing-label", seen.split, seen.name, 0, "it has no labels, not even empty ones")
            return replace(seen, useless=fault.check), [fault]
        if picture.size and picture.size != (seen.width, seen.height):
            told = "x".join(map(str, picture.size))
            why = f"its labels say {told}, and it is {seen.width}x{seen.height}"
            return replace(seen, useless="other-size"), [Fault("other-size", seen.split, seen.name, 0, why)]
        boxes, faults = fitted(labels, seen.split, (seen.width, seen.height), self._classes)
        return replace(seen, boxes=boxes), [*labels.faults, *faults]


def _pixels(file: Path) -> int:
    """As its header says; what cannot be read is small."""
    try:
        with Image.open(file, formats=sorted(set(PICTURES.values()))) as picture:
            return picture.width * picture.height
    except MemoryError:
        raise
    except Exception:  # check_picture says what is wrong with it
        return 0
