"""docs/doctor.md has every check, and says what the doctor says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click
import pytest

from tests import machines
from worker.cli.findings import lines
from worker.doctor.examination import CHECKS, judge
from worker.doctor.facts import Facts

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "doctor.md").read_text()


def spoken(facts: Facts) -> str:
    """Without what is as it should be."""
    told = judge(facts)
    amiss = replace(told, findings=[one for one in told.findings if one.level != "ok"])
    return "".join(f"{line}\n" for line in click.unstyle("\n".join(lines(amiss))).splitlines())


def test_the_page_has_each_check() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", PAGE.partition("## The checks")[2], re.MULTILINE)
    assert rows == list(CHECKS)


@pytest.mark.parametrize("facts", [machines.azure_a100(), machines.autodl_a800(), machines.rtx2080()])
def test_the_page_says_what_the_owner_hears(facts: Facts) -> None:
    assert f"```text\n{spoken(facts)}```" in PAGE
