"""The detector: a COCO detector that the user names finds road users, and rules say which of them emerged."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from worker.engines.coco import LABELS, Family, Seen, family
from worker.engines.flows import Flows
from worker.engines.watching import Watched, Watching
from worker.errors import MachineError, UsageError
from worker.ghosts.detection import Detection, merge
from worker.ghosts.emergence import RULES, Path, Rules, emergences, hider
from worker.ghosts.flow import Pace
from worker.ghosts.incident import Box, Incident
from worker.ghosts.scene import Scene
from worker.ghosts.tracking import Tracker
from worker.media.rgb import Rgb

FAINT = 0.25
"""the least score that counts as anything"""
_INPUT = 640
"""where a model takes pictures of any size"""
_PART = 4 / 3
"""width of a part as a share of its height: a model for square pictures sees it little squeezed"""
_CUT = 4.0
"""a box that ends so few pixels from where its part was cut goes on behind it"""
_WHOLE = 0.9
"""a box over so much of a part is no road user"""
_WIDEST_PERSON = 1.3
_INSTALL = "pip install --no-deps -r env/locks/detector.txt"
_FLOW_WIDTH, _FLOW_COLUMNS = 396, 48
"""enough to know where a box went"""


class Detector(Watching[Path, Rules]):
    about = "a COCO detector in ONNX that --model names; tells who emerged, from behind what, and how near"
    model: ClassVar[Literal["none", "file", "folder"]] = "file"
    version: ClassVar[str] = "2"
    quick: ClassVar[bool] = True
    rules: ClassVar = RULES

    @classmethod
    def check(cls, file: FilePath) -> None:
        Net(file, str(file))

    def open(self, device: str) -> None:
        super().open(device)
        if self.choice.file is None:
            raise UsageError("engine detector needs --model, the file that holds its weights")
        self._net = Net(self.choice.file, self.choice.model or self.choice.file.name)

    @staticmethod
    def judge(seen: Watched[Path], rules: Rules) -> Sequence[Incident]:
        return emergences(seen.ways, seen.scene, rules)

    def _ways(self, frames: Iterable[tuple[float, Rgb]], scene: Scene) -> Iterator[Path]:
        tracker, flows, pace, look = (
            Tracker(),
            Flows(_FLOW_WIDTH, _FLOW_COLUMNS),
            Pace(),
            Look(self._net, scene),
        )
        begun: deque[Path] = deque()
        for time, frame in frames:
            flow = flows.since_last(frame)
            speed = pace.after(time, flow.moved_on if flow else None)
            found = look.at(frame)
            for track in tracker.update(time, [one for one in found if one.is_light], flow):
                begun.append(Path(track, hider(track.seen[0].box, found), speed))
            while begun and begun[0].track.is_told(time):
                yield begun.popleft()
        yield from begun


class Look:
    """The whole of every frame, and its parts in turn."""

    def __init__(self, net: Net, scene: Scene) -> None:
        self._net, self._scene = net, scene
        self._parts = deque(parts(scene.width, scene.height))

    def at(self, frame: Rgb) -> list[Detection]:
        width, height = self._scene.width, self._scene.height
        self._parts.rotate(-1)
        return merge(
            one
            for left, right in [(0, width), *list(self._parts)[-1:]]
            for one in boxes(self._net.ask(frame[:, left:right]), left, right, width, height)
        )


class Net:
    """A detector of any family that is known, looking at crops of a picture."""

    def __init__(self, file: FilePath, named: str) -> None:
        """`named`: what a person calls it, who knows nothing of where it is kept."""
        try:
            import onnxruntime
        except ImportError as error:
            raise MachineError(f"engine detector needs {error.name}: {_INSTALL}") from None
        import cv2

        self._cv2 = cv2
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own kinds, which are no public names
            said = str(error).replace(str(file), named).splitlines()[0]
            raise UsageError(f"--model {named} is no ONNX model: {said}") from None
        if len(inputs := self._session.get_inputs()) != 1 or len(inputs[0].shape) != 4:
            raise UsageError(f"--model {named} takes {len(inputs)} inputs, and not one picture")
        self._name = inputs[0].name
        height, width = (one if isinstance(one, int) else _INPUT for one in inputs[0].shape[2:])
        self._width, self._height = width, height
        kind: Any = np.float16 if "float16" in inputs[0].type else np.float32
        self._values = np.empty((1, 3, height, width), kind)  # a new one for each picture costs a millisecond
        blank = np.zeros((height, width, 3), np.uint8)
        try:
            self._family: Family = family(self._run(blank, False).shape, width, height)
        except Exception as error:  # the runtime's own kinds, and ours
            raise UsageError(f"--model {named}: {str(error).splitlines()[0]}") from None

    def ask(self, crop: Rgb) -> Seen:
        size = self._width, self._height
        resized = self._cv2.resize(crop, size, interpolation=self._cv2.INTER_LINEAR)
        return self._family.decode(self._run(resized, self._family.blue_first), FAINT)

    def _run(self, picture: npt.NDArray[Any], blue_first: bool) -> Any:
        channels = picture[..., ::-1] if blue_first else picture
        np.copyto(self._values[0], channels.transpose(2, 0, 1))
        self._values *= 1 / 255
        return self._session.run(None, {self._name: self._values})[0]


def parts(width: int, height: int) -> list[tuple[int, int]]:
    """From where to where a wide picture is looked at closely; they overlap."""
    part = round(height * _PART)
    count = math.ceil(width / part - 0.05)
    if count <= 1:
        return []
    lefts = [round(n * (width - part) / (count - 1)) for n in range(count)]
    return [(left, left + part) for left in lefts]


def boxes(seen: Seen, left: int, right: int, width: int, height: int) -> Iterator[Detection]:
    """In pixels of the whole picture, without what was cut off and what cannot be."""
    scale = np.array([right - left, height, right - left, height])
    for (x, y, w, h), score, kind in zip(
        (seen.boxes * scale).tolist(), seen.scores.tolist(), seen.classes.tolist(), strict=True
    ):
        x0, y0 = max(0.0, x) + left, max(0.0, y)
        x1, y1 = min(right, x + w + left), min(height, y + h)
        label, box = LABELS[kind], Box(x0, y0, x1 - x0, y1 - y0)
        wrong = (
            (left > 0 and x0 <= left + _CUT)
            or (right < width and x1 >= right - _CUT)
            or min(box.width, box.height) < _CUT
            or box.width * box.height > _WHOLE * (right - left) * height
            or (label == "person" and box.width > _WIDEST_PERSON * box.height)
        )
        if not wrong:
            yield Detection(box, score, label)
