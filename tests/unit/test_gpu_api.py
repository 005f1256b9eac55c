"""The REST interface, name by name, and the same within a program."""

from __future__ import annotations

import importlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra gpus is not installed")

from fastapi.testclient import TestClient

import worker.gpus as library
from tests.nvml import Nvml
from worker.errors import MachineError, UsageError
from worker.gpus import TrainingGPUConfig, serving
from worker.gpus.api import create_app
from worker.gpus.described import DescribedCluster
from worker.gpus.gate import LOOPBACK_NAMES, MOST_BYTES, check_listening
from worker.gpus.manager import GpuResourceManager
from worker.gpus.nvidia import ThisMachine
from worker.gpus.refusals import Refusal

NODES = "nodes: [{name: a, gpus: 4xA100-80GB}, {name: b, gpus: 4xA100-80GB}, {name: c, gpus: 2xV100-16GB}]"
ONE = {"gpu_count": 1, "gpu_type": "A100"}


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text(NODES)
    return file


@pytest.fixture
def manager(tmp_path: Path, cluster: Path) -> Iterator[GpuResourceManager]:
    made = GpuResourceManager(DescribedCluster(cluster), tmp_path / "l")
    made.wait_ready(30)
    yield made
    made.close()


@pytest.fixture
def client(manager: GpuResourceManager) -> TestClient:
    return TestClient(create_app(manager), base_url="http://localhost/api/v1/gpu")


def allocate(client: TestClient, **asked: Any) -> dict[str, Any]:
    answer = client.post("allocate", json=asked)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# looking


def test_status_tells_use_and_free_nodes(client: TestClient) -> None:
    allocate(client, gpu_count=4, gpu_type="A100", node_name="a")
    told = client.get("status").json()
    assert {name: told[name] for name in ("total_nodes", "total_gpus", "available_gpus", "allocations")} == {
        "total_nodes": 3,
        "total_gpus": 10,
        "available_gpus": 6,
        "allocations": 1,
    }
    assert told["utilization"] == {"gpu_utilization": 0.0, "gpu_memory_usage": 0.0}
    assert told["available_nodes"][0] == {
        "node_name": "b",
        "gpu_type": "A100",
        "available_gpus": 4,
        "memory_per_gpu": 80,
        "utilization": {"gpu_utilization": 0.0, "gpu_memory_usage": 0.0},
    }
    assert [node["node_name"] for node in told["available_nodes"]] == ["b", "c"]
    assert "timestamp" in told


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["a", "b", "c"]),
        ({"gpu_type": "v100"}, ["c"]),
        ({"min_memory_gb": 17}, ["a", "b"]),
        ({"gpu_type": "V100-32GB"}, []),
    ],
)
def test_nodes_are_those_with_a_free_card_that_suits(
    client: TestClient, asked: dict[str, Any], names: list[str]
) -> None:
    told = client.get("nodes", params=asked).json()["nodes"]
    assert [node["node_name"] for node in told] == names


def test_monitoring_tells_each_card_and_who_holds_it(tmp_path: Path) -> None:
    manager = GpuResourceManager(ThisMachine(Nvml.of("v100-bridges"), "here"), tmp_path / "l")
    manager.wait_ready(30)
    client = TestClient(create_app(manager), base_url="http://localhost/api/v1/gpu")
    made = allocate(client, gpu_count=1, owner="me")
    cards = client.get("monitoring").json()["cards"]
    manager.close()
    assert cards[0]["owner"] == "me"
    assert cards[0]["allocation_id"] == made["allocation_id"]
    assert cards[1]["trouble"].startswith("3 uncorrectable memory errors")
    assert cards[3]["processes"] == [4711]
    assert made["gpu_config"]["environment"] == {"here": {"CUDA_VISIBLE_DEVICES": cards[0]["uuid"]}}


