"""The doctor on the machine that runs the tests: true answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests import machines
from tests.workers import ROOT
from worker.doctor.examination import CHECKS


def doctor(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    return subprocess.run(
        [sys.executable, "-m", "worker", "doctor", *map(str, arguments)],
        cwd=ROOT,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(done.stdout)["findings"]:
        found.setdefault(one["check"], []).append(one)
    return found


def test_this_machine_is_examined_and_left_as_it_was(tmp_path: Path) -> None:
    done = doctor("--json", "--queue", tmp_path / "queue", TMPDIR=str(tmp_path))
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["fits"] else 3), done.stderr
    found = findings(done)
    assert found.keys() <= CHECKS.keys()
    assert {"card", "ram", "cores", "disk", "codecs", "signals", "stopping", "race"} <= found.keys()
    assert found["stopping"][0]["level"] == "ok", found["stopping"]
    assert found["race"][0]["level"] == "ok"
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_card_is_seen_through_nvidia_smi_and_a_torch_for_cpus_is_told(tmp_path: Path) -> None:
    """The whole way but for the card: a program answers in nvidia-smi's place."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    if torch.version.cuda:
        pytest.skip("needs a torch for CPUs")
    smi = tmp_path / "nvidia-smi"
    answers = json.dumps(machines.transcript("rtx2080"))
    smi.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"print(json.loads({answers!r})[' '.join(sys.argv[1:])], end='')\n"
    )
    smi.chmod(0o755)
    done = doctor("--json", "--hw", "a800", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 3, done.stderr
    found = findings(done)
    assert found["card"][0]["found"] == "16 × NVIDIA GeForce RTX 2080, 8 GB, Turing (sm_75)"
    assert found["wheel"][0]["level"] == "blocker"
    assert "is for CPUs alone" in found["wheel"][0]["found"]
    assert found["wheel"][0]["remedy"].startswith("the stack turing, ")
    assert found["profile"][0]["remedy"].startswith("its own: --hw rtx2080")
    assert found["bf16"][0]["level"] == "warning"
    if "bitsandbytes" in found and find_spec("bitsandbytes"):
        assert found["bitsandbytes"][0]["level"] == "warning", "it cannot have quantised on a card"


def test_what_does_not_fit_ends_with_3_and_stands_first(tmp_path: Path) -> None:
    done = doctor("--queue", "s3://", "--model", "owner/no-such-7B", HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 3, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("blocker")
    assert "  hf download owner/no-such-7B" in done.stdout.replace("→", " ")
    assert lines[-1].startswith("this machine does not fit: ")


def test_the_profile_comes_from_its_variable_too_and_an_unknown_one_is_refused() -> None:
    assert doctor("--hw", "a1000").returncode == 2
    refused = doctor(WORKER_HW="a1000")
    assert refused.returncode == 2
    assert "there are a10, a100" in refused.stderr
    refused = doctor("--for", "no-such-work")
    assert refused.returncode == 2
    assert "media-check" in refused.stderr
    assert "pcb-train" in refused.stderr


def test_what_is_meant_is_compared_as_planned_without_torch() -> None:
    code = (
        "import sys; from worker import cli\n"
        "try: cli.main(['doctor', '--for', 'pcb', '--json'])\n"
        "finally: print({'torch', 'transformers'} & {*sys.modules})"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=False
    )
    assert said.stdout.endswith("set()\n"), said.stderr
    assert "merge takes 153 GB of a disk" in said.stdout
