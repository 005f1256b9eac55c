"""The manager within a Python program. What it takes it keeps until it gives it back, or dies."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.gpus.allocation import Request
from worker.gpus.forms import (
    AllocateTold,
    AvailableNode,
    MonitoringTold,
    ReleasedTold,
    TrainingGPUConfig,
    ValidateTold,
    allocate_told,
    cpu_told,
    will_do_without,
)
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.wanted import gpu_type as read_type

if TYPE_CHECKING:
    from worker.gpus.manager import GpuResourceManager
    from worker.gpus.serving import Kubernetes

FIRST_LOOK_S = 60.0
RENEWALS = 4
"""in a lease"""

log = logging.getLogger(__name__)
_managers: list[GpuResourceManager] = []
_opening = threading.Lock()
_kept: dict[str, threading.Event] = {}

Asked = TrainingGPUConfig | Mapping[str, Any]


def get_gpu_resource_manager(
    cluster: Path | None = None,
    ledger: Path | None = None,
    config: Path | None = None,
    kubernetes: Kubernetes | None = None,
) -> GpuResourceManager:
    """The one of this process, ready; the first call says of which machine or cluster."""
    from worker.gpus.serving import open_manager

    with _opening:
        if not _managers:
            _managers.append(open_manager(config, cluster, ledger, kubernetes))
            atexit.register(close_gpu_resource_manager)
        manager = _managers[0]
    manager.wait_ready(FIRST_LOOK_S)
    return manager


def close_gpu_resource_manager() -> None:
    """What is held stays held until its lease ends."""
    with _opening:
        for renewing in _kept.values():
            renewing.set()
        _kept.clear()
        while _managers:
            _managers.pop().close()


def validate_gpu_requirements(asked: Asked) -> ValidateTold:
    try:
        free = get_gpu_resource_manager().validate(_form(asked)).result()
    except Refusal as refused:
        if refused.reason is Reason.NOT_READY:
            raise
        return ValidateTold(valid=False, available_now=False, code=refused.reason.code, message=str(refused))
    return ValidateTold(valid=True, available_now=free)


def allocate_gpu_resources(asked: Asked, key: str = "") -> AllocateTold:
    """Renewed until `cleanup_gpu_resources`, or this process ends."""
    form = _form(asked)
    if not form.enabled:
        return cpu_told(form, "no GPU was asked for")
    manager = get_gpu_resource_manager()
    try:
        made = manager.allocate(form, key).result()
    except Refusal as refused:
        if will_do_without(form, refused):
            return cpu_told(form, str(refused))
        raise
    _keep(manager, made.id, made.request.lease_s)
    return allocate_told(form, made, manager.tolerations)


def cleanup_gpu_resources(node_name: str = "", allocation_id: str = "") -> ReleasedTold:
    """One allocation, or all of a node."""
    manager = get_gpu_resource_manager()
    name = allocation_id
    ended = [manager.release(name).result()] if name else manager.clean(node_name).result()
    for one in ended:
        if renewing := _kept.pop(one.id, None):
            renewing.set()
    return ReleasedTold(success=True, released=[one.id for one in ended])


def get_available_gpu_nodes(gpu_type: str = "", min_memory_gb: float = 0.0) -> list[AvailableNode]:
    from worker.gpus import reports

    wanted = read_type(gpu_type)
    suiting = Request(
        kind=wanted.kind,
        maker=wanted.maker,
        memory_gb=max(min_memory_gb, wanted.memory_gb or 0.0),
        resource=wanted.exactly,
    )
    found = get_gpu_resource_manager().ask(lambda ledger: list(reports.available(ledger, suiting))).result()
    return [AvailableNode.model_validate(one) for one in found]


def get_gpu_monitoring_data() -> MonitoringTold:
    from worker.gpus import reports

    return MonitoringTold.model_validate(get_gpu_resource_manager().ask(reports.monitoring).result())


def _form(asked: Asked) -> TrainingGPUConfig:
    return asked if isinstance(asked, TrainingGPUConfig) else TrainingGPUConfig.model_validate(asked)


def _keep(manager: GpuResourceManager, name: str, lease_s: float) -> None:
    ended = _kept.setdefault(name, threading.Event())

    def renew() -> None:
        while not ended.wait(lease_s / RENEWALS):
            try:
                manager.ask(lambda ledger: ledger.renew(name)).result()
            except Refusal as refused:
                if refused.reason is Reason.NO_ALLOCATION:
                    log.error("%s", refused)
                    return
                log.warning("%s: renewed later: %s", name, refused)

    threading.Thread(target=renew, name=f"lease-{name[:8]}", daemon=True).start()
