"""Kinds of attention are tried in a process of their own, on this machine's CPU."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from worker.engines import attention
from worker.engines.device import Device

HOPPER = Device("cpu", "pretends to be an H100", (9, 0))
"""it would be tried on a card; here the trial gets as far as the package goes"""


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The commands that were run."""
    seen: list[Any] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **how: seen.append(command) or run(command, **how))
    return seen


def install(folder: Path, code: str) -> None:
    """A package that calls itself flash_attn."""
    (folder / "flash_attn").mkdir(parents=True)
    (folder / "flash_attn" / "__init__.py").write_text(code)
    about = folder / "flash_attn-2.8.3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: flash_attn\nVersion: 2.8.3\n")


def test_a_kernel_that_runs_is_tried_once_a_machine(trials: list[Any], tmp_path: Path) -> None:
    assert attention.works("sdpa", HOPPER, "fp32") is None
    assert attention.works("sdpa", HOPPER, "fp32") is None
    assert len(trials) == 1
    assert attention.works("sdpa", replace(HOPPER, name="another card"), "fp32") is None
    assert len(trials) == 2
    assert len(list((tmp_path / "cache" / "probes").iterdir())) == 2


def test_a_package_that_is_not_there_is_not_tried(trials: list[Any]) -> None:
    assert attention.works("flash_attention_2", HOPPER, "fp16") == "flash_attn is not installed"
    assert not trials


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('GLIBC_2.32 not found')", "ImportError: GLIBC_2.32 not found"),
        ("import os; os.kill(os.getpid(), 11)", "its trial ended with -11"),
        ("", "ImportError: cannot import name 'flash_attn_func'"),
    ],
    ids=["does not import", "takes its process with it", "is another package"],
)
def test_a_package_that_does_not_work_is_told_with_its_last_words(
    code: str, said: str, trials: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", code)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    wrong = attention.works("flash_attention_2", HOPPER, "fp16")
    assert wrong is not None
    assert said in wrong
    assert attention.works("flash_attention_2", HOPPER, "fp16") == wrong
    assert len(trials) == 2, "a failure must not be remembered: it may be mended"
    assert not (tmp_path / "cache").exists()


def test_a_broken_package_leaves_the_next_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "raise ImportError('undefined symbol: _ZN3c10')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    card = Device("cuda:0", "H100", (9, 0), True)
    known = frozenset({"sdpa", "flash_attention_2"})

    def works(one: attention.Attention, device: Device, numbers: Any) -> str | None:
        return attention.works(one, replace(device, place="cpu"), numbers)

    one, why = attention.choose("auto", card, "bf16", known, works)
    assert one == "sdpa"
    assert "not flash_attention_2: ImportError: undefined symbol: _ZN3c10" in why