def test_a_history_may_be_asked_for_from_whenever(client: TestClient) -> None:
    for since in ("0001-01-01T00:00:00", "9999-12-31T23:59:59Z"):
        assert client.get("monitoring", params={"since": since}).status_code == 200


def test_a_page_elsewhere_cannot_have_a_browser_take_cards(client: TestClient) -> None:
    for kind in ({}, {"Content-Type": "text/plain"}):  # with which a browser asks nobody first
        assert client.post("allocate", content=b'{"gpu_count": 1}', headers=kind).status_code == 422
    assert client.get("status").json()["allocations"] == 0


def test_what_is_not_ready_says_so_with_its_reason(tmp_path: Path) -> None:
    manager = GpuResourceManager(ThisMachine(Nvml({"error": "Driver Not Loaded"})), tmp_path / "l")
    with pytest.raises(Refusal, match="Driver Not Loaded"):
        manager.wait_ready(30)
    client = TestClient(create_app(manager), base_url="http://localhost/api/v1/gpu")
    for answer in (client.get("health"), client.get("status"), client.post("allocate", json=ONE)):
        assert error(answer) == (503, "not_ready")
        assert "Driver Not Loaded" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"] == "5"
    manager.close()


def test_a_healthy_manager_is_ready(client: TestClient) -> None:
    assert client.get("health").json()["status"] == "ready"


# holding


def test_allocate_tells_where_and_with_which_cards(client: TestClient) -> None:
    told = allocate(
        client,
        gpu_count=2,
        gpu_type="A100",
        memory_gb=40,
        distributed_training=True,
        mixed_precision=True,
        gpu_memory_fraction=0.9,
    )
    assert (told["success"], told["node_name"]) == (True, "a")
    config = told["gpu_config"]
    assert config["gpu_memory_fraction"] == 0.9
    assert [card["uuid"] for card in config["cards"]] == ["a/0", "a/1"]
    assert config["environment"] == {"a": {"CUDA_VISIBLE_DEVICES": "0,1"}}


def test_a_gang_over_two_nodes_has_an_environment_for_each(client: TestClient) -> None:
    told = allocate(client, gpu_count=8, gpu_type="A100", distributed_training=True)
    assert told["nodes"] == ["a", "b"]
    assert {
        node: len(value["CUDA_VISIBLE_DEVICES"]) for node, value in told["gpu_config"]["environment"].items()
    } == {
        "a": 7,
        "b": 7,
    }


def test_a_lease_is_looked_at_renewed_and_ended_by_its_name(client: TestClient) -> None:
    name = allocate(client, **ONE, lease_s=100)["allocation_id"]
    assert 90 < client.get(f"allocations/{name}").json()["lease_s"] <= 100
    assert 90 < client.post(f"allocations/{name}/renew").json()["lease_s"] <= 100
    assert client.delete(f"allocations/{name}").json() == {"success": True, "released": [name]}
    assert error(client.delete(f"allocations/{name}")) == (404, "no_allocation")


def test_cleanup_gives_back_all_of_a_node(client: TestClient) -> None:
    name = allocate(client, **ONE)["allocation_id"]
    assert client.delete("cleanup/a").json() == {"success": True, "released": [name]}
    assert client.delete("cleanup/b").json() == {"success": True, "released": []}
    assert error(client.delete("cleanup/z")) == (404, "no_node")


def test_the_same_key_gives_the_same_cards(client: TestClient) -> None:
    key = {"Idempotency-Key": "k"}
    first, second = (client.post("allocate", json=ONE, headers=key).json() for _ in range(2))
    assert first == second
    assert error(client.post("allocate", json={"gpu_count": 2}, headers=key)) == (422, "key_reused")


