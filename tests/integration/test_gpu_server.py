"""The GPU manager as a process: its page's commands, and what a kill leaves behind."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the extra gpus is not installed")

import httpx

from tests.gpu_clients import API, ROOT, Client, Server, overlaps
from tests.workers import eventually
from worker.gpus.ledger import Ledger

PAGE = (ROOT / "docs" / "gpu-manager.md").read_text()
KILLS, BETWEEN_KILLS = 4, 20
"""times that the server is killed, requests that are answered in between"""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    (cluster,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "cluster.yaml").write_text(cluster)
    started: list[Server] = []
    yield started
    for server in started:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


def start(servers: list[Server], folder: Path, *options: str) -> Server:
    servers.append(Server(folder, "--cluster", "cluster.yaml", "--ledger", "gpus.sqlite", *options))
    return servers[-1]


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_the_curl_lines_of_the_page_do_what_it_says(servers: list[Server], tmp_path: Path) -> None:
    server = start(servers, tmp_path)
    server.wait()
    lines = [line for line in PAGE.splitlines() if line.startswith("curl ")]
    told: dict[str, dict[str, Any]] = {}
    for line in lines:
        command = shlex.split(line.replace(":8000", f":{server.port}"))
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        url = next(word for word in command if word.startswith("http"))
        told[url.partition(f"{API}/")[2].partition("?")[0]] = json.loads(ended.stdout)
    assert {name.partition("/")[0] for name in told} == {
        *("status", "nodes", "validate", "allocate", "monitoring", "health"),
        *("setup-pytorch", "setup-tensorflow", "cleanup"),
    }
    assert all(answer.get("success", True) for answer in told.values()), told
    assert told["allocate"]["node_name"] == "gpu-0"
    assert told["allocate"]["allocation_id"] in told["cleanup/gpu-0"]["released"]
    assert server.stop() == 0
    assert "ready" in (tmp_path / "logs" / "gpu_resource_manager.log").read_text()


def test_others_are_not_listened_to_without_a_token(servers: list[Server], tmp_path: Path) -> None:
    server = start(servers, tmp_path, "--host", "0.0.0.0")
    _, said = server.process.communicate(timeout=60)
    assert server.process.returncode == 2
    assert "others could take GPUs: set WORKER_TOKEN" in said


def test_a_server_that_is_killed_again_and_again_gives_no_card_twice_and_loses_none(
    servers: list[Server], tmp_path: Path
) -> None:
    server = start(servers, tmp_path)
    server.wait()
    clients = [Client(server.url, number) for number in range(12)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for number in range(KILLS + 1):
        eventually(lambda: sum(client.served for client in clients) > BETWEEN_KILLS * (number + 1))  # noqa: B023
        if number < KILLS:
            server.stop(signal.SIGKILL)
            server.start()
            server.wait()
    for client in clients:
        client.stopping.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not overlaps([one for client in clients for one in client.held])

    end = time.monotonic() + 60
    while (told := httpx.get(f"{server.url}/status").json())["allocations"] and time.monotonic() < end:
        time.sleep(0.2)
    assert (told["allocations"], told["available_gpus"]) == (0, told["total_gpus"] - 1)
    server.stop(signal.SIGKILL)
    ledger = Ledger(tmp_path / "gpus.sqlite")
    with ledger.turn():
        assert not ledger.allocations
    ledger.close()


def test_overlaps_are_seen() -> None:
    assert overlaps([("a", 0, 2), ("b", 1, 2), ("a", 1, 3)]) == [("a", 1)]
    assert not overlaps([("a", 0, 1), ("a", 1, 2)])
