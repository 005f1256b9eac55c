"""Azure's own library reads what is shipped and what is rendered, offline, for each machine it has."""

from __future__ import annotations

import io
from typing import Any

import pytest

pytest.importorskip("azure.ai.ml", reason="azure-ai-ml is not installed: make test-azureml")

from azure.ai import ml

from worker.launch.azureml import files
from worker.launch.azureml.sizes import SIZES
from worker.launch.here import CHECKOUT
from worker.launch.launch import Launch
from worker.launch.order import read_profile

LOAD = {"compute.yml": ml.load_compute, "environment.yml": ml.load_environment, "job.yml": ml.load_job}
OFFERED = [(hw, gpus) for hw, sizes in SIZES.items() for gpus in sizes]


@pytest.mark.parametrize("name", LOAD)
def test_what_is_shipped_is_valid(name: str) -> None:
    assert LOAD[name](files.FOLDER / name).name


@pytest.mark.parametrize("name", LOAD)
@pytest.mark.parametrize(("hw", "gpus"), OFFERED)
@pytest.mark.parametrize(
    "settings", [{}, {"dedicated": True, "identity": "user", "account": "films", "compute": "ours"}]
)
def test_what_is_rendered_is_valid(name: str, hw: str, gpus: int, settings: dict[str, Any]) -> None:
    profile = read_profile(CHECKOUT, hw, {})
    said = Launch("clips", profile, image="r.azurecr.io/w:1", gpus=gpus, settings=settings)
    loaded = LOAD[name](io.StringIO(files.render(said)[name]))
    assert loaded.name
    if name == "compute.yml":
        assert (loaded.size, loaded.tier) == (SIZES[hw][gpus], "dedicated" if settings else "low_priority")


def test_the_library_would_tell_a_fault() -> None:
    text = files.render(Launch("clips", read_profile(CHECKOUT, "a100", {}), image="r/w:1"))["compute.yml"]
    with pytest.raises(Exception, match="nodes"):
        ml.load_compute(io.StringIO(text + "nodes: 3\n"))
