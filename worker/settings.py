"""How one worker works on this machine: read once from the command line, handed to its processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worker.ranks.nodes import Node


@dataclass(frozen=True, slots=True)
class Settings:
    queue: str
    root: str | None = None
    """where this machine keeps the inputs; None: where they were enqueued from"""
    hw: str = ""
    """the profile that this machine was said to have; "": nobody said"""
    device: str = "cpu"
    """what the task computes on, as it sees it"""
    device_name: str = ""
    """which of this machine's devices that is, for people; "": the device says it"""
    member: int = 0
    """its number among the workers that one command started; 0: it is alone"""
    ranks: int = 1
    """processes that one job has on this machine"""
    node: Node = field(default_factory=Node)
    """of several machines that do one job together"""
    environment: Mapping[str, str] = field(default_factory=dict)
    """of the working process and its children: which card they see, and what is said of models"""
    batch: int | None = None
    """samples a batch; None: what the task likes"""
    children: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """processes that prepare"""
    item_limit_s: float | None = None
    item_memory_gb: float | None = None
    scratch_gb: float | None = None
    """that inputs fetched from a blob store may take of the disk at once; None: what is free"""
    budget: float | None = None
    """USD that all workers of the queue may spend"""
    price_per_hour: float | None = None
    """USD of this worker's share of its machine"""
    ttl: float = 60.0
    follow: bool = False
    idle_exit_s: float | None = None
    out: Path | None = None
    """where views of the run are kept up to date while it goes on"""
    patience_s: float = 600.0
    """for how long a store may be away"""
    flush_s: float = 5.0
    """finished results wait at most so long for their part to be written"""
    views_s: float = 30.0
    log: str = "text"
    debug: bool = False