def test_who_shrinks_or_goes_without_says_so_before_and_is_told(client: TestClient) -> None:
    much = {"gpu_type": "V100", "memory_gb": 20}
    assert error(client.post("allocate", json=much)) == (422, "impossible")
    shrunk = allocate(client, **much, allow_shrink=True)
    assert shrunk["message"] == "shrunk: 16 GB instead of 20"
    assert (shrunk["gpu_config"]["gpu_memory_fraction"], shrunk["node_name"]) == (0.7, "c")
    told = {"gpu_config": {**much, "allow_shrink": True}, "allocation_id": shrunk["allocation_id"]}
    assert client.post("setup-pytorch", json=told).json()["memory_fraction"] == 0.7
    limit = client.post("setup-tensorflow", json=told).json()["memory_limit_mb"]
    assert limit == int(0.7 * 16e9 / 2**20)
    without = allocate(client, **much, allow_cpu=True)
    assert (without["gpu_config"]["enabled"], without["node_name"]) == (False, "")
    assert without["message"].startswith("on the CPU: 1 V100 of 20 GB: never here")


def test_a_shrunk_answer_is_given_again_for_its_key(client: TestClient) -> None:
    asked = {"gpu_type": "V100", "memory_gb": 20, "allow_shrink": True}
    first, second = (client.post("allocate", json=asked, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json() == second.json()


def test_who_waits_longer_than_he_wants_is_refused(client: TestClient) -> None:
    allocate(client, gpu_count=2, gpu_type="V100")
    refused = client.post("allocate", json={"gpu_type": "V100", "wait_s": 0.1})
    assert error(refused) == (409, "busy")
    assert "waited in vain" in refused.text


def test_validate_answers_and_takes_nothing(client: TestClient) -> None:
    assert client.post("validate", json=ONE).json() == {
        "valid": True,
        "available_now": True,
        "code": "",
        "message": "",
        "plan": None,
    }
    refused = client.post("validate", json={"gpu_count": 5}).json()
    assert (refused["valid"], refused["code"]) == (False, "impossible")
    assert client.get("status").json()["allocations"] == 0


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"gpu_count": 0}, "wrong_value"),
        ({"gpu_count": "two"}, "wrong_value"),
        ({"memory_gb": -1}, "wrong_value"),
        ({"gpu_memory_fraction": 1.5}, "wrong_value"),
        ({"gpus": 1}, "wrong_value"),
        ({"owner": "me\nWARNING all cards are ill"}, "wrong_value"),
        ({"node_name": "a\x1b[2J"}, "wrong_value"),
        ({"gpu_type": "Q100"}, "unknown_type"),
        ({"gpu_count": 99}, "impossible"),
    ],
)
def test_errors_have_a_type(client: TestClient, asked: dict[str, Any], code: str) -> None:
    assert error(client.post("allocate", json=asked)) == (422, code)


