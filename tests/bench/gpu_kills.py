"""The GPU manager killed at random moments while clients allocate, renew and release; some die too."""

from __future__ import annotations

import random
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.bench.table import Figure, not_here, show
from tests.gpu_clients import Client, Server, overlaps

OPERATIONS, CLIENTS, HOLD_S = 10_000, 16, 0.02
BETWEEN = 100, 1200
"""operations from a start to the next kill"""
LEASE_S = 4.0
"""of the clients"""
MOST_S = 600.0
CLUSTER = "nodes: [{name: gpu, copies: 6, gpus: 8xA100-80GB}]"


def figures() -> Iterator[Figure]:
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            yield from measure(Path(folder))
    except (OSError, subprocess.SubprocessError) as error:
        yield Figure("a server of GPUs that is killed", not_here(error))


def measure(folder: Path) -> Iterator[Figure]:
    (folder / "cluster.yaml").write_text(CLUSTER)
    server = Server(folder, "--cluster", "cluster.yaml", "--ledger", "gpus.sqlite")
    try:
        server.wait()
        clients = [Client(server.url, number, HOLD_S) for number in range(CLIENTS)]
        threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        kills = kill(server, clients)
        for client in clients:
            client.stopping.set()
        for thread in threads:
            thread.join(60)
        operations = sum(client.operations for client in clients)
        held = [one for client in clients for one in client.held]
        what = f"{operations} operations of {CLIENTS} clients, the server killed {kills} times"
        yield Figure(f"cards given to two at once: {what}", str(len(overlaps(held))), "0")
        time.sleep(2 * LEASE_S)
        told = httpx.get(f"{server.url}/status").json()
        lost = told["total_gpus"] - told["available_gpus"]
        yield Figure(f"cards not free again {2 * LEASE_S:g} s after the last client", str(lost), "0")
    finally:
        server.stop(signal.SIGKILL)


def kill(server: Server, clients: list[Client]) -> int:
    luck, kills = random.Random(11), 0
    ends = time.monotonic() + MOST_S
    done = 0
    while done < OPERATIONS and time.monotonic() < ends:
        done += luck.randint(*BETWEEN)
        while sum(client.operations for client in clients) < done and time.monotonic() < ends:
            time.sleep(luck.uniform(0, 0.01))
        server.stop(signal.SIGKILL)
        kills += 1
        server.start()
        server.wait()
    return kills


if __name__ == "__main__":
    show("gpu_kills", figures())
