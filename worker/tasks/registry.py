"""Which tasks there are: those of this package, and those in the folders that WORKER_TASKS names.

A person adds a task by writing one file. Wherever it lies it becomes a module of `worker.tasks`, so
that its classes carry one name in every process and samples can travel between them.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker import tasks
from worker.errors import UsageError
from worker.tasks.task import Task

FOLDERS_VARIABLE = "WORKER_TASKS"
OWN_FOLDER = Path(__file__).resolve().parent
NOT_TASKS = {"params", "registry", "task"}

AnyTask = Task[Any]


class UnknownTaskError(UsageError):
    """No task has the name that was asked for."""


def names() -> dict[str, str]:
    """Every task's name and its one line; a file that does not import stands there with its error."""
    found = _discover()
    abouts = {name: getattr(task, "about", "") for name, task in found.tasks.items()}
    return dict(sorted((abouts | found.broken).items()))


def find(name: str) -> type[AnyTask]:
    found = _discover()
    if name in found.tasks:
        return found.tasks[name]
    if name in found.broken:
        raise UsageError(found.broken[name])
    known = sorted(found.tasks)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    there_are = "There are: " + ", ".join(known) if known else "There are none"
    unread = "".join(f"; {error}" for error in found.broken.values())
    raise UnknownTaskError(f"no task is called '{name}'{hint} {there_are}{unread}")


@dataclass(slots=True)
class _Found:
    tasks: dict[str, type[AnyTask]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    """the name that a file would probably give its task → why it does not import"""


def _discover() -> _Found:
    found = _Found()
    for stem, file in _files().items():
        try:
            module = importlib.import_module(f"{tasks.__name__}.{stem}")
        except (Exception, SystemExit) as error:
            found.broken[stem.replace("_", "-")] = (
                f"{file} does not import: {type(error).__name__}: {' '.join(str(error).split())}"
            )
            continue
        for _, task in inspect.getmembers(module, inspect.isclass):
            if issubclass(task, Task) and task.__module__ == module.__name__ and hasattr(task, "name"):
                _add(found.tasks, task)
    return found


def _add(known: dict[str, type[AnyTask]], task: type[AnyTask]) -> None:
    other = known.setdefault(task.name, task)
    if other is not task:
        raise UsageError(
            f"two tasks are called '{task.name}': {other.__name__} in {inspect.getfile(other)} "
            f"and {task.__name__} in {inspect.getfile(task)}; rename one"
        )


def _files() -> dict[str, Path]:
    """Every public file that may hold tasks, by its module's name."""
    files: dict[str, Path] = {}
    for folder in _set_path():
        if not folder.is_dir():
            raise UsageError(f"{FOLDERS_VARIABLE} names {folder}, which is not a folder")
        for file in sorted(folder.glob("*.py")):
            if file.stem.startswith("_"):
                continue
            if file.stem in files:
                raise UsageError(
                    f"two files of tasks have one name: {files[file.stem]} and {file}; rename one"
                )
            files[file.stem] = file
    return {stem: file for stem, file in files.items() if stem not in NOT_TASKS}


def _set_path() -> list[Path]:
    given = os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)
    folders = dict.fromkeys([OWN_FOLDER, *(Path(folder).resolve() for folder in given if folder)])
    tasks.__path__ = [str(folder) for folder in folders]
    return list(folders)


_set_path()  # at import too: a fork server preloads a task's module by its name alone