def test_errors_are_told_in_chinese_to_who_asks_for_it(client: TestClient) -> None:
    refused = client.post("allocate", json={"gpu_count": 99}, headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert refused.json()["error"]["message"] == (
        "99 GPU：此处无法满足：这样的卡共 10 张，单个节点最多 4 张同类卡"
    )


@pytest.mark.parametrize(
    ("body", "english", "chinese"),
    [
        (b'{"gpu_count": 0}', "gpu_count is 0: Input should be greater than or equal to 1", "应不小于 1"),
        (b'{"gpus": 1}', "gpus is 1: there is no such key: see /docs", "没有这个键：见 /docs"),
        (b"{", "body is no JSON at character 1: Expecting", "body 的值为 非 JSON（第 1 个字符）"),
        (b"", "body is missing: it is needed", "必须填写"),
        (b'{"owner": "\\ud800"}', r'owner is "\ud800": Input should be a valid string', "应为有效的 Unicode"),
        (b"[" * 100_000, "body is ...: There was an error parsing the body", "body 的值为"),
    ],
)
def test_a_wrong_body_is_told_in_one_line(
    client: TestClient, body: bytes, english: str, chinese: str
) -> None:
    for language, told in (("en", english), ("zh", chinese)):
        headers = {"Accept-Language": language, "Content-Type": "application/json"}
        answer = client.post("allocate", content=body, headers=headers)
        assert error(answer) == (422, "wrong_value")
        message = answer.json()["error"]["message"]
        assert told in message
        assert "\n" not in message


def test_who_forgets_the_header_of_json_is_told_it(client: TestClient) -> None:
    told = client.post("allocate", content=b'{"gpu_count": 1}', headers={"Content-Type": "text/plain"})
    assert "with the header Content-Type: application/json" in told.json()["error"]["message"]


def test_what_is_wrong_deep_within_is_no_fault_of_the_server(client: TestClient) -> None:
    asked = rb'{"task": "classify-train", "params": {"\ud800": "\ud800"}}'
    told = client.post("validate", content=asked, headers={"Content-Type": "application/json"})
    assert told.status_code == 200
    assert r'params is "\ud800"' in told.json()["message"]
    assert client.get("monitoring", params={"card": "a/0", "since": "0001-01-01T00:00:00"}).status_code == 200


def test_what_is_not_there_has_a_type_too(client: TestClient, manager: GpuResourceManager) -> None:
    assert error(client.get("nothing")) == (404, "no_path")
    assert error(client.post("status")) == (405, "no_path")
    broken = TestClient(
        create_app(manager), base_url="http://localhost/api/v1/gpu", raise_server_exceptions=False
    )
    manager.check_ready = lambda: 1 / 0  # type: ignore[assignment,method-assign]
    assert error(broken.get("health")) == (500, "broken")


def test_a_huge_body_is_not_read(client: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    assert error(client.post("allocate", content=b" " * (MOST_BYTES + 1), headers=headers)) == (
        413,
        "too_large",
    )
    parts = (b" " * 65_536 for _ in range(100))  # its length is not told before
    assert error(client.post("allocate", content=parts, headers=headers)) == (413, "too_large")


# settings of frameworks


def test_pytorch_is_told_its_world(client: TestClient) -> None:
    asked = {"gpu_count": 8, "gpu_type": "A100", "distributed_training": True, "mixed_precision": True}
    name = allocate(client, **asked)["allocation_id"]
    told = client.post("setup-pytorch", json={"gpu_config": asked, "allocation_id": name}).json()
    assert told == {
        "success": True,
        "device": "cuda",
        "world_size": 8,
        "nproc_per_node": 4,
        "backend": "nccl",
        "autocast": "bfloat16",
        "memory_fraction": 0.8,
    }
    assert client.post("setup-pytorch", json={}).json()["device"] == "cpu"


def test_tensorflow_is_told_its_devices(client: TestClient) -> None:
    asked = {"gpu_count": 2, "gpu_type": "V100", "mixed_precision": True}
    name = allocate(client, **asked)["allocation_id"]
    told = client.post("setup-tensorflow", json={"gpu_config": asked, "allocation_id": name}).json()
    assert told == {
        "success": True,
        "visible_devices": [0, 1],
        "memory_limit_mb": 12207,
        "mixed_precision": "mixed_float16",
        "strategy": "MirroredStrategy",
    }
    unknown = client.post("setup-tensorflow", json={"allocation_id": "gone"})
    assert error(unknown) == (404, "no_allocation")


# who may ask


def test_without_the_token_nothing_but_health_is_answered(manager: GpuResourceManager) -> None:
    client = TestClient(create_app(manager, "s3cret"), base_url="http://anywhere/api/v1/gpu")
    assert client.get("health").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}):
        assert error(client.get("status", headers=headers)) == (401, "unauthorised")
    assert client.get("status", headers={"Authorization": "Bearer s3cret"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("LocalHost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("evil.example", 401)],
)
def test_without_a_token_only_names_of_this_machine_are_answered(
    manager: GpuResourceManager, host: str, status: int
) -> None:
    client = TestClient(create_app(manager, hosts=LOOPBACK_NAMES), base_url="http://localhost/api/v1/gpu")
    answer = client.get("status", headers={"Host": host, "Accept-Language": "zh"})
    assert answer.status_code == status
    assert status == 200 or "请用 WORKER_TOKEN 启动管理器" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "gpu.example"])
