"""What was seen of a machine. Whoever judges looks at nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from worker.hardware import gpus

Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person who asks means to do here."""

    hw: str | None = None
    queue: str | None = None
    model: str | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A process on a card that is not ours."""

    pid: int
    name: str
    gigabytes: float | None = None


@dataclass(frozen=True, slots=True)
class Card:
    index: int
    name: str
    uuid: str
    driver: str
    gigabytes: float
    """of memory, in GiB, as makers count"""
    used: float
    ecc: bool | None = None
    """None: it has none"""
    uncorrected: int | None = None
    """memory errors since the driver was loaded"""
    mig: bool = False
    slices: int = 0
    capability: Capability | None = None
    tenants: Sequence[Tenant] = ()

    @property
    def room(self) -> float:
        """Bytes that may be used."""
        return gpus.room(self.gigabytes * 1024)

    @property
    def free(self) -> float:
        """Bytes of that which nobody uses."""
        return self.room - self.used * 1024 * gpus.MIB

    @property
    def held(self) -> float:
        """By others, as far as either side of a container tells."""
        return max(self.used, sum(tenant.gigabytes or 0 for tenant in self.tenants))

    @property
    def sm(self) -> str:
        return "sm_{}{}".format(*self.capability) if self.capability else "sm unknown"


@dataclass(frozen=True, slots=True)
class Gpus:
    cards: Sequence[Card] = ()
    silence: str | None = None
    """what nvidia-smi said instead of cards; None: there is no nvidia-smi"""
    nodes: int = 0
    """device files of NVIDIA's driver"""
    links: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """between two cards: NV12, PIX, PXB, PHB, NODE or SYS"""
    peers: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """whether one reads the other's memory: OK, or CNS, GNS, TNS, NS, DR, U"""
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES"""
    other: Sequence[str] = ()
    """cards of other makers"""


@dataclass(frozen=True, slots=True)
class Torch:
    """What torch itself says, in a process of its own."""

    version: str
    cuda: str | None = None
    archs: Sequence[str] = ()
    """sm_80, compute_90 …: what this wheel has code for"""
    cudnn: int | None = None
    nccl: str | None = None
    available: bool = False
    bf16: Sequence[bool] = ()
    """a card each, not counting emulation"""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A library that was made to do a little of its work. `wrong` None: it did."""

    version: str
    wrong: str | None = None


@dataclass(frozen=True, slots=True)
class Libraries:
    versions: Mapping[str, str] = field(default_factory=dict)
    """of the packages that are installed"""
    torch: Torch | None = None
    """None: not asked, for it is not installed or there is no card"""
    trials: Mapping[str, Trial] = field(default_factory=dict)
    """those that were tried"""


@dataclass(frozen=True, slots=True)
class Disk:
    use: str
    """cache, checkpoints, scratch"""
    path: str
    free: float
    """GB"""
    device: int = 0
    """two uses with one device share its room"""
    kind: str = ""
    """of file system"""
    writable: bool = True


@dataclass(frozen=True, slots=True)
class Room:
    ram: float
    """GB"""
    limit: float | None = None
    """GB that the control group allows"""
    cores: int = 1
    """that we may run on"""
    quota: float | None = None
    """cores' worth of time that the control group allows"""
    shm: float | None = None
    """GB free in /dev/shm; None: there is none"""
    disks: Sequence[Disk] = ()


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    up: bool
    physical: bool = True
    address: str | None = None
    speed: int | None = None
    """Mbit/s"""


@dataclass(frozen=True, slots=True)
class Port:
    """Of an InfiniBand or RoCE adapter."""

    name: str
    active: bool
    layer: str = "InfiniBand"


@dataclass(frozen=True, slots=True)
class Network:
    interfaces: Sequence[Interface] = ()
    ports: Sequence[Port] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """NCCL's variables that are set already"""


@dataclass(frozen=True, slots=True)
class System:
    glibc: str | None
    """None: another libc"""
    python: str = ""
    codecs: Sequence[str] | None = None
    """that PyAV has; None: it does not load"""
    codecs_wrong: str = ""


@dataclass(frozen=True, slots=True)
class Signals:
    first: str
    """the command of PID 1"""
    shell: str | None = None
    """the program between whoever stops us and us that passes no signal on"""
    blocked: Sequence[str] = ()
    stopped_after: float | None = None
    """seconds from SIGTERM until a small worker's claim was handed back"""
    ended_after: float | None = None
    trial_wrong: str | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    url: str
    tried: str
    """where: the queue itself, or the nearest folder above one that is not there yet"""
    mount: str = ""
    """a folder's file system"""
    winners: Sequence[int] = ()
    """of each race of two, who was told that the name is his"""
    slowest: float = 0.0
    """seconds that a write took"""
    wrong: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    there: bool
    """whole, on this machine"""
    gigabytes: float | None = None
    """of memory in fp16, or as it is quantised"""
    nf4: float | None = None
    """the same if it is quantised while it loads"""
    kind: str = ""
    """model_type of its configuration"""
    remedy: str = ""
    wrong: str | None = None
    code: bool = False
    """its own, which is not run unless a person says so"""


@dataclass(frozen=True, slots=True)
class Amount:
    work: str
    """as plans call it"""
    gigabytes: float


@dataclass(frozen=True, slots=True)
class Need:
    """What the work that is meant takes at the most, as it is planned for this machine."""

    gpu: Amount
    """of one card"""
    ram: Amount
    disk: Amount
    """of one disk, without what is here already"""
    at_last: float = 0.0
    """GB of it, if nothing is deleted between its steps"""
    four_bits: bool = False
    """its base is quantised while it loads"""


@dataclass(frozen=True, slots=True)
class Facts:
    wanted: Wanted
    gpus: Gpus
    libraries: Libraries
    room: Room
    network: Network
    system: System
    signals: Signals
    queue: Queue | None = None
    model: Model | None = None
    need: Need | None = None
    """of the work that is meant; None: none is, or no plan knows it"""

    @property
    def card(self) -> Card | None:
        """The one that has least: a crew works at its pace."""
        return min(self.gpus.cards, key=lambda one: one.gigabytes, default=None)
