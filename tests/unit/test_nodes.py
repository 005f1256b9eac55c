"""Which node of how many: from SLURM, from torchrun's variables, from a person."""

from __future__ import annotations

import pytest

from worker.errors import UsageError
from worker.ranks.nodes import Node, alone, expand, said

STEP = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "gpu[07-09]",
    "SLURM_NODEID": "2",
}


@pytest.mark.parametrize(
    ("told", "nodes"),
    [
        ("a1", ["a1"]),
        ("a1,b.example.org", ["a1", "b.example.org"]),
        ("n[01-03,7]", ["n01", "n02", "n03", "n7"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("r[1-2]n[1-2]x,z", ["r1n1x", "r1n2x", "r2n1x", "r2n2x", "z"]),
        ("127.0.0.[1-2]", ["127.0.0.1", "127.0.0.2"]),
        ("", []),
    ],
)
def test_slurms_lists_of_nodes_are_written_out(told: str, nodes: list[str]) -> None:
    assert list(expand(told)) == nodes


@pytest.mark.parametrize("told", ["n[1-2", "n[a-b]", "n[1-]x[", "n[-2]"])
def test_a_list_that_is_none_is_told(told: str) -> None:
    with pytest.raises(UsageError, match="a list of nodes names"):
        list(expand(told))


def test_a_step_of_slurm_on_several_nodes_is_known_by_itself() -> None:
    node = said(None, None, None, STEP)
    assert (node.rank, node.count, node.host, node.follows) == (2, 3, "gpu07", True)
    first = said(None, None, None, {**STEP, "SLURM_NODEID": "0"})
    assert (first.port, first.follows) == (node.port, False)
    assert said(None, None, None, {**STEP, "SLURM_STEP_ID": "2"}).port != node.port
    assert 1024 < said(None, None, None, {**STEP, "SLURM_JOB_ID": "123456789"}).port < 32768


def test_a_batch_script_a_step_on_one_node_and_a_person_who_says_so_are_alone() -> None:
    batch = {"SLURM_JOB_NUM_NODES": "3", "SLURM_NNODES": "3", "SLURM_NODEID": "0"}
    for environment in ({}, batch, {**STEP, "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "8"}):
        assert said(None, None, None, environment) == Node()
    assert said(1, None, None, STEP) == Node()


def test_several_tasks_a_node_are_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"24 workers on 3 nodes: .*--ntasks-per-node=1"):
        said(None, None, None, {**STEP, "SLURM_STEP_NUM_TASKS": "24"})


def test_a_person_counts_more_than_slurm_and_says_all_or_nothing() -> None:
    assert said(2, 1, "head:2900", STEP) == Node(1, 2, "head", 2900)
    assert said(2, 0, "[::1]:2900", {}).host == "::1"
    with pytest.raises(UsageError, match="need all of --nodes, --node-rank and --meet-at"):
        said(2, None, "head:2900", {})
    with pytest.raises(UsageError, match="counted from 0 to 1"):
        said(2, 2, "head:2900", {})
    for wrong in ("head", "head:x", ":7", "head:99999"):
        with pytest.raises(UsageError, match="write HOST:PORT"):
            said(2, 1, wrong, {})


def test_torchruns_own_variables_are_understood() -> None:
    told = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "head", "MASTER_PORT": "2900"}
    assert said(None, None, None, told) == Node(1, 2, "head", 2900)
    assert said(None, None, None, {**told, "NNODES": "1"}) == Node()
    assert said(None, None, None, {**told, "MASTER_PORT": ""}) == Node()


def test_who_works_alone_is_none_of_a_platforms_ranks() -> None:
    environment = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "first", "HOME": "/"}
    alone(environment)
    assert environment == {"MASTER_ADDR": "first", "HOME": "/"}
