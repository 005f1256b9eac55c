"""What those are told who look on: figures, history, who holds what and who waits."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from worker.gpus.forms import Share


class ProcessWatched(BaseModel):
    pid: int
    memory_used_gb: float | None
    gpu_utilization: Share | None


class CardWatched(BaseModel):
    """null: the card does not say."""

    node_name: str
    index: int
    uuid: str
    gpu_type: str
    memory_gb: float
    memory_used_gb: float | None
    gpu_utilization: Share | None
    memory_copy_utilization: Share | None
    temperature_c: float | None
    power_w: float | None
    clock_mhz: float | None
    xid: Annotated[int | None, Field(description="the driver's last error since the start; 0: none")]
    processes: list[int]
    process_figures: list[ProcessWatched]
    pods: list[str]
    allocation_id: str
    owner: str
    trouble: Annotated[str, Field(description="why it is not handed out; empty: it is healthy")]


Columns = dict[str, list[float | None]]


class MonitoringTold(BaseModel):
    cards: list[CardWatched]
    timestamp: str
    event: Annotated[str, Field(description="the last one that this answer surely holds")] = ""
    history: Annotated[
        dict[str, Columns], Field(description="a value holds from its `at`, seconds since 1970, to the next")
    ] = {}
    history_all: Columns = {}


class AllocationTold(BaseModel):
    """Times in seconds since 1970."""

    id: str
    owner: str
    asked: str
    priority: int
    nodes: list[str]
    cards: list[str]
    made: float
    until: Annotated[float, Field(description="the lease's end")]


class WaitingTold(BaseModel):
    id: str
    owner: str
    asked: str
    priority: int
    since: float
    until: Annotated[float, Field(description="the end of its patience")]


class AllocationsTold(BaseModel):
    allocations: list[AllocationTold]
    waiting: list[WaitingTold]
    timestamp: str
    event: str = ""
