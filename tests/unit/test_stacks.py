"""What fits what: the stacks, their locks, and the page that is written from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from env.locks import inputs, page, resolve
from worker.hardware import gpus
from worker.hardware.stacks import AMPERE, HOPPER, STACKS, TURING, fitting, stack_of

LOCKS = Path("env/locks")
NAMES = sorted(inputs.texts())


def pins(name: str) -> dict[str, str]:
    lines = (line for line in (LOCKS / f"{name}.txt").read_text().splitlines() if not line.startswith("#"))
    return {canonicalize_name(one): version for one, _, version in (line.partition("==") for line in lines)}


def test_what_a_profile_takes_runs_on_its_card() -> None:
    for gpu in gpus.TABLE:
        assert stack_of(gpu.hw).runs_on(gpu.sm)
        assert fitting(gpu.sm)[0] is stack_of(gpu.hw)
    assert stack_of("cpu").torch is None


def test_code_for_one_card_runs_on_its_own_generation_only() -> None:
    assert AMPERE.runs_on((8, 9))  # by the code for 8.6
    assert HOPPER.runs_on((8, 9))
    assert not AMPERE.runs_on((10, 0))
    assert not AMPERE.runs_on((12, 0))


def test_cuda_13_knows_no_volta() -> None:
    assert not HOPPER.runs_on(gpus.VOLTA)
    assert fitting(gpus.VOLTA) == [TURING, AMPERE]


def test_no_stack_has_the_torch_whose_conv3d_is_slow() -> None:
    assert not any((stack.torch or "").startswith("2.9.") for stack in STACKS.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_was_resolved_from_the_input_that_the_table_gives(name: str) -> None:
    text = inputs.texts()[name]
    assert (LOCKS / f"{name}.in").read_text() == text, "run python -m env.locks"
    first = (LOCKS / f"{name}.txt").read_text().splitlines()[0]
    assert first == resolve.mark(name, text), f"run python -m env.locks {name}"


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_pins_every_package_and_holds_no_address(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    assert not re.search("https?:|--(extra-)?index-url|@", text)
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in text.splitlines()[1:])


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_gives_what_its_input_asks_for(name: str) -> None:
    locked = pins(name)
    for line in inputs.texts()[name].splitlines():
        if not line.startswith(("#", "-c")):
            wanted = Requirement(line)
            assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), line


@pytest.mark.parametrize("name", STACKS)
def test_an_image_runs_the_versions_that_a_venv_does(name: str) -> None:
    for same in ("core", "detector", "openai"):
        assert pins(same).items() <= pins(name).items()


@pytest.mark.parametrize("name", [name for name in NAMES if inputs.stack_of(name).cuda])
def test_cuda_s_libraries_are_those_of_torch_s_cuda(name: str) -> None:
    major = str(inputs.stack_of(name).cuda).partition(".")[0]
    told = {made[1] for package in pins(name) if (made := re.fullmatch(r"nvidia-.*-cu(\d+)", package))}
    assert told == {major}


@pytest.mark.parametrize("kind", ["", "quantise-"])
def test_ampere_and_turing_differ_in_their_cuda_alone(kind: str) -> None:
    ampere, turing = (
        {
            package: version.partition("+")[0]
            for package, version in pins(kind + name).items()
            if "-cu" not in package
        }
        for name in ("ampere", "turing")
    )
    assert ampere == turing


def test_without_a_gpu_nothing_of_torch_is_installed() -> None:
    assert not {"torch", "triton", "transformers"} & set(pins("cpu"))


@pytest.mark.parametrize("name", [name for name in STACKS if name != "cpu"])
def test_every_gpu_s_environment_can_train(name: str) -> None:
    assert {"accelerate", "datasets", "peft", "tensorboard", "wandb"} <= set(pins(name))
    assert not {"datasets", "tensorboard", "wandb"} & set(pins("cpu"))


def test_training_is_tried_with_what_it_is_tested_with() -> None:
    tested = pins("cpu") | pins("dev")
    assert pins("training").items() <= tested.items()
    assert not {"deepspeed"} & set(pins("dev")), "it has no wheel, and a step of its own"


def test_the_page_is_what_the_tables_say() -> None:
    assert Path("docs/compatibility.md").read_text() == page.text(), "run python -m env.locks"
