"""compose.yaml: valid, and what it says drains a blob queue."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import Server, missing

ROOT = Path(__file__).resolve().parents[2]
GPU = ("ampere", "hopper", "turing")


@cache
def config(**variables: str) -> Any:
    """As Docker Compose reads it; it refuses what its schema does not have."""
    compose = shutil.which("docker-compose")
    if compose is None:
        missing("docker-compose is not here; apt-get install docker-compose")
    outside = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [str(compose), "--file", "compose.yaml", "config"]
    read = subprocess.run(
        command, cwd=ROOT, env={**outside, **variables}, capture_output=True, text=True, check=False
    )
    assert read.returncode == 0, read.stderr
    return yaml.safe_load(read.stdout)["services"]


def test_without_a_profile_there_is_a_store_and_workers_for_the_cpu() -> None:
    services = config()
    always = {name for name, service in services.items() if "profiles" not in service}
    assert always == {"azurite", "container", "demo", "enqueue", "worker"}
    assert services["worker"]["image"] == "gpu-batch-worker:cpu"
    # two containers of one name or one port cannot be: --scale needs neither
    assert not {"container_name", "ports"} & services["worker"].keys()


@pytest.mark.parametrize("name", GPU)
def test_each_image_for_gpus_is_a_profile_that_reserves_them(name: str) -> None:
    service = config()[name]
    assert service["profiles"] == [name]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert service["build"]["dockerfile"] == f"docker/{name}.Dockerfile"
    assert service["environment"]["WORKER_STACK"] == name
    assert (ROOT / service["build"]["dockerfile"]).exists()


def test_another_card_of_the_same_image_is_named_by_hw() -> None:
    assert config(HW="a800")["ampere"]["environment"]["WORKER_HW"] == "a800"


@pytest.mark.parametrize("name", ["enqueue", *GPU])
def test_an_engine_its_model_and_the_hub_reach_those_who_need_them(name: str) -> None:
    service = config(ENGINE="qwen", MODEL="owner/name", HF_HOME="/models", HF_TOKEN="secret")[name]
    told = {name: service["environment"][name] for name in ("WORKER_ENGINE", "WORKER_MODEL", "HF_TOKEN")}
    assert told == {"WORKER_ENGINE": "qwen", "WORKER_MODEL": "owner/name", "HF_TOKEN": "secret"}
    assert "/models:/cache/huggingface:rw" in service["volumes"]


def test_a_mirror_of_pytorch_reaches_the_build_and_else_the_dockerfiles_own_is_taken() -> None:
    assert config(TORCH_INDEX="https://mirror")["ampere"]["build"]["args"]["TORCH_INDEX"] == "https://mirror"
    own = re.search(r"^ARG TORCH_INDEX=(\S+)", (ROOT / "docker/ampere.Dockerfile").read_text(), re.MULTILINE)
    assert own
    assert config()["ampere"]["build"]["args"]["TORCH_INDEX"] == own[1]


def test_answers_are_collected_from_a_store_that_is_started_for_it() -> None:
    assert config()["collect"]["depends_on"]["azurite"]["condition"] == "service_healthy"


@pytest.mark.parametrize("name", ["worker", *GPU])
def test_workers_wait_for_the_work_and_have_time_to_hand_it_back(name: str) -> None:
    service = config()[name]
    assert service["depends_on"]["enqueue"]["condition"] == "service_completed_successfully"
    assert service["stop_grace_period"] in ("60s", "1m0s")
    assert "/cache" in [volume.split(":")[1] for volume in service["volumes"]]


def test_what_it_says_drains_a_blob_queue_with_three_workers(azurite: Server, tmp_path: Path) -> None:
    """Each service's own command, in the order of their conditions, with this machine's places for theirs."""
    services = config(TASK="media-check")

    def words(name: str) -> list[str]:
        service = services[name]
        said = [*service.get("entrypoint", ["worker"]), *service["command"]]
        said[:1] = [sys.executable] if said[0] == "python" else [sys.executable, "-m", said[0]]
        places = {"/queue": "inputs", "/inputs": "inputs", "/answers": "answers"}
        for inside, here in places.items():
            said = [re.sub(f"^{inside}(?=/|$)", f"{tmp_path}/{here}", word) for word in said]
        return said

    def env(name: str) -> dict[str, str]:
        told = {**services[name]["environment"], **azurite.env}
        given = {key: value for key, value in told.items() if value is not None}  # None: nobody has set it
        given.pop("WORKER_METRICS")  # a port a container; here they share them all
        return {**os.environ, **given, "PYTHONPATH": str(ROOT)}

    def ends(name: str) -> None:
        ended = subprocess.run(
            words(name), cwd=tmp_path, env=env(name), capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{name}: {ended.stderr}"

    for name in ordered(services, "enqueue"):
        if name != "azurite":
            ends(name)
    workers = [subprocess.Popen(words("worker"), cwd=tmp_path, env=env("worker")) for _ in range(3)]
    assert [one.wait(120) for one in workers] == [1, 1, 1]  # one file is broken on purpose
    collected = subprocess.run(words("collect"), cwd=tmp_path, env=env("collect"), check=False)
    assert collected.returncode in (0, 1)
    assert (tmp_path / "answers" / "compose-results" / "final_results.json").exists()


def ordered(services: Mapping[str, Any], last: str) -> Sequence[str]:
    """What has to be there first, first."""
    before: list[str] = []
    for name in services[last].get("depends_on", {}):
        before += [one for one in ordered(services, name) if one not in before]
    return [*before, last]
