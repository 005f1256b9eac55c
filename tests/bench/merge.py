"""How much memory and time it takes to merge an adapter, beside a plain copy of the same bytes."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from tests.bench.table import Figure, not_here, show
from tests.workers import ROOT

ROUNDS = 3
MERGED = """
import re, sys, time
from pathlib import Path
import torch
from worker.merging.merge import Merge
def memory(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
torch.zeros(64, 64) @ torch.zeros(64, 64)
before, began = memory("VmRSS"), time.perf_counter()
Merge.of(Path(sys.argv[1]), "").write(Path(sys.argv[2]), lambda: None, lambda *_: None)
print(time.perf_counter() - began, before, memory("VmHWM"))
"""


def figures(shards: int, megabytes: int) -> Iterator[Figure]:
    from tests.adapters import synthetic

    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        largest = synthetic(folder / "base", folder / "adapter", shards, megabytes)
        size = sum(one.stat().st_size for one in (folder / "base").glob("*.safetensors"))
        copies, merges, peaks = [], [], []
        for number in range(ROUNDS):
            copies.append(copied(folder / "base", folder / f"copy{number}"))
            took, before, peak = merged(folder / "adapter", folder / f"merged{number}")
            merges.append(took)
            peaks.append((before, peak))
            for one in ("copy", "merged"):
                remove(folder / f"{one}{number}")
        what = f"{size / 1e9:.1f} GB in {shards} files, every second tensor changed"
        before, peak = max(peaks, key=lambda one: one[1])
        yield Figure(
            f"peak memory over the largest file, {what}",
            f"{(peak - before) / largest:.2f} ({(peak - before) / 1e6:.0f} MB beyond the "
            f"{before / 1e6:.0f} of Python with torch)",
            "3",
        )
        yield Figure(
            f"seconds over those of a plain copy that is synced and hashed, {what}",
            f"{median(merges) / median(copies):.2f} ({size / median(merges) / 1e6:.0f} MB/s; the copy "
            f"{size / median(copies) / 1e6:.0f} MB/s)",
        )


def copied(base: Path, into: Path) -> float:
    """cp, the disk's end of it, and the hash that tells whether it is whole."""
    into.mkdir()
    files = sorted(str(one) for one in base.glob("*.safetensors"))
    began = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", *files, str(into)], check=True)
    copies = sorted(str(one) for one in into.iterdir())
    subprocess.run(["sync", *copies], check=True)
    subprocess.run(["sha256sum", *copies], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def merged(adapter: Path, into: Path) -> tuple[float, int, int]:
    command = [sys.executable, "-c", MERGED, str(adapter), str(into)]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    took, before, peak = re.findall(r"[\d.]+", said)
    return float(took), int(before), int(peak)


def remove(folder: Path) -> None:
    for one in folder.iterdir():
        one.unlink()
    folder.rmdir()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=128, help="of a file")
    told = parser.parse_args(arguments)
    try:
        show("merge", figures(told.shards, told.megabytes))
    except ModuleNotFoundError as error:
        show("merge", [Figure("merging an adapter", not_here(error))])
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
