"""The GPU manager with 1,000 nodes of 8 cards, asked by 200 clients over connections that stay open: while
nobody follows its events and while 50 readers do."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.table import Figure, not_here, show
from tests.servers import free_port
from tests.workers import ROOT

CLIENTS, READERS, SECONDS, HOLD_S = 200, 50, 20.0, 1.0
CLUSTER = (
    "nodes: [{name: gpu, copies: 1000, gpus: 8xA100-80GB, nvlink: all, numa: [[0, 1, 2, 3], [4, 5, 6, 7]]}]"
)


def figures() -> Iterator[Figure]:
    try:
        with server() as port:
            asyncio.run(ready(port))
            allocating, looking, _ = asyncio.run(measure(port, 0))
            followed, _, heard = asyncio.run(measure(port, READERS))
    except (OSError, subprocess.SubprocessError) as error:
        yield Figure("allocate, 1,000 nodes of 8 cards", not_here(error))
        return
    count = f"{len(allocating) / SECONDS:.0f} a second"
    yield Figure(
        f"allocate, {CLIENTS} clients who hold 1 to 8 of 8,000 cards for {HOLD_S:g} s each, {count}",
        f"p50 {percentile(allocating, 50):.1f} ms, p99 {percentile(allocating, 99):.1f} ms",
        "p99 under 20 ms",
    )
    yield Figure(
        "status meanwhile, once a second",
        f"p50 {percentile(looking, 50):.0f} ms, worst {max(looking):.0f} ms",
        "under 100 ms",
    )
    yield Figure(
        f"allocate while {READERS} readers follow the events, {min(heard) / SECONDS:.0f} a second each",
        f"p50 {percentile(followed, 50):.1f} ms, p99 {percentile(followed, 99):.1f} ms",
        "p99 under 20 ms",
    )


def percentile(times: list[float], which: int) -> float:
    return statistics.quantiles(times, n=100)[which - 1]


@contextmanager
def server() -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        (Path(folder) / "cluster.yaml").write_text(CLUSTER)
        port = free_port()
        command = [sys.executable, "-m", "worker", "gpus", "serve", "--port", str(port)]
        command += ["--cluster", "cluster.yaml", "--ledger", "gpus.sqlite"]
        env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        with subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.DEVNULL) as process:
            try:
                yield port
            finally:
                process.terminate()


async def ready(port: int) -> None:
    for _ in range(600):
        try:
            client = await Client.connect(port)
            status, _ = await client.ask("GET", "health")
            if status == 200:
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)
    raise OSError("the server did not become ready within a minute")


async def measure(port: int, readers: int) -> tuple[list[float], list[float], list[int]]:
    """Milliseconds of allocate and of status; events that each reader heard."""
    allocating: list[float] = []
    looking: list[float] = []
    end = time.perf_counter() + SECONDS

    async def hold(number: int) -> None:
        luck = random.Random(number)
        client = await Client.connect(port)
        await asyncio.sleep(luck.random() * HOLD_S)
        while time.perf_counter() < end:
            began = time.perf_counter()
            asked = {"gpu_count": luck.choice((1, 1, 1, 2, 4, 8)), "owner": f"owner-{number % 20}"}
            status, told = await client.ask("POST", "allocate", asked)
            allocating.append((time.perf_counter() - began) * 1000)
            assert status == 200, told
            await asyncio.sleep(HOLD_S * luck.uniform(0.5, 1.5))
            await client.ask("DELETE", f"allocations/{told['allocation_id']}")

    async def look() -> None:
        client = await Client.connect(port)
        while time.perf_counter() < end:
            began = time.perf_counter()
            status, told = await client.ask("GET", "status")
            looking.append((time.perf_counter() - began) * 1000)
            assert status == 200, told
            await asyncio.sleep(1)

    reading = [asyncio.create_task(read(port)) for _ in range(readers)]
    await asyncio.gather(look(), *(hold(number) for number in range(CLIENTS)))
    await asyncio.sleep(1)
    for one in reading:
        one.cancel()
    return allocating, looking, [await one for one in reading]


async def read(port: int) -> int:
    """Events until it is cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/v1/gpu/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    heard = 0
    try:
        while lines := await reader.read(1 << 16):
            heard += lines.count(b"event: ")
    except asyncio.CancelledError:
        pass
    writer.close()
    return heard


class Client:
    """As little as speaks HTTP, so that the server is measured and not its asker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str]]:
        sent = json.dumps(body).encode() if body is not None else b""
        head = (
            f"{method} /api/v1/gpu/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        )
        self._writer.write(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
        return int(answer.split(" ", 2)[1]), json.loads(await self._reader.readexactly(length))


if __name__ == "__main__":
    show("gpus", figures())
