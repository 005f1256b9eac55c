"""`worker gpus serve`: the manager behind its REST interface, until it is told to stop."""

from __future__ import annotations

import logging
import logging.handlers
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.errors import MachineError
from worker.gpus import config as configuration
from worker.gpus.config import GpuConfig
from worker.gpus.kube.tolerations import parse
from worker.gpus.manager import GpuResourceManager

LOG = Path("logs/gpu_resource_manager.log")
LOG_BYTES, LOG_FILES = 10_000_000, 3
GRACE_S = 5
"""for answers under way when it is told to stop"""


def default_ledger() -> Path:
    """One for each user of a host, so that all find the same."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError as error:  # a container may run as a number without a home
        raise MachineError(
            "this user has no home for the ledger of GPUs: name a file with --ledger"
        ) from error
    return Path(state) / "worker" / "gpus.sqlite"


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """The cluster that is meant; what is empty is taken from kubeconfig, or from around this pod."""

    context: str = ""
    namespace: str = ""
    tolerate: Sequence[str] = ()


def open_manager(
    config: Path | None, cluster: Path | None, ledger: Path | None, kubernetes: Kubernetes | None = None
) -> GpuResourceManager:
    from worker.gpus.described import DescribedCluster
    from worker.gpus.here import ThisMachine

    read = configuration.load(config)
    if kubernetes:
        return _open_kubernetes(read, kubernetes)
    inventory = DescribedCluster(cluster, read.gpu_memory_specs) if cluster else ThisMachine()
    of = f"the cluster in {cluster.resolve()}" if cluster else "this machine"
    return GpuResourceManager(inventory, ledger or default_ledger(), read, of)


def _open_kubernetes(config: GpuConfig, chosen: Kubernetes) -> GpuResourceManager:
    from worker.gpus.kube.api import connect
    from worker.gpus.kube.inventory import KubernetesCluster
    from worker.gpus.kube.objects import Accelerators
    from worker.gpus.kube.records import ConfigMapRecords

    tolerations = tuple(parse(said) for said in chosen.tolerate)
    api, namespace = connect(chosen.context, chosen.namespace)
    cluster = KubernetesCluster(api, Accelerators(config.resources, config.gpu_memory_specs, tolerations))
    manager = GpuResourceManager(cluster, ConfigMapRecords(api, namespace), config)
    manager.tolerations = tolerations
    return manager


def serve(
    host: str,
    port: int,
    token: str,
    config: Path | None,
    cluster: Path | None,
    ledger: Path | None,
    kubernetes: Kubernetes | None = None,
) -> None:
    try:
        import uvicorn

        from worker.gpus.api import create_app
        from worker.gpus.gate import LOOPBACK_NAMES, check_listening
    except ImportError as error:
        raise MachineError(
            f"{error.name} is not installed: pip install --no-deps -r env/locks/gpus.txt"
        ) from error

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.feed.close()
            await super().shutdown(sockets)

    check_listening(host, token)
    manager = open_manager(config, cluster, ledger, kubernetes)
    try:
        _log_to_file(manager.config.log_level)
        app = create_app(manager, token, () if token else LOOPBACK_NAMES)
        settings = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        with suppress(KeyboardInterrupt):
            Server(settings).run()
    except SystemExit as error:  # uvicorn has logged why
        raise MachineError(f"nobody can listen on {host}:{port}: --port and --host name another") from error
    finally:
        manager.close()


def _log_to_file(level: str) -> None:
    LOG.parent.mkdir(parents=True, exist_ok=True)
    file = logging.handlers.RotatingFileHandler(
        LOG, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
    )
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    file.setLevel(level.upper())
    logging.getLogger().addHandler(file)
