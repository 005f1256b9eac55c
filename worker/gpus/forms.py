"""What travels over the wire: what clients fill in, and what they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from worker.gpus.allocation import LEASE_S, Allocation, Request, Strategy
from worker.gpus.kube.fragments import PodTold, pods
from worker.gpus.kube.tolerations import Toleration
from worker.gpus.makers import MAKERS
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.shares import Strategy as MemoryStrategy
from worker.gpus.shares import share
from worker.gpus.wanted import MOST, gpu_type

CONSERVATIVE = 0.8
SHRUNK_MEMORY, SHRUNK_FRACTION = 0.8, 0.7

PLAIN = r"^\P{C}*$"
"""in one line: it comes into logs, and onto terminals"""

Share = Annotated[float, Field(ge=0, le=1)]


class TrainingGPUConfig(BaseModel):
    """The GPUs that a training asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    gpu_count: Annotated[int, Field(ge=1, le=MOST, description="cards, all of them or none")] = 1
    gpu_type: Annotated[
        str, Field(max_length=100, description="A100, V100-32GB, nvidia.com/gpu; empty: any")
    ] = ""
    memory_gb: Annotated[float, Field(ge=0, le=10_000, description="of each card, in 10⁹ bytes")] = 0.0
    distributed_training: Annotated[
        bool, Field(description="may be split into equal parts over several nodes")
    ] = False
    mixed_precision: bool = False
    gpu_memory_fraction: Annotated[float, Field(gt=0, le=1)] = CONSERVATIVE
    members: Annotated[
        int, Field(ge=1, le=MOST, description="of a gang; each gets gpu_count on one node")
    ] = 1
    node_name: Annotated[
        str, Field(max_length=253, pattern=PLAIN, description="this node alone; empty: any")
    ] = ""
    strategy: Strategy = "binpack"
    owner: Annotated[str, Field(max_length=100, pattern=PLAIN, description="whose share it counts on")] = ""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    lease_s: Annotated[
        float, Field(ge=1, le=30 * 86400, description="the cards come back unless it is renewed")
    ] = LEASE_S
    wait_s: Annotated[float, Field(ge=0, le=86400, description="in line, before it is refused")] = 0.0
    allow_shrink: Annotated[bool, Field(description="memory x 0.8 at a fraction of 0.7 will do")] = False
    allow_cpu: Annotated[bool, Field(description="without a GPU will do")] = False
    task: Annotated[
        str, Field(max_length=100, description="its plan says memory_gb, and gpu_count if that is not given")
    ] = ""
    model: Annotated[str, Field(max_length=200, description="of the task; empty: its usual one")] = ""
    params: Annotated[
        dict[str, Any], Field(max_length=100, description="of the task, as plans know them")
    ] = {}
    memory_strategy: Annotated[
        MemoryStrategy, Field(description="how much of a card's memory may be planned for")
    ] = "conservative"

    def request(self) -> Request:
        wanted = gpu_type(self.gpu_type)
        return Request(
            count=self.gpu_count,
            members=self.members,
            spans=self.distributed_training,
            kind=wanted.kind,
            maker=wanted.maker,
            memory_gb=max(self.memory_gb, wanted.memory_gb or 0.0),
            resource=wanted.exactly,
            node=self.node_name,
            strategy=self.strategy,
            owner=self.owner,
            priority=self.priority,
            lease_s=self.lease_s,
        )

    @property
    def fraction(self) -> float:
        """Of a card's memory, for the framework."""
        said = "gpu_memory_fraction" in self.model_fields_set
        return self.gpu_memory_fraction if said else share(self.memory_strategy)

    def less(self) -> Request | None:
        """What will do instead."""
        request = self.request()
        if not self.allow_shrink or not request.memory_gb or self.task:
            return None  # with less than its plan needs a task does not run
        return replace(request, memory_gb=request.memory_gb * SHRUNK_MEMORY)


class CardTold(BaseModel):
    node_name: str
    index: int
    uuid: str


class GpuConfigTold(BaseModel):
    enabled: bool
    gpu_count: int
    gpu_type: str
    memory_gb: float
    distributed_training: bool
    mixed_precision: bool
    gpu_memory_fraction: float
    cards: list[CardTold]
    environment: Annotated[
        dict[str, dict[str, str]], Field(description="what leaves a process these cards alone, by node")
    ]
    pods: Annotated[
        list[PodTold], Field(description="in a cluster: what each pod has to say to get its cards")
    ] = []


