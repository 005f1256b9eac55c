"""env/slurm/worker.sbatch by itself, without a SLURM: what it starts, and what with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.workers import ROOT, eventually
from worker.launch.order import read_profile

SCRIPT = ROOT / "env/slurm/worker.sbatch"
PROFILES = sorted(file.stem for file in (ROOT / "env").glob("*.env"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with spaces, in which `python` says how it was started."""
    folder = tmp_path / "a 'place' of 工人"
    program(folder / "venv/bin/python", 'printf "%s\\n" "$@" >said; env >environment; exit ${CODE:-0}')
    (folder / "q").mkdir()
    return folder


def program(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(0o755)


def environment(place: Path, said: Mapping[str, str]) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("WORKER_", "SLURM_"))}
    own = {"WORKER_VENV": str(place / "venv"), "WORKER_QUEUE": "q", "WORKER_CHECKOUT": str(place)}
    return {**clean, **own, **said}


def run(place: Path, **said: str) -> tuple[int, str]:
    ended = subprocess.run(
        ["bash", str(SCRIPT)],
        env=environment(place, said),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stderr


def test_it_is_a_script() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_it_is_without_a_fault() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not here; as root, tests/servers.sh installs it")
    subprocess.run(["shellcheck", str(SCRIPT)], check=True)


@pytest.mark.parametrize("hw", PROFILES)
def test_a_worker_is_told_its_profile_and_what_is_said_counts_more(place: Path, hw: str) -> None:
    shutil.copytree(ROOT / "env", place / "env", ignore=shutil.ignore_patterns("locks"))
    code, said = run(place, WORKER_HW=hw, WORKER_DEVICE="cuda:7")
    assert (code, said) == (0, "")
    assert (place / "said").read_text().split("\n") == ["-m", "worker", "run", "q", ""]
    lines = (line.partition("=") for line in (place / "environment").read_text().splitlines())
    told = {name: value for name, _, value in lines}
    wanted = read_profile(ROOT, hw, {}).environment
    assert {name: told[name] for name in wanted} == {**wanted, "WORKER_DEVICE": "cuda:7"}


def test_what_is_wrong_is_said_in_one_line(place: Path) -> None:
    for said, wrong in (
        ({"WORKER_QUEUE": ""}, "say which queue"),
        ({"WORKER_HW": "abacus"}, "WORKER_HW=abacus: there is no"),
        ({"WORKER_VENV": "/nowhere"}, "WORKER_VENV=/nowhere has no bin/python: make setup"),
    ):
        code, told = run(place, **said)
        assert code == 2, told
        assert wrong in told
        assert told.count("\n") == 1, told


def test_the_worker_s_own_code_is_the_script_s(place: Path) -> None:
    assert [run(place, CODE=str(code))[0] for code in (0, 1, 2, 3, 75)] == [0, 1, 2, 3, 75]


def test_a_signal_reaches_the_worker_and_the_script_waits_until_it_is_done(place: Path) -> None:
    text = "trap 'sleep 0.5; echo handed back >said; exit 75' TERM; echo >begun; while :; do sleep 0.05; done"
    program(place / "venv/bin/python", text)
    one = subprocess.Popen(["bash", str(SCRIPT)], env=environment(place, {}))
    eventually((place / "begun").exists)
    one.send_signal(signal.SIGTERM)
    one.send_signal(signal.SIGTERM)
    assert one.wait(60) == 75
    assert (place / "said").read_text() == "handed back\n"


def test_a_worker_that_a_signal_ends_before_it_can_hear_has_its_work_left(place: Path) -> None:
    program(place / "venv/bin/python", "echo >begun; exec sleep 600")
    one = subprocess.Popen(["bash", str(SCRIPT)], env=environment(place, {}))
    eventually((place / "begun").exists)
    one.send_signal(signal.SIGUSR1)
    assert one.wait(60) == 75


def test_an_image_of_apptainer_sees_the_queue_and_what_is_named_and_the_card(place: Path) -> None:
    program(place / "bin/apptainer", 'printf "%s\\n" "$@" >said')
    path = f"{place}/bin:{os.environ['PATH']}"
    said = {"WORKER_IMAGE": "w 1.sif", "WORKER_BINDS": f"{place}/q,/usr", "WORKER_DEVICE": "cuda"}
    code, told = run(place, PATH=path, **said)
    assert (code, told) == (0, "")
    binds = ["--bind", f"{place}/q", "--bind", "/usr"]
    wanted = ["exec", "--nv", *binds, "w 1.sif", "worker", "run", "q"]
    assert (place / "said").read_text().splitlines() == wanted


def test_an_image_of_pyxis_is_srun_s_to_start_on_each_node(place: Path) -> None:
    program(
        place / "bin/srun",
        'if [ "$1" = --help ]; then echo "  --container-image=x"; else printf "%s\\n" "$@" >said; fi',
    )
    path = f"{place}/bin:{os.environ['PATH']}"
    code, told = run(place, PATH=path, WORKER_IMAGE="registry#worker:1", SLURM_JOB_NUM_NODES="2")
    assert (code, told) == (0, "")
    words = (place / "said").read_text().splitlines()
    assert words[-3:] == ["worker", "run", "q"]
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1"} < set(words)
    assert {"--container-image=registry#worker:1", f"--container-mounts={place}/q:{place}/q"} < set(words)


def test_an_image_without_anything_to_open_it_is_refused(place: Path) -> None:
    for name in ("bash", "env", "sed", "grep", "sort", "hostname", "realpath"):
        (place / "bin").mkdir(exist_ok=True)
        (place / "bin" / name).symlink_to(str(shutil.which(name)))
    code, told = run(place, PATH=str(place / "bin"), WORKER_IMAGE="worker.sif")
    assert code == 3
    assert "neither apptainer, singularity nor pyxis" in told


@pytest.mark.parametrize(
    ("state", "restarts", "asked", "said"),
    [
        ("RUNNING None", "", ["requeue 7_3", "update JobId=7_3 StartTime=now+120"], "starts again in 120 s"),
        ("COMPLETING TimeLimit", "1", ["requeue 7_3", "update JobId=7_3 StartTime=now+120"], "starts again"),
        # preempted, and in the line already, or cancelled: then SLURM does not listen
        ("COMPLETING None", "1", ["update JobId=7_3 StartTime=now+120"], ""),
        ("RUNNING None", "100", [], "after 100 starts more (WORKER_REQUEUES): submit it again"),
        ("", "", [], "SLURM does not answer: submit it again"),
    ],
)
def test_who_has_work_left_goes_into_the_line_again_by_the_task_s_own_number(
    place: Path, state: str, restarts: str, asked: list[str], said: str
) -> None:
    program(place / "bin/squeue", f'[ "$2" = --jobs=7_3 ] && [ -n "{state}" ] && echo "{state}"')
    program(place / "bin/scontrol", '[ "$1" = show ] || echo "$@" >>asked')
    program(place / "bin/sleep", "")
    slurm = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    path = f"{place}/bin:{os.environ['PATH']}"
    code, told = run(place, PATH=path, CODE="75", SLURM_RESTART_COUNT=restarts, **slurm)
    assert code == 75
    assert said in told
    assert told.count("\n") == bool(said), told
    file = place / "asked"
    assert (file.read_text().splitlines() if file.exists() else []) == asked


def test_a_worker_has_most_of_the_time_that_the_cluster_leaves_after_sigterm(place: Path) -> None:
    program(place / "bin/scontrol", 'echo "KillWait                = 90 sec"')
    path = f"{place}/bin:{os.environ['PATH']}"
    for said, grace in (({}, "75s"), ({"WORKER_GRACE": "20"}, "20")):
        code, told = run(place, PATH=path, SLURM_JOB_ID="7", **said)
        assert (code, told) == (0, "")
        assert f"\nWORKER_GRACE={grace}\n" in (place / "environment").read_text()
