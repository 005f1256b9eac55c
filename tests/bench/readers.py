"""The same 32 frames of a film, read in several ways, each in the setting that suits it best.

`python -m tests.bench.readers NAME FILM WIDTH HEIGHT OUT` prints the seconds of processor time and the
megabytes that the reading took, imports not counted, and leaves the frames in OUT.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worker.media.choice import midpoints

COUNT = 32

Read = Callable[[Path, int, int], np.ndarray]


def ours() -> Read:
    from worker.media.sampling import sample

    return lambda path, width, height: sample(path, n=COUNT, size=(width, height)).frames


def pyav() -> Read:
    """Everything decoded, as plainly as it is done."""
    import av

    from worker.media.rgb import ToRgb

    def read(path: Path, width: int, height: int) -> np.ndarray:
        to_rgb = ToRgb((width, height))
        with av.open(str(path)) as film:
            stream = film.streams.video[0]
            stream.codec_context.thread_count = 1
            wanted = set(midpoints(stream.frames, COUNT))
            return np.stack([to_rgb(f) for n, f in enumerate(film.decode(stream)) if n in wanted])

    return read


def opencv() -> Read:
    """All frames up to the last one grabbed, the wanted ones retrieved."""
    import cv2

    def read(path: Path, width: int, height: int) -> np.ndarray:
        film, found = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), []
        wanted = midpoints(int(film.get(cv2.CAP_PROP_FRAME_COUNT)), COUNT)
        for n in range(wanted[-1] + 1):
            film.grab()
            if n in wanted:
                small = cv2.resize(film.retrieve()[1], (width, height), interpolation=cv2.INTER_AREA)
                found.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
        return np.stack(found)

    return read


def decord() -> Read:
    import decord as library

    def read(path: Path, width: int, height: int) -> np.ndarray:
        film = library.VideoReader(str(path), width=width, height=height, num_threads=1)
        return film.get_batch(midpoints(len(film), COUNT)).asnumpy()

    return read


def torchcodec() -> Read:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    def read(path: Path, width: int, height: int) -> np.ndarray:
        film = VideoDecoder(path, dimension_order="NHWC", transforms=[Resize((height, width))])
        return film.get_frames_at(midpoints(len(film), COUNT)).data.numpy()

    return read


READERS: dict[str, Callable[[], Read]] = {
    "ours": ours,
    "pyav": pyav,
    "opencv": opencv,
    "decord": decord,
    "torchcodec": torchcodec,
}


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory(what: str) -> float:
    found = re.search(rf"^{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1e3


def main(name: str, film: str, width: str, height: str, out: str) -> None:
    read: Any = READERS[name]()
    before, held = _spent(), _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    frames = read(Path(film), int(width), int(height))
    print(f"{_spent() - before:.3f} {_memory('VmHWM') - held:.1f}")  # noqa: T201
    np.save(out, frames)


if __name__ == "__main__":
    main(*sys.argv[1:])
