"""Events over the wire, from a server in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra gpus is not installed")

import httpx

from tests.gpu_clusters import cluster
from tests.servers import free_port
from worker.gpus.allocation import Request
from worker.gpus.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    (tmp_path / "cluster.yaml").write_text("nodes: [{name: a, gpus: 4xA100-80GB}]")
    port = free_port()
    command = [sys.executable, "-m", "worker", "gpus", "serve", "--port", str(port)]
    command += ["--cluster", "cluster.yaml", "--ledger", "l"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/api/v1/gpu"
    for _ in range(1200):
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.05)
    yield process, url
    process.kill()
    process.wait()


def following(lines: Iterator[str], kind: str) -> str:
    for line in lines:
        if line == f"event: {kind}":
            return next(lines)
    pytest.fail(f"no {kind}")


def test_a_reader_hears_of_this_server_and_of_others_and_is_let_go_at_the_end(
    server: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    process, url = server
    with httpx.stream("GET", f"{url}/events", timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        made = httpx.post(f"{url}/allocate", json={"owner": "me"}, timeout=60).json()
        assert made["allocation_id"] in following(lines, "made")
        other = Ledger(tmp_path / "l")
        with other.turn():
            other.supply(cluster(a="4xA100-80GB"))
            theirs = other.allocate(Request(owner="a program of its own"))
        other.close()
        assert "a program of its own" in following(lines, "made")
        assert httpx.delete(f"{url}/allocations/{theirs.id}", timeout=60).status_code == 200  # type: ignore[union-attr]
        assert '"why":"released"' in following(lines, "ended")
        process.send_signal(signal.SIGTERM)
        assert "made" not in "".join(lines)  # a stream that was cut off would raise
        assert process.wait(60) == 0
