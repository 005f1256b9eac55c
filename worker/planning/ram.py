"""What lies in a machine's memory, in bytes."""

from __future__ import annotations

PROCESS = 3e9
"""of a working process: python, torch with its CUDA libraries, pinned buffers"""
SHARD = 5e9
"""the largest file of a checkpoint, as transformers cuts them; one is read at a time, onto the device"""
CHILD = 0.3e9
"""that reads clips; `make bench OF=video` says 0.05 beyond what its imports hold"""
LOADER = 0.6e9
"""a data loader's worker, with a torch of its own and some batches ahead"""
