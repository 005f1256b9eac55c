"""A person adds a task by writing one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.errors import UsageError
from worker.tasks import registry
from worker.tasks.registry import UnknownTaskError

TASK = """
from worker.tasks.task import MapTask, Params
class {cls}(MapTask[Params, str]):
    name = "{name}"
    about = "{about}"
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file of tasks into the folder that WORKER_TASKS names."""
    before = set(sys.modules)
    monkeypatch.setenv("WORKER_TASKS", str(tmp_path))

    def write(stem: str, text: str | None = None, **fields: str) -> Path:
        file = tmp_path / f"{stem}.py"
        file.write_text(TASK.format(**{"cls": "Mine", "about": "", **fields}) if text is None else text)
        return file

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("worker.tasks."):
            del sys.modules[name]


def test_a_file_in_a_named_folder_is_a_task(write: Write) -> None:
    write("zebra", name="zebra-count", about="counts zebras")
    assert registry.names()["zebra-count"] == "counts zebras"
    task = registry.find("zebra-count")
    assert (task.name, task.__module__) == ("zebra-count", "worker.tasks.zebra")
    assert registry.find("zebra-count") is task


def test_several_folders_are_searched(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("one_here", name="one-here")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.py").write_text(TASK.format(cls="Other", name="other-there", about=""))
    monkeypatch.setenv(
        "WORKER_TASKS", os.pathsep.join([str(tmp_path), str(tmp_path / "more"), str(tmp_path)])
    )
    assert {"one-here", "other-there"} <= registry.names().keys()


def test_only_what_a_file_defines_itself_counts(write: Write) -> None:
    write("base", name="the-base")
    write(
        "heir",
        "from worker.tasks.base import Mine\n"
        "from worker.tasks.task import MapTask\n"
        "class Nameless(MapTask): pass",
    )
    write("_private", "1/0")
    assert [name for name in registry.names() if name in {"the-base", "heir", "-private", "private"}] == [
        "the-base"
    ]


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(write: Write) -> None:
    write("zebra", name="zebra-count")
    with pytest.raises(UnknownTaskError) as caught:
        registry.find("zebra-cuont")
    assert "no task is called 'zebra-cuont'; did you mean zebra-count?" in str(caught.value)
    with pytest.raises(UnknownTaskError, match=r"'xyz'\. There are: .*zebra-count"):
        registry.find("xyz")


@pytest.mark.parametrize(
    "text", ["import no_such_library", "def broken(:", "raise ValueError('two\\nlines')", "exit(3)"]
)
def test_a_file_that_does_not_import_spoils_only_itself(write: Write, text: str) -> None:
    write("zebra", name="zebra-count")
    file = write("bad_file", text)
    assert registry.find("zebra-count").name == "zebra-count"
    assert registry.names()["bad-file"].startswith(f"{file} does not import: ")
    with pytest.raises(UsageError) as caught:
        registry.find("bad-file")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UnknownTaskError, match="does not import"):
        registry.find("named-inside-the-bad-file")


def test_two_tasks_of_one_name_are_refused(write: Write) -> None:
    write("first_one", name="the-same", cls="First")
    write("second_one", name="the-same", cls="Second")
    with pytest.raises(
        UsageError, match=r"two tasks are called 'the-same': First in .*first_one.* rename one"
    ):
        registry.names()


def test_two_files_of_one_name_are_refused(write: Write) -> None:
    write("registry", name="mine")
    with pytest.raises(UsageError, match="two files of tasks have one name"):
        registry.find("mine")


def test_a_missing_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKER_TASKS", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="nowhere, which is not a folder"):
        registry.names()
