"""The options of `worker launch slurm` alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--host",
        metavar="USER@SERVER[:PORT]",
        help="by ssh, with or without a SLURM  [default: this machine]",
    ),
    click.option(
        "--dir",
        metavar="DIR",
        help="for worker, queue and logs, on a shared disk  [default: ~/gpu-batch-worker; here run/slurm]",
    ),
    click.option("--venv", metavar="DIR", help="an environment that has the worker's libraries already"),
    click.option("--partition", help="of the cluster: see sinfo"),
    click.option("--account", help="who pays"),
    click.option("--qos", help="quality of service"),
    click.option("--constraint", help="features of a node"),
    click.option("--gpu-type", metavar="NAME", help="as the cluster calls it: --gres gpu:NAME:…"),
    click.option("--nodes", type=click.IntRange(1), help="machines of each job: one training on all of them"),
    click.option("--cpus", type=click.IntRange(1), help="cores of each job"),
    click.option("--memory", metavar="SIZE", help="of each machine: 64G"),
)