def test_without_a_token_nobody_outside_is_listened_to(host: str) -> None:
    with pytest.raises(UsageError, match="set WORKER_TOKEN"):
        check_listening(host, "")
    check_listening(host, "token")
    check_listening("127.0.0.1", "")


@pytest.mark.parametrize("absent", ["uvicorn", "fastapi", "starlette.responses"])
def test_without_the_extra_it_is_said_what_to_install(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("worker.gpus.answers", "worker.gpus.api", "worker.gpus.gate", "worker.gpus.serving"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, absent, None)
    anew = importlib.import_module("worker.gpus.serving")
    with pytest.raises(MachineError, match=rf"{absent} is not installed: pip install .*gpus\.txt"):
        anew.serve("127.0.0.1", 0, "", None, None, None)


def test_who_finds_the_port_taken_is_told_to_name_another(
    tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_log_to_file", str)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"nobody can listen on 127.0.0.1:{port}: --port"):
            serving.serve("127.0.0.1", port, "", None, cluster, tmp_path / "l")


def test_the_page_lists_each_path_of_the_interface(client: TestClient) -> None:
    paths = client.get("http://localhost/openapi.json").json()["paths"]
    listed = {path.removeprefix("/api/v1/gpu/") for path in paths}
    assert listed >= {
        *("status", "nodes", "health", "monitoring", "allocate", "validate"),
        *("setup-tensorflow", "setup-pytorch", "cleanup/{node}"),
    }
    assert client.get("http://localhost/docs").status_code == 200


# within a program


@pytest.fixture
def here(tmp_path: Path, cluster: Path) -> Iterator[GpuResourceManager]:
    yield library.get_gpu_resource_manager(cluster, tmp_path / "library")
    library.close_gpu_resource_manager()


@pytest.mark.usefixtures("here")
def test_the_names_of_the_library_do_what_the_paths_do() -> None:
    assert library.validate_gpu_requirements({"gpu_count": 4}).available_now
    assert not library.validate_gpu_requirements({"gpu_count": 5}).valid
    made = library.allocate_gpu_resources(TrainingGPUConfig(gpu_count=4, gpu_type="A100"))
    assert [node.node_name for node in library.get_available_gpu_nodes("A100", 40)] == ["b"]
    held = [card.allocation_id for card in library.get_gpu_monitoring_data().cards]
    assert held.count(made.allocation_id) == 4
    assert library.cleanup_gpu_resources(made.node_name).released == [made.allocation_id]
    again = library.allocate_gpu_resources({"gpu_count": 1})
    assert library.cleanup_gpu_resources(allocation_id=again.allocation_id).success
    assert not library.allocate_gpu_resources({"enabled": False}).gpu_config.enabled
    with pytest.raises(Refusal, match="never here"):
        library.allocate_gpu_resources({"gpu_count": 5})
    assert not library.allocate_gpu_resources({"gpu_count": 5, "allow_cpu": True}).gpu_config.enabled


def test_what_a_program_holds_is_renewed_while_it_lives(here: GpuResourceManager) -> None:
    made = library.allocate_gpu_resources({"lease_s": 1})
    first = here.ask(lambda ledger: ledger.get(made.allocation_id)).result()
    for _ in range(200):
        if here.ask(lambda ledger: ledger.get(made.allocation_id)).result().until > first.until:
            break
        threading.Event().wait(0.05)
    else:
        pytest.fail("its lease was not renewed")


@pytest.mark.usefixtures("here")
def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "gpu-manager.md").read_text()
    exec(page.partition("```python\n")[2].partition("```")[0], {})
    assert "{'a': {'CUDA_VISIBLE_DEVICES': '0,1'}}" in capsys.readouterr().out
    assert len(library.get_available_gpu_nodes()) == 3
