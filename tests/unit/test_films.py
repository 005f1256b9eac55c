"""The films that tests are made with."""

from __future__ import annotations

import os
from pathlib import Path

from tests.films import FILMS


def test_an_encoder_leaves_the_process_the_priority_that_it_had(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    FILMS["AV1"](tmp_path)
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before
