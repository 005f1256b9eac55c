"""Clips on their way to a blob container: `worker launch` beside the cloud vendor's own library, in turns."""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.table import Figure, not_here, show
from tests.servers import azurite
from worker.launch.transfer import upload
from worker.queue.emulator import ACCOUNT, KEY

CLIPS = 1019
CLIP, TINY, LARGE = 1 << 20, 2_000, 1 << 30
ROUNDS = 3
THREADS = 16
"""as many as ours: its own way of copying folders, azcopy, is another program"""


@dataclass(frozen=True, slots=True)
class Way:
    name: str
    send: Callable[[Path, str], None]


def figures() -> Iterator[Figure]:
    ways = [Way("worker", ours), Way("azure-storage-blob", theirs)]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield large(Path(folder) / "large")  # first, for memory is counted at its highest
        for size, said, aim in ((CLIP, "of 1 MiB", "80 % of its speed"), (TINY, "of 2 kB", "")):
            clips = made(Path(folder) / f"clips{size}", CLIPS, size)
            try:
                with tempfile.TemporaryDirectory(prefix="bench-") as room, azurite(Path(room)) as blobs:
                    os.environ.update(blobs.env)
                    spent: dict[str, list[float]] = {way.name: [] for way in ways}
                    for _ in range(ROUNDS):
                        for way in ways:
                            spent[way.name].append(seconds(way, clips, blobs.fresh()))
                    url = blobs.fresh()
                    ours(clips, url)
                    again = seconds(ways[0], clips, url)
            except (pytest.skip.Exception, ImportError) as error:
                yield Figure(f"{CLIPS:,} files {said} to Azurite", not_here(error), aim)
                continue
            mine, other = (statistics.median(spent[way.name]) for way in ways)
            yield Figure(
                f"{CLIPS:,} files {said} to Azurite: `worker launch` against azure-storage-blob's "
                f"`upload_blob` in {THREADS} threads",
                f"{rate(clips, mine)} against {rate(clips, other)}: {other / mine:.2f} times as fast",
                aim,
            )
            yield Figure("the same again, with all of them there", f"{again:.2f} s")


def large(folder: Path) -> Figure:
    what = "memory that `worker launch` takes for one file of 1 GiB on its way to Azurite, and its speed"
    made(folder, 1, LARGE)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as room, azurite(Path(room)) as blobs:
            os.environ.update(blobs.env)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            spent = seconds(Way("worker", ours), folder, blobs.fresh())
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    except pytest.skip.Exception as skipped:
        return Figure(what, not_here(skipped))
    return Figure(what, f"{(after - before) / 1024:.0f} MiB, {rate(folder, spent)}")


def made(folder: Path, count: int, size: int) -> Path:
    folder.mkdir()
    for number in range(count):
        with (folder / f"clip {number:04}.mp4").open("wb") as out:
            for at in range(0, size, CLIP):
                out.write(os.urandom(min(CLIP, size - at)))
    return folder


def seconds(way: Way, clips: Path, url: str) -> float:
    began = time.perf_counter()
    way.send(clips, url)
    return time.perf_counter() - began


def rate(clips: Path, spent: float) -> str:
    files = [file.stat().st_size for file in clips.iterdir()]
    return (
        f"{sum(files) / spent / 1e6:.0f} MB/s" if max(files) > TINY else f"{len(files) / spent:.0f} files/s"
    )


def ours(clips: Path, url: str) -> None:
    upload(clips, url, lambda _: None)


def theirs(clips: Path, url: str) -> None:
    """As its documentation has it, in threads."""
    from azure.storage.blob import ContainerClient

    endpoint = f"{os.environ['AZURITE_BLOB_STORAGE_URL']}/{ACCOUNT}"
    account = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"

    def one(file: Path) -> None:
        with file.open("rb") as data:
            client.upload_blob(name=file.name, data=data, overwrite=True)

    with (
        ContainerClient.from_connection_string(account, url.removeprefix("az://")) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        for _ in pool.map(one, sorted(clips.iterdir())):
            pass


if __name__ == "__main__":
    show("upload", figures())
