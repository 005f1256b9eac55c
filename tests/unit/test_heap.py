"""Memory of frames is used again and not given back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FRAMES = """
import resource
import numpy as np
from worker.media import heap
if {kept}:
    heap.keep()
for n in range(20):
    frames = [np.ones(3_000_000, np.uint8) for _ in range(5)]
    del frames
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc has this switch")
def test_a_frame_takes_the_memory_of_the_one_before() -> None:
    asked = {
        kept: int(subprocess.check_output([sys.executable, "-c", FRAMES.format(kept=kept)]))
        for kept in (True, False)
    }
    assert 3 * asked[True] < asked[False]
