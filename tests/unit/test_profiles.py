"""env/<hw>.env: the same to everyone who reads it, and compared with the card that is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values

from worker.hardware import gpus
from worker.hardware.profile import disagreement
from worker.hardware.stacks import stack_of

FILES = sorted(Path("env").glob("*.env"))


def by_lines(file: Path) -> dict[str, str]:
    """As docker run --env-file: what is behind the first equals sign."""
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def by_compose(file: Path) -> dict[str, str | None]:
    return dict(dotenv_values(file))


def by_shell(file: Path) -> dict[str, str]:
    """As a script for sbatch does."""
    return _told(["sh", "-c", f". ./{file}; set | grep ^WORKER_"])


def by_make(file: Path, folder: Path) -> dict[str, str]:
    names = "$(filter WORKER_%,$(.VARIABLES))"
    (folder / "Makefile").write_text(
        f"include {file.resolve()}\nall: ; @$(foreach name,{names},echo '$(name)=$($(name))';)\n"
    )
    return _told(["make", "--no-print-directory", "-C", str(folder)])


def _told(command: list[str]) -> dict[str, str]:
    out = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}
    ).stdout
    return {key: value.strip("'") for key, _, value in (line.partition("=") for line in out.splitlines())}


def test_there_is_one_for_every_machine_of_the_table() -> None:
    assert {file.stem for file in FILES} == set(gpus.HARDWARE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_everyone_reads_the_same(file: Path, tmp_path: Path) -> None:
    told = by_lines(file)
    assert all(re.fullmatch(r"#.*|[A-Z_]+=[a-z0-9]+", line) for line in file.read_text().splitlines())
    assert told == by_compose(file) == by_shell(file) == by_make(file, tmp_path)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_says_what_the_tables_say(file: Path) -> None:
    told = by_lines(file)
    cpu = file.stem == "cpu"
    assert told == {
        "WORKER_HW": file.stem,
        "WORKER_STACK": stack_of(file.stem).name,
        "WORKER_DEVICE": "cpu" if cpu else "cuda",
        **({} if cpu else {"WORKER_GPUS": "all"}),
    }


def test_another_card_than_the_profile_s_is_told_with_its_own_profile() -> None:
    said = disagreement("a100", ["NVIDIA A800-SXM4-80GB", "NVIDIA A800-SXM4-80GB"])
    assert said == (
        "--hw a100 means another card than NVIDIA A800-SXM4-80GB, which is here: "
        "use its own profile: --hw a800, or HW=a800 with make"
    )


def test_a_card_without_a_profile_is_told_too() -> None:
    said = disagreement("a100", ["NVIDIA L40S"])
    assert said
    assert "NVIDIA L40S" in said
    assert "docs/compatibility.md" in said


@pytest.mark.parametrize(
    ("hw", "found"),
    [
        ("a100", ["NVIDIA A100-PCIE-40GB"]),
        ("rtx2080", ["NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 2080"]),
        ("a100", []),
        ("cpu", ["NVIDIA A100-PCIE-40GB"]),
    ],
    ids=["its own", "one of several", "nothing is known", "no GPU is wanted"],
)
def test_otherwise_nothing_is_said(hw: str, found: list[str]) -> None:
    assert disagreement(hw, found) is None
