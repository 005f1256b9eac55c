"""The manager within a Python program. What it takes it keeps until it gives it back, or dies."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from worker.gpus import tenants
from worker.gpus.allocation import Allocation, Request
from worker.gpus.forms import (
    AllocateTold,
    AvailableNode,
    ReleasedTold,
    TrainingGPUConfig,
    ValidateTold,
    allocate_told,
    cpu_told,
    will_do_without,
)
from worker.gpus.frameworks import Prepared, prepared
from worker.gpus.refusals import Reason, Refusal
from worker.gpus.wanted import gpu_type as read_type
from worker.gpus.watched import MonitoringTold

if TYPE_CHECKING:
    from worker.gpus.manager import GpuResourceManager
    from worker.gpus.serving import Kubernetes

FIRST_LOOK_S = 60.0
RENEWALS = 4
"""in a lease"""

log = logging.getLogger(__name__)
_managers: list[GpuResourceManager] = []
_opening = threading.Lock()
_kept: dict[str, Keeping] = {}

Asked = TrainingGPUConfig | Mapping[str, Any]


class Keeping(NamedTuple):
    """What is renewed until it ended."""

    ended: threading.Event
    lost: Callable[[str], None]
    """is told why it is held no longer, where its holder did not give it back"""


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
    """What is held stays held until its lease ends, or this process."""
    with _opening:
        for renewing in _kept.values():
            renewing.ended.set()
        _kept.clear()
        while _managers:
            _managers.pop().close()


def validate_gpu_requirements(asked: Asked) -> ValidateTold:
    manager = get_gpu_resource_manager()
    try:
        form, plan = manager.planned(_form(asked))
        free = manager.validate(form).result()
    except Refusal as refused:
        if refused.reason is Reason.NOT_READY:
            raise
        return ValidateTold(valid=False, available_now=False, code=refused.reason.code, message=str(refused))
    return ValidateTold(valid=True, available_now=free, plan=plan)


def allocate_gpu_resources(asked: Asked, key: str = "") -> AllocateTold:
    """Renewed until `cleanup_gpu_resources`. Without a key it ends with this process, else its lease does."""
    form = _form(asked)
    if not form.enabled:
        return cpu_told(form, "no GPU was asked for")
    try:
        manager = get_gpu_resource_manager()
        form, plan = manager.planned(form)
        # several programs may share what one key gets
        made = manager.allocate(form, key, "" if key else tenants.this()).result()
    except Refusal as refused:
        if does_without(form, refused):
            return cpu_told(form, str(refused))
        raise
    keep(manager, made)
    return allocate_told(form, made, plan, manager.tolerations)


def prepare_gpu_resources(asked: AllocateTold | Asked | None) -> Prepared:
    """For a framework: what is held already, or what is wanted and is allocated now. None: no GPU."""
    told = asked if isinstance(asked, AllocateTold) else allocate_gpu_resources(asked or {"enabled": False})
    name = told.allocation_id
    made = get_gpu_resource_manager().ask(lambda ledger: ledger.get(name)).result() if name else None
    return prepared(told, made)


def cleanup_gpu_resources(node_name: str = "", allocation_id: str = "") -> ReleasedTold:
    """One allocation, or all of a node."""
    manager = get_gpu_resource_manager()
    name = allocation_id
    ended = [manager.release(name).result()] if name else manager.clean(node_name).result()
    for one in ended:
        keep_no_more(one, f"cleanup_gpu_resources('{node_name or name}')")
    return ReleasedTold(success=True, released=[one.id for one in ended])


def does_without(form: TrainingGPUConfig, refused: Refusal) -> bool:
    """A program may well run where nobody ever finds a GPU; a server should not be there."""
    return will_do_without(form, refused) or (form.allow_cpu and refused.reason is Reason.NOT_READY)


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
    from worker.gpus.glance import Glance

    glance = get_gpu_resource_manager().ask(Glance.of).result()
    return MonitoringTold.model_validate(reports.monitoring(glance))


def _form(asked: Asked) -> TrainingGPUConfig:
    return asked if isinstance(asked, TrainingGPUConfig) else TrainingGPUConfig.model_validate(asked)


def keep(manager: GpuResourceManager, made: Allocation, lost: Callable[[str], None] = lambda _: None) -> None:
    """`lost` is called in whatever thread finds it out."""
    keeping = _kept.setdefault(made.id, Keeping(threading.Event(), lost))

    def renew() -> None:
        while not keeping.ended.wait(made.request.lease_s / RENEWALS):
            try:
                manager.renew(made.id).result()
            except Exception as error:  # the disk may be full for a moment
                if not isinstance(error, Refusal) or error.reason is not Reason.NO_ALLOCATION:
                    log.warning("%s: renewed later: %s", made.id, error)
                elif not keeping.ended.is_set():
                    log.error("%s", error)
                    keep_no_more(made, str(error))

    threading.Thread(target=renew, name=f"lease-{made.id[:8]}", daemon=True).start()


def keep_no_more(made: Allocation, lost: str = "") -> None:
    """`lost`: why, where it was not its holder who gave it back."""
    if keeping := _kept.pop(made.id, None):
        keeping.ended.set()
        if lost:
            keeping.lost(lost)
