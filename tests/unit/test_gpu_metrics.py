"""What Prometheus reads, the figures with their history, and the pages that need nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra gpus is not installed")

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from tests.gpu_clusters import cluster, with_card
from worker.gpus.api import create_app
from worker.gpus.figures import Figures, ProcessFigures
from worker.gpus.inventory import Node
from worker.gpus.manager import GpuResourceManager

TELLING = Figures(
    model="NVIDIA A100-SXM4-80GB",
    pci_bus_id="00000000:87:00.0",
    device="nvidia1",
    copying=0.41,
    temperature_c=63,
    power_w=312.5,
    clock_mhz=1410,
    xid=79,
    processes=(ProcessFigures(7, 9.5, 0.9),),
)


class Nodes:
    def look(self) -> Sequence[Node]:
        told = {"busy": 0.97, "used_gb": 40.0, "processes": (7,), "figures": TELLING}
        return with_card(cluster(a="2xA100-80GB", b="1xV100-16GB"), "a/1", **told)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[GpuResourceManager]:
    made = GpuResourceManager(Nodes(), tmp_path / "l")
    made.wait_ready(30)
    yield made
    made.close()


@pytest.fixture
def client(manager: GpuResourceManager) -> TestClient:
    return TestClient(create_app(manager), base_url="http://localhost")


def scraped(client: TestClient) -> dict[str, list[tuple[dict[str, str], float]]]:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_figures_have_dcgm_s_names_units_and_labels(client: TestClient) -> None:
    found = scraped(client)
    told = {name.removeprefix("DCGM_FI_DEV_"): values for name, values in found.items() if "DCGM" in name}
    assert {name: [value for _, value in values] for name, values in told.items()} == {
        "GPU_UTIL": [97],
        "MEM_COPY_UTIL": [41],
        "FB_USED": [38147],
        "FB_FREE": [38147],
        "GPU_TEMP": [63],
        "POWER_USAGE": [312.5],
        "SM_CLOCK": [1410],
        "XID_ERRORS": [79],
    }
    (labels,) = {tuple(labels.items()) for values in told.values() for labels, _ in values}
    assert dict(labels) == {
        "gpu": "1",
        "UUID": "a/1",
        "pci_bus_id": "00000000:87:00.0",
        "device": "nvidia1",
        "modelName": "NVIDIA A100-SXM4-80GB",
        "GPU_I_ID": "",
        "Hostname": "a",
    }


def test_the_manager_tells_of_itself(client: TestClient) -> None:
    assert client.post("/api/v1/gpu/allocate", json={"gpu_count": 1, "owner": "me"}).status_code == 200
    assert client.post("/api/v1/gpu/allocate", json={"gpu_count": 9}).status_code == 422
    found = scraped(client)
    assert {labels["state"]: value for labels, value in found["worker_gpu_cards"]} == {
        "free": 1,
        "held": 1,
        "foreign": 1,
        "ill": 0,
    }
    assert found["worker_gpu_allocations"] == [({}, 1)]
    assert found["worker_gpu_refused_total"] == [({"reason": "impossible"}, 1)]


def test_metrics_and_events_need_the_token_where_there_is_one_and_pages_do_not(
    manager: GpuResourceManager,
) -> None:
    client = TestClient(create_app(manager, token="s3cret"), base_url="http://anywhere")
    held = {"Authorization": "Bearer s3cret"}
    for path in ("/metrics", "/api/v1/gpu/monitoring", "/api/v1/gpu/allocations", "/api/v1/gpu/events"):
        assert client.get(path).status_code == 401, path
    assert client.get("/metrics", headers=held).status_code == 200
    for path in ("/", "/docs", "/openapi.json"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "a/1" not in answer.text


def test_monitoring_tells_what_a_card_says_and_null_for_what_it_does_not(client: TestClient) -> None:
    silent, telling, _ = client.get("/api/v1/gpu/monitoring").json()["cards"]
    told: dict[str, Any] = {name: telling[name] for name in ("power_w", "xid", "process_figures")}
    assert told == {
        "power_w": 312.5,
        "xid": 79,
        "process_figures": [{"pid": 7, "memory_used_gb": 9.5, "gpu_utilization": 0.9}],
    }
    assert (silent["gpu_utilization"], silent["memory_used_gb"], silent["temperature_c"]) == (None,) * 3


def test_monitoring_of_a_card_has_its_history(client: TestClient) -> None:
    told = client.get("/api/v1/gpu/monitoring", params={"card": ["a/1", "a/0"]}).json()
    assert [card["uuid"] for card in told["cards"]] == ["a/0", "a/1"]
    history = told["history"]["a/1"]
    assert set(history) == {"at", "gpu_utilization", "gpu_memory_usage", "temperature_c", "power_w"}
    assert all(len(values) == 1 for values in history.values())
    assert set(told["history"]) == {"a/1"}
    assert told["history_all"]["held"] == [0]
    alone = client.get("/api/v1/gpu/monitoring", params={"card": "", "since": 0}).json()
    assert (alone["cards"], alone["history_all"]["held"]) == ([], [0])
    assert client.get("/api/v1/gpu/monitoring", params={"since": "yesterday"}).status_code == 422


def test_allocations_are_listed_with_who_waits(client: TestClient) -> None:
    made = client.post("/api/v1/gpu/allocate", json={"owner": "me", "gpu_type": "V100"}).json()
    told = client.get("/api/v1/gpu/allocations").json()
    (one,) = told["allocations"]
    assert (one["id"], one["owner"], one["cards"]) == (made["allocation_id"], "me", ["b/0"])
    assert 590 < one["until"] - one["made"] <= 600.1
    assert told["waiting"] == []
    assert told["event"]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"https?://(?!www\.w3\.org)", answer.text)
    assert not re.findall(r"<[^>]+ (?:src|style|on\w+)=", answer.text)


def test_docs_name_every_path_and_form(client: TestClient) -> None:
    api, text = client.get("/openapi.json").json(), client.get("/docs").text
    for path in api["paths"]:
        assert f"<code>{path}</code>" in text
    for name in api["components"]["schemas"]:
        assert f'id="{name}"' in text
    assert "≤ 65536" in text


def test_the_page_speaks_the_browser_s_language(client: TestClient) -> None:
    for asked, lang in (("zh-CN,zh;q=0.9", "zh"), ("de", "en")):
        assert f'<html lang="{lang}">' in client.get("/", headers={"Accept-Language": asked}).text
