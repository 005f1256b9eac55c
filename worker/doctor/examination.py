"""All of it: facts gathered side by side, then judged."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from worker.doctor.checks import cards, libraries, model, network, queue, room, system
from worker.doctor.facts import Facts, Wanted
from worker.doctor.finding import Finding
from worker.doctor.probes import libraries as libraries_probe
from worker.doctor.probes import lying, racing, smi, stopping
from worker.doctor.probes import network as network_probe
from worker.doctor.probes import room as room_probe
from worker.doctor.probes import system as system_probe
from worker.engines import hub
from worker.errors import UsageError
from worker.hardware import gpus
from worker.items import Json
from worker.launch.machine import data_disk
from worker.tasks import registry

Check = Callable[[Facts], Iterator[Finding]]

CHECKS: Mapping[str, Check] = {
    "card": cards.card,
    "profile": cards.profile,
    "driver": cards.driver,
    "wheel": cards.wheel,
    "bf16": cards.bf16,
    "mig": cards.mig,
    "ecc": cards.ecc,
    "other-processes": cards.tenants,
    "packages": libraries.packages,
    "flash-attention": libraries.flash_attention,
    "bitsandbytes": libraries.bitsandbytes,
    "awq": libraries.awq,
    "conv3d": libraries.conv3d,
    "glibc": libraries.glibc,
    "nccl": network.nccl,
    "peer-to-peer": network.peers,
    "infiniband": network.infiniband,
    "interfaces": network.interfaces,
    "ram": room.ram,
    "cores": room.cores,
    "disk": room.disks,
    "shm": room.shm,
    "task": room.task,
    "codecs": system.codecs,
    "signals": system.signals,
    "stopping": system.stopping,
    "queue": queue.mount,
    "race": queue.race,
    "weights": model.weights,
    "memory": model.memory,
}
LEVELS = ("blocker", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Examination:
    hw: str | None
    findings: Sequence[Finding]

    @property
    def fits(self) -> bool:
        return not any(one.level == "blocker" for one in self.findings)

    def as_json(self) -> dict[str, Json]:
        return {"hw": self.hw, "fits": self.fits, "findings": [one.as_json() for one in self.findings]}


def examine(wanted: Wanted) -> Examination:
    refuse_unknown(wanted)
    return judge(gather(wanted))


def refuse_unknown(wanted: Wanted) -> None:
    if wanted.hw is not None:
        gpus.of(wanted.hw)
    if wanted.task is not None:
        from worker.planning import kinds  # late: who means nothing need not wait for it

        if not kinds.of(wanted.task) and wanted.task not in (tasks := registry.names()):
            known = sorted({*tasks, *kinds.KINDS})
            raise UsageError(f"--for {wanted.task}: there are {', '.join(known)}, and pcb for all of its own")


def judge(facts: Facts) -> Examination:
    found = [replace(one, check=name) for name, check in CHECKS.items() for one in check(facts)]
    return Examination(facts.wanted.hw, sorted(found, key=lambda one: LEVELS.index(one.level)))


def gather(wanted: Wanted) -> Facts:
    with ThreadPoolExecutor() as pool:
        signals = pool.submit(stopping.look)
        gpus = pool.submit(smi.look)
        system_ = pool.submit(system_probe.look)
        network_ = pool.submit(network_probe.look)
        room_ = pool.submit(room_probe.look, places(wanted))
        queue_ = pool.submit(racing.look, wanted.queue) if wanted.queue else None
        model_ = pool.submit(lying.look, wanted.model) if wanted.model else None
        libraries_ = pool.submit(libraries_probe.look, gpus.result().cards)
    facts = Facts(
        wanted,
        gpus.result(),
        libraries_.result(),
        room_.result(),
        network_.result(),
        system_.result(),
        signals.result(),
        queue_.result() if queue_ else None,
        model_.result() if model_ else None,
    )
    if wanted.task is None:
        return facts
    from worker.doctor import needs

    return replace(facts, need=needs.of(wanted, facts.gpus, facts.room, facts.model))


def places(wanted: Wanted) -> dict[str, Path]:
    """Where the worker writes: models, checkpoints (they lie in the queue), what is fetched for one item."""
    queue_ = racing.local(wanted.queue) if wanted.queue else None
    found = {"cache": hub.cache(), "scratch": Path(tempfile.gettempdir())}
    if wanted.queue is None or queue_:
        found["checkpoints"] = queue_ or Path.cwd()
    return found | {"data": disk} if (disk := data_disk()) else found
