"""How many samples fit into the memory, and a step that does not."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis", reason="the developers' tools are not installed")

from hypothesis import given
from hypothesis import strategies as some

from tests import fuzz  # noqa: F401
from worker.errors import MachineError
from worker.gpus.batches import Fit, best_batch, fit
from worker.gpus.models import Mlp


def test_the_best_batch_is_a_power_of_two() -> None:
    assert [best_batch(100, 10, room) for room in (110, 120, 139, 740)] == [1, 2, 2, 64]


def test_what_does_not_fit_at_once_is_done_in_equal_parts() -> None:
    assert fit(64, 100, 10, 10_000) == Fit(64, 1)
    assert fit(64, 100, 10, 400) == Fit(22, 3)
    assert fit(7, 100, 10, 110) == Fit(1, 7)


def test_where_not_one_sample_fits_it_is_said_what_is_missing() -> None:
    with pytest.raises(MachineError, match=r"needs 9\.00 GB, and there is room for 8\.00: .*memory_gb"):
        fit(1, 8e9, 1e9, 8e9)
    with pytest.raises(MachineError, match="one sample"):
        best_batch(8e9, 1e9, 8e9)


@given(
    wanted=some.integers(1, 10_000),
    fixed=some.integers(0, 1000),
    each=some.integers(1, 100),
    room=some.integers(1100, 10_000),
)
def test_a_step_is_whole_and_never_larger_than_the_room(
    wanted: int, fixed: int, each: int, room: int
) -> None:
    found = fit(wanted, fixed, each, room)
    assert fixed + each * found.batch <= room
    assert found.batch * (found.accumulation - 1) < wanted <= found.batch * found.accumulation or (
        found.batch == -(-wanted // found.accumulation)
    )
    assert found.accumulation == 1 or fixed + each * -(-wanted // (found.accumulation - 1)) > room
    assert fixed + each * best_batch(fixed, each, room) <= room


def test_a_model_s_bytes_are_those_of_its_parameters() -> None:
    shape = Mlp(input_dim=4, hidden_units=(8, 3), output_dim=2)
    assert shape.fixed_bytes == 16 * (4 * 8 + 8 + 8 * 3 + 3 + 3 * 2 + 2)
    assert Mlp(input_dim=4, hidden_units=8, output_dim=2).widths == (4, 8, 2)
