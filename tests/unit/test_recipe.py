"""What makes a recipe another one."""

from __future__ import annotations

from typing import ClassVar

import pytest

from worker import models
from worker.engines.choice import Choice
from worker.engines.engine import Engine
from worker.tasks.task import Params, Task


class First(Engine):
    about = "as it always was"


class Second(Engine):
    about = "its rules have changed once"
    version = "2"


class Asking(Task[Params]):
    name = "asking"
    about = "of this test"
    version = "3"
    engines: ClassVar = {"first": f"{__name__}:First", "second": f"{__name__}:Second"}


@pytest.mark.parametrize(
    ("choice", "version"), [(None, "3"), (Choice("first"), "3"), (Choice("second"), "3.2")]
)
def test_other_rules_of_an_engine_are_another_recipe_of_that_engine_alone(
    choice: Choice | None, version: str
) -> None:
    assert models.version(Asking, choice) == version  # type: ignore[arg-type]
