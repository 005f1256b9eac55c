"""Measurements run seldom, and on machines that are dear: each of them can at least begin."""

from __future__ import annotations

import importlib

import pytest

from tests.bench import __main__ as bench
from tests.workers import ROOT

MODULES = sorted(file.stem for file in (ROOT / "tests" / "bench").glob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_it_can_be_imported(name: str) -> None:
    try:
        importlib.import_module(f"tests.bench.{name}")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("tests", "worker"):
            raise
        pytest.skip(f"{error.name} is not installed")


def test_what_is_measured_is_there_and_has_a_beginning() -> None:
    assert bench.MEASUREMENTS.keys() <= set(MODULES)
    lacking = [
        name
        for name in bench.MEASUREMENTS
        if '__name__ == "__main__"' not in (ROOT / "tests" / "bench" / f"{name}.py").read_text()
    ]
    assert lacking == []
