"""A picture: decoded whole, every frame of it, and what was seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from worker.errors import ItemError

# Pillow reads many more; one of those starts another program (EPS), and each is more code to attack.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
_PREVIEW = 600
"""a preview's longer side is at least that, if the picture's is, and less than twice"""
_ORIENTATION = 0x0112
_TURNS = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}
_MIRRORED = (2, 4, 5, 7)
_DARK = 0.98
_UNIFORM = 4
"""levels between the darkest and the brightest spot of an empty picture"""


@dataclass(frozen=True, slots=True)
class PictureFindings:
    format: str
    width: int
    height: int
    """as shown, after the rotation"""
    mode: str
    rotation: int
    """degrees clockwise that EXIF asks for"""
    mirrored: bool
    frames: int
    black: bool
    uniform: bool
    """one colour all over"""
    warnings: tuple[str, ...]


def is_picture(path: Path) -> bool:
    """Does the file begin like a picture, whatever its name?"""
    with path.open("rb") as file:
        head = file.read(16)
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == bytes(4))
        or head[4:12] in (b"ftypavif", b"ftypavis")
    )


def check_picture(path: Path, *, max_pixels: int, black_luma: int) -> tuple[PictureFindings, Image.Image]:
    """What was found, and a small copy as people should see it."""
    with warnings.catch_warnings(), _limited(max_pixels), path.open("rb") as file:
        warnings.simplefilter("ignore")
        try:
            _check_sums(file)
            with Image.open(file, formats=_FORMATS) as image:
                findings, preview = _look(image, black_luma)
        except Image.DecompressionBombError:
            raise ItemError(
                "too-large", f"more than {max_pixels / 1e6:.0f} megapixels (see max_megapixels)"
            ) from None
        except MemoryError:
            raise
        except Exception as error:  # on bad bytes the readers raise nearly anything
            raise _why_unread(path, error) from None
    _check_end(path, findings)
    return findings, preview


def _check_sums(file: BinaryIO) -> None:
    """A PNG carries check sums, and Pillow's decoder shows black rows rather than look at them."""
    with Image.open(file, formats=_FORMATS) as image:
        if image.format == "PNG":
            image.verify()
    file.seek(0)


@contextmanager
def _limited(max_pixels: int) -> Iterator[None]:
    """Pillow merely warns up to twice its limit, so half of ours makes it refuse exactly beyond ours."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels // 2
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _look(image: Image.Image, black_luma: int) -> tuple[PictureFindings, Image.Image]:
    name = "JPEG" if image.format == "MPO" else str(image.format)
    mode, notes = image.mode, []
    orientation = 1
    image.load()  # first: reading the EXIF data loads too, and would keep what it finds wrong to itself
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        notes.append("its EXIF data cannot be read")
    upright = ImageOps.exif_transpose(image) if orientation in (*_TURNS, 2) else image
    width, height = upright.size
    preview = _preview(upright)
    frames = 1
    if image.format != "MPO":  # a phone's JPEG with a depth map behind it is one picture
        frames = sum(bool(frame.load()) for frame in ImageSequence.Iterator(image))
    levels = preview.convert("L").histogram()
    spread = max(float(np.ptp(np.asarray(band.getextrema()))) for band in preview.split())
    findings = PictureFindings(
        format=name,
        width=width,
        height=height,
        mode=mode,
        rotation=_TURNS.get(orientation, 0),
        mirrored=orientation in _MIRRORED,
        frames=frames,
        black=sum(levels[: black_luma + 1]) >= _DARK * sum(levels),
        uniform=spread <= _UNIFORM,
        warnings=tuple(notes),
    )
    return findings, preview


def _preview(image: Image.Image) -> Image.Image:
    """Small and RGB."""
    image = shallow(image)
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    return image.reduce(max(1, max(image.size) // _PREVIEW)).convert("RGB")


def shallow(image: Image.Image) -> Image.Image:
    """Deep greys scaled down, where Pillow's own convert would clip them to white."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I") else 1.0
        scaled = np.clip(values * (255.0 / max(top, float(values.max(initial=0.0)))), 0, 255)
        return Image.fromarray(scaled.astype(np.uint8))
    return image


def rgb(image: Image.Image) -> Image.Image:
    return shallow(image).convert("RGB")


def _why_unread(path: Path, error: Exception) -> ItemError:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
    webp_cut = head[:4] == b"RIFF" and int.from_bytes(head[4:8], "little") + 8 > size
    if webp_cut or "truncated" in str(error).lower():
        return ItemError("truncated", f"the picture stops too early, after {size:,} bytes")
    if isinstance(error, UnidentifiedImageError):
        return ItemError(
            "damaged", f"begins like a picture, but its header is broken or cut ({size:,} bytes)"
        )
    return ItemError("damaged", f"the picture cannot be decoded: {error}")


def _check_end(path: Path, findings: PictureFindings) -> None:
    """Pillow does not miss the end marks of these two; a lost one may mean lost frames or rows."""
    mark = {"PNG": b"IEND\xaeB`\x82", "GIF": b";"}.get(findings.format)
    if mark is None:
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        tail = file.read()
    # a GIF's mark is a single byte: it has to be the last one but for padding
    ended = mark in tail if len(mark) > 1 else tail.rstrip(b"\0\r\n").endswith(mark)
    if not ended:
        raise ItemError("truncated", f"the end mark of the {findings.format} is missing: cut off")


def opened(path: Path) -> Image.Image:
    """As people see it, decoded."""
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise ItemError("absent", f"{path} is not there") from None
    except UnidentifiedImageError:
        raise ItemError("not-a-picture", f"{path} is no picture that can be read") from None
    except Image.DecompressionBombError:
        raise ItemError(
            "too-large", f"{path} has more pixels than any picture should: make it smaller"
        ) from None
    except (OSError, ValueError, SyntaxError) as error:
        raise ItemError("damaged", f"{path}: {error}") from None