class PlanTold(BaseModel):
    """What the plan of a named task says."""

    task: str
    gpu_count: int
    memory_gb: Annotated[float, Field(description="that a card must have: what is needed, over the share")]
    needed_gb: float
    share: Share
    batch: int
    gradient_accumulation_steps: int | None
    message: str = ""


class AllocateTold(BaseModel):
    success: bool
    node_name: Annotated[str, Field(description="the first member's; empty: the CPU")]
    gpu_config: GpuConfigTold
    allocation_id: str
    nodes: list[str]
    lease_s: float
    message: str = ""
    plan: PlanTold | None = None


class Utilization(BaseModel):
    """Shares of 1."""

    gpu_utilization: Share
    gpu_memory_usage: Share


class AvailableNode(BaseModel):
    """Of nodes with several sorts of cards, one for each."""

    node_name: str
    gpu_type: str
    available_gpus: int
    memory_per_gpu: float
    utilization: Utilization


class StatusTold(BaseModel):
    utilization: Utilization
    available_nodes: list[AvailableNode]
    total_nodes: int
    total_gpus: int
    available_gpus: int
    allocations: int
    waiting: int
    timestamp: str


class NodesTold(BaseModel):
    nodes: list[AvailableNode]


class HealthTold(BaseModel):
    status: str
    reason: str = ""


class ValidateTold(BaseModel):
    valid: bool
    available_now: bool
    code: str = ""
    message: str = ""
    plan: PlanTold | None = None


class ReleasedTold(BaseModel):
    success: bool
    released: list[str]


class LeaseTold(BaseModel):
    allocation_id: str
    owner: str
    cards: list[CardTold]
    lease_s: float


class ErrorTold(BaseModel):
    class Error(BaseModel):
        code: str
        message: str

    success: bool = False
    error: Error


def cards_told(made: Allocation) -> list[CardTold]:
    return [CardTold(node_name=card.node, index=card.index, uuid=card.uuid) for card in made.cards]


def allocate_told(
    asked: TrainingGPUConfig,
    made: Allocation,
    plan: PlanTold | None = None,
    tolerations: Sequence[Toleration] = (),
) -> AllocateTold:
    less = f"shrunk: {made.request.memory_gb:g} GB instead of {asked.request().memory_gb:g}"
    message = less if shrunk(asked, made) else ""
    return AllocateTold(
        success=True,
        node_name=made.nodes[0],
        gpu_config=GpuConfigTold(
            enabled=True,
            gpu_count=len(made.cards),
            gpu_type=made.cards[0].kind,
            memory_gb=round(made.cards[0].memory_gb, 1),
            distributed_training=asked.distributed_training,
            mixed_precision=asked.mixed_precision,
            gpu_memory_fraction=fraction(asked, made),
            cards=cards_told(made),
            environment={node: _environment(made, node) for node in made.nodes if not made.cards[0].resource},
            pods=list(pods(made, tolerations)),
        ),
        allocation_id=made.id,
        nodes=list(made.nodes),
        lease_s=made.request.lease_s,
        message=message or (plan.message if plan else ""),
        plan=plan,
    )


def shrunk(asked: TrainingGPUConfig, made: Allocation) -> bool:
    return replace(made.request, process="") == asked.less()


def fraction(asked: TrainingGPUConfig, made: Allocation) -> float:
    """Of a card's memory, for the framework."""
    return SHRUNK_FRACTION if shrunk(asked, made) else asked.fraction


def cpu_told(asked: TrainingGPUConfig, why: str) -> AllocateTold:
    config = GpuConfigTold(
        enabled=False,
        gpu_count=0,
        gpu_type="",
        memory_gb=0.0,
        distributed_training=asked.distributed_training,
        mixed_precision=False,
        gpu_memory_fraction=asked.fraction,
        cards=[],
        environment={},
    )
    return AllocateTold(
        success=True,
        node_name="",
        gpu_config=config,
        allocation_id="",
        nodes=[],
        lease_s=0.0,
        message=f"on the CPU: {why}",
    )


def will_do_without(asked: TrainingGPUConfig, refused: Refusal) -> bool:
    return asked.allow_cpu and refused.reason in (Reason.BUSY, Reason.IMPOSSIBLE)


def _environment(made: Allocation, node: str) -> dict[str, str]:
    here = [card for card in made.cards if card.node == node]
    variable = MAKERS[here[0].maker].variables[0]
    # NVIDIA's are named, for a slice has no number, and numbers depend on who counts
    named = here[0].uuid.startswith(("GPU-", "MIG-"))
    return {variable: ",".join(card.uuid if named else str(card.index) for card in here)}
