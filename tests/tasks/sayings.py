"""Tasks of plain texts, for tests of the worker itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from worker import signs
from worker.errors import ItemError
from worker.items import Answer, Failure, Item
from worker.tasks.task import MapTask, Params


class Shout(MapTask[Params, Item]):
    """No child processes; many items a shard."""

    name = "shout"
    about = "says it louder"
    takes = "values"
    seconds_per_item = 0.01
    batch = 4

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        return [Answer({"shout": item.input.upper()}) for item in samples]


HASTE = "SLEEPY_HASTE"
"""in the environment, the name of a file: once it is there nothing takes any time"""


class Seconds(Params):
    seconds: float = 0.1


class Sleepy(MapTask[Seconds, Item]):
    """Takes a while on the device, or until there is haste; small shards."""

    name = "sleepy"
    about = "answers after a while"
    params_type = Seconds
    takes = "values"
    seconds_per_item = 20.0

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        answers = []
        for item in samples:
            ends = time.monotonic() + self.params_of(item).seconds
            while (left := ends - time.monotonic()) > 0 and not Path(os.environ.get(HASTE, "-")).exists():
                time.sleep(min(left, 0.02))
                self.get_on()
            answers.append(Answer({"slept": item.input}))
        return answers

    def get_on(self) -> None:
        """In silence."""


class Steady(Sleepy):
    """It takes as long, and shows that it gets on."""

    name = "steady"

    def get_on(self) -> None:
        signs.give()


class Seen(MapTask[Params, Item]):
    """Answers what its process sees of the machine."""

    name = "seen"
    about = "answers which card it has"
    takes = "values"
    seconds_per_item = 60.0

    def open(self, device: str) -> None:
        if self.card == "ill":
            raise RuntimeError("CUDA error: uncorrectable ECC error")
        self.device = device

    @property
    def card(self) -> str:
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        time.sleep(0.2)
        seen = {"card": self.card, "device": self.device, "process": os.getpid()}
        return [Answer(dict(seen)) for _ in samples]


class Deadly(MapTask[Params, Item]):
    """One input kills the process that holds the device."""

    name = "deadly"
    about = "dies of the word poison"
    takes = "values"
    seconds_per_item = 10.0

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        if any(item.input == "poison" for item in samples):
            os.kill(os.getpid(), signal.SIGKILL)
        return [Answer({"survived": item.input}) for item in samples]


class Kilobytes(Params):
    kilobytes: int = 8


class Bulky(MapTask[Kilobytes, Item]):
    """Answers that fill a disk."""

    name = "bulky"
    about = "answers at length"
    params_type = Kilobytes
    takes = "values"
    seconds_per_item = 15.0

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        return [Answer({"text": item.input[:1] * (self.params_of(item).kilobytes << 10)}) for item in samples]


class Odd(MapTask[Params, Item]):
    """Answers that are no JSON, for inputs that say so."""

    name = "odd"
    about = "answers what no file can hold"
    takes = "values"
    seconds_per_item = 10.0

    def answer(self, samples: Sequence[Item]) -> Sequence[Answer | Failure]:
        if samples[0].input == "dict":
            return [{"value": 1}]  # type: ignore[list-item]
        if samples[0].input == "half a failure":
            raise ItemError("odd", "a name with \udcff in it")
        odd = {"nan": float("nan"), "half": "\ud800", "bytes": b"\xff", "path": Path("x")}
        return [Answer({"value": odd.get(item.input, item.input)}) for item in samples]


class Prepared(MapTask[Seconds, str]):
    """Its children sleep, hoard or read, as their input says."""

    name = "prepared"
    about = "prepares in child processes"
    params_type = Seconds
    takes = "values"
    seconds_per_item = 10.0

    def prepare(self, item: Item) -> str:
        if item.input.startswith("hang"):
            time.sleep(3600)
        if item.input.startswith("hungry"):
            return str(len(bytearray(4 << 30)))
        time.sleep(self.params_of(item).seconds)
        return item.input

    def answer(self, samples: Sequence[str]) -> Sequence[Answer | Failure]:
        return [Answer({"prepared": sample}) for sample in samples]
