"""Whatever a test here starts ends with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.workers import end_all


@pytest.fixture(autouse=True)
def nothing_outlives_its_test() -> Iterator[None]:
    yield
    end_all()
