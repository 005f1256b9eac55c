"""What a person asks of machines elsewhere, and what is written down of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from worker.errors import UsageError
from worker.items import Json
from worker.launch.order import Profile

RECEIPTS = Path("run/launches")
"""one file a launch, below the folder of its launcher"""


@dataclass(frozen=True, slots=True)
class Launch:
    """Workers on one queue, on machines of one kind."""

    name: str
    """of letters, digits and hyphens: names the job, and all that is made for it"""
    profile: Profile
    queue: str = ""
    """as the workers see it; empty: the launcher says where"""
    out: str = ""
    """where `fetch` writes the answers, on this machine"""
    inputs: Sequence[str] = ()
    """what is enqueued first; none: QUEUE holds its items already"""
    task: str = ""
    """empty: the queue's own recipe"""
    recipe: Mapping[str, str] = field(default_factory=dict)
    """engine, model, revision, screen, screen-model: as `worker enqueue` takes them, where they are said"""
    params: Sequence[str] = ()
    """key=value, of the task"""
    environment: Mapping[str, str] = field(default_factory=dict)
    """what the workers are told besides their profile: WORKER_BATCH=4. No secrets: it is written down"""
    workers: int = 1
    """machines, or tasks of an array, that pull from the queue"""
    gpus: int = 1
    """cards of each"""
    time_limit_s: float = 0
    """0: as the launcher has it"""
    image: str = ""
    price: float | None = None
    """USD for one card and hour, where our table does not know it"""
    settings: Mapping[str, Json] = field(default_factory=dict)
    """what only this launcher understands"""

    @property
    def recipe_words(self) -> list[str]:
        """For `worker enqueue` and `worker run`."""
        said = {"task": self.task, **self.recipe}
        words = [word for name, value in said.items() if value for word in (f"--{name}", value)]
        return words + [word for one in self.params for word in ("--set", one)]

    def setting(self, name: str, default: Json = None) -> Json:
        found = self.settings.get(name)
        return default if found is None else found


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was asked and what was made, so that the other verbs know it. It holds no secret."""

    launcher: str
    launch: Launch
    queue: str
    """as this machine sees it, or the machine that `settings` names"""
    jobs: Sequence[str] = ()
    """the scheduler's own names, the newest last"""
    made: Sequence[str] = ()
    """what did not exist before, and may be deleted again"""
    submitted: str = ""
    cancelled: bool = False
    """a person said so: it is not submitted again by itself"""
    notes: Mapping[str, Json] = field(default_factory=dict)
    """the launcher's own"""

    @property
    def name(self) -> str:
        return self.launch.name

    def also(self, *, jobs: Sequence[str] = (), made: Sequence[str] = ()) -> Receipt:
        """Each once."""
        return replace(
            self,
            jobs=list(dict.fromkeys([*self.jobs, *jobs])),
            made=list(dict.fromkeys([*self.made, *made])),
        )


class Receipts:
    """Of one launcher, in a folder of this machine."""

    def __init__(self, launcher: str, folder: Path = RECEIPTS) -> None:
        self._launcher = launcher
        self._folder = folder / launcher

    def keep(self, receipt: Receipt) -> None:
        from worker.report.files import write_json

        told = asdict(receipt) | {"submitted": receipt.submitted or f"{datetime.now(UTC):%FT%TZ}"}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._file(receipt.name), told)

    def drop(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def find(self, name: str = "") -> Receipt | None:
        """By its name; without one the only one that there is."""
        if name:
            return self._read(self._file(name)) if self._file(name).exists() else None
        names = self.names()
        if len(names) > 1:
            raise UsageError(f"there are several launches, name one of: {', '.join(names)}")
        return self._read(self._file(names[0])) if names else None

    def names(self) -> list[str]:
        return sorted(file.stem for file in self._folder.glob("*.json") if is_name(file.stem))

    def need(self, name: str = "") -> Receipt:
        if (found := self.find(name)) is None:
            known = ", ".join(self.names()) or "none yet"
            what = f"no launch is called '{name}'" if name else "nothing was launched from this folder"
            raise UsageError(
                f"{what} ({self._folder} knows {known}); see worker launch {self._launcher} submit"
            )
        return found

    def _file(self, name: str) -> Path:
        if not is_name(name):
            raise UsageError(f"'{name}' names no launch: letters, digits and hyphens, 40 at most")
        return self._folder / f"{name}.json"

    def _read(self, file: Path) -> Receipt:
        try:
            told = json.loads(file.read_bytes())
            launch = told.pop("launch")
            profile = Profile(**launch.pop("profile"))
            found = Receipt(launch=Launch(profile=profile, **launch), **told)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{file} is no receipt of ours ({' '.join(str(error).split())}): restore it; or remove it, "
                "and submit again, but what was made before is then yours to delete"
            ) from None
        if (found.launcher, found.name) != (self._launcher, file.stem):
            raise UsageError(
                f"{file} is the receipt of {found.launcher} {found.name}: put it back under that name"
            )
        return found


def is_name(name: str) -> bool:
    """One that every scheduler takes: lower case letters, digits and hyphens, a letter first."""
    known = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    return bool(name) and len(name) <= 40 and set(name) <= known and name[0].isalpha() and name[-1] != "-"
