"""A model's own python code runs only where the machine's owner named that very content."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.engines import trust
from worker.engines.choice import Choice
from worker.errors import MachineError, UsageError

TREE = "tree:" + "a" * 32
COMMIT = "b" * 40
CONFIG = {"auto_map": {"AutoConfig": "configuration_x.X", "AutoModel": "modeling_x.X"}}


def test_several_models_may_be_allowed() -> None:
    assert trust.parse(f"one@{TREE}, owner/two@{COMMIT},") == {f"one@{TREE}", f"owner/two@{COMMIT}"}


@pytest.mark.parametrize("text", ["one", "one@main", f"@{TREE}", "one@" + "b" * 39, "*", f"one@{TREE}@x"])
def test_what_pins_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write NAME@REVISION"):
        trust.parse(text)


def test_the_refusal_says_what_would_run_and_what_to_type(tmp_path: Path) -> None:
    for name in ("modeling_x.py", "configuration_x.py", "config.json"):
        (tmp_path / name).touch()
    with pytest.raises(MachineError) as refused:
        trust.require(Choice("videochat2", "one", TREE, tmp_path), CONFIG, {})
    assert "(configuration_x.py, modeling_x.py)" in str(refused.value)
    assert f"--allow-code one@{TREE} or WORKER_ALLOW_CODE=one@{TREE}" in str(refused.value)


@pytest.mark.parametrize(
    "allowed",
    ["", f"one@tree:{'c' * 32}", f"two@{TREE}", f"one@{COMMIT}"],
    ids=["nothing", "another content", "another name", "another kind of revision"],
)
def test_another_name_or_content_is_not_allowed_by_it(tmp_path: Path, allowed: str) -> None:
    with pytest.raises(MachineError):
        trust.require(Choice("e", "one", TREE, tmp_path), CONFIG, {"WORKER_ALLOW_CODE": allowed})
    trust.require(Choice("e", "one", TREE, tmp_path), CONFIG, {"WORKER_ALLOW_CODE": f"{allowed},one@{TREE}"})


@pytest.mark.parametrize("where", ["other/repository--modeling_x.X", [None, "other/repository--tok.T"]])
def test_code_of_another_repository_is_never_run(tmp_path: Path, where: object) -> None:
    config = {"auto_map": {"AutoConfig": "configuration_x.X", "AutoModel": where}}
    with pytest.raises(MachineError, match="from another repository"):
        trust.require(Choice("e", "one", TREE, tmp_path), config, {"WORKER_ALLOW_CODE": f"one@{TREE}"})
