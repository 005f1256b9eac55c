"""A small folder to try the worker on: `python -m worker.media.demo DIR`.

Everything in it is drawn here, the same on every machine; three files are broken on purpose.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

_SIZE = (640, 360)
_RATE = 25
_COLOURS = ("#d1495b", "#edae49", "#00798c", "#30638e", "#6a994e", "#9d4edd")
_DONE = "README.txt"
"""written last: a folder that has it is complete"""

Drawing = Callable[[float], Image.Image]


def make(folder: Path) -> str:
    """Draws the set, unless it is there already; one line that says what was done."""
    if (folder / _DONE).exists():
        return f"{folder} is there already, nothing to do"
    pictures = [_picture(folder, n) for n in range(24)]
    clips = [write_clip(folder / name, drawing, seconds) for name, drawing, seconds in _CLIPS]
    _break(folder / "broken", clips[0], pictures[0])
    (folder / _DONE).write_text("Drawn by worker.media.demo; the files in broken/ are broken on purpose.\n")
    return f"{folder}: {len(pictures)} pictures, {len(clips)} clips and 3 files broken on purpose"


def road(time: float) -> Image.Image:
    """What a dashcam sees; a red car ahead, and after a while somebody crosses."""
    image = Image.new("RGB", _SIZE, "#a9c6e0")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 170, 640, 360), fill="#7a8f5a")
    draw.polygon([(300, 170), (340, 170), (640, 360), (0, 360)], fill="#4a4d52")
    for n in range(6):  # lane marks and trees come nearer: evenly in depth, ever faster on the screen
        depth = (n + time * 2) % 6 / 6
        y = 170 + 190 * depth**2
        half = 1 + 7 * depth**2
        draw.rectangle((320 - half, y, 320 + half, y + 24 * depth**2), fill="#f1f1ea")
        for side in (-1, 1):
            x = 320 + side * (50 + 420 * depth**2)
            tall = 20 + 160 * depth**2
            draw.rectangle((x - tall / 20, y - tall / 2, x + tall / 20, y), fill="#5a4632")
            draw.ellipse((x - tall / 4, y - tall, x + tall / 4, y - tall / 3), fill="#3f6b3a")
    draw.rectangle((290, 196, 350, 232), fill="#b3262e")
    draw.rectangle((299, 200, 341, 214), fill="#20242a")
    if time > 1.5:
        x = 470 - 90 * (time - 1.5)
        draw.ellipse((x - 7, 206, x + 7, 220), fill="#e5b58f")
        draw.rectangle((x - 8, 220, x + 8, 262), fill="#243b6b")
    return image


def night(time: float) -> Image.Image:
    """The road after dark; the lens is covered from second 1 to second 2."""
    if 1 <= time < 2:
        return Image.new("RGB", _SIZE)
    return Image.blend(road(time), Image.new("RGB", _SIZE, "#05070c"), 0.7)


def stuck(time: float) -> Image.Image:
    """The road, but the picture hangs after one second."""
    return road(min(time, 1.0))


def shapes(time: float) -> Image.Image:
    """Discs on their orbits."""
    image = Image.new("RGB", _SIZE, "#f4f1ea")
    draw = ImageDraw.Draw(image)
    for n, colour in enumerate(_COLOURS):
        x = 320 + 250 * _swing(time / 3 + n / 6)
        y = 180 + 120 * _swing(time / 2 + n / 4)
        draw.ellipse((x - 32, y - 32, x + 32, y + 32), fill=colour)
    return image


def _swing(turns: float) -> float:
    """Between -1 and 1 like a triangle: no sine, whose last digit differs between machines."""
    return 4 * abs(turns % 1 - 0.5) - 1


_CLIPS: tuple[tuple[str, Drawing, float], ...] = (
    ("clips/road.mp4", road, 4),
    ("clips/night drive.mkv", night, 3),
    ("clips/hangs.mp4", stuck, 4),
    ("clips/shapes.avi", shapes, 3),
    ("行车记录/路口 早晨.mp4", road, 2),
    ("行车记录/🚗 shapes.mp4", shapes, 2),
)


def _picture(folder: Path, n: int) -> Path:
    kind, ending = ("shapes", "road", "图片")[n % 3], (".jpg", ".png", ".webp")[n % 3]
    path = folder / "pictures" / kind / f"{kind} {n + 1:02}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    (road if kind == "road" else shapes)(n / 5).save(path)
    return path


def write_clip(path: Path, drawing: Drawing, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"fflags": "+bitexact"}  # no random ids, no version of the writer
    if path.suffix == ".mp4":
        options["movflags"] = "faststart"
    with path.open("wb") as file, av.open(file, "w", _muxer(path), options=options) as out:
        codec = "mpeg4" if path.suffix == ".avi" else "libx264"
        # one thread: with more, the bytes depend on how many cores there are
        stream = out.add_stream(codec, rate=_RATE, options={"preset": "veryfast", "threads": "1"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *_SIZE, "yuv420p"
        for n in range(int(seconds * _RATE)):
            frame = av.VideoFrame.from_ndarray(np.asarray(drawing(n / _RATE)), "rgb24")
            frame.pts, frame.time_base = n, Fraction(1, _RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _muxer(path: Path) -> str:
    return {".mkv": "matroska"}.get(path.suffix, path.suffix[1:])


def _break(folder: Path, clip: Path, picture: Path) -> None:
    """Like copies that stopped half way."""
    folder.mkdir(parents=True, exist_ok=True)
    cut_off(clip, folder / "half a clip.mp4")
    cut_off(picture, folder / "半张图.jpg")
    (folder / "empty.mp4").touch()


def cut_off(whole: Path, part: Path) -> None:
    data = whole.read_bytes()
    part.write_bytes(data[: len(data) * 6 // 10])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m worker.media.demo DIR")
    sys.stdout.write(make(Path(sys.argv[1])) + "\n")
