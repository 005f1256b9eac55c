"""The options of `worker launch azureml` alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--size", default="", help="machines of Azure, by name  [default: those with the cards of --hw]"
    ),
    click.option(
        "--dedicated", is_flag=True, help="machines that nobody takes away, at several times the price"
    ),
    click.option(
        "--compute", default="", metavar="NAME", help="the cluster  [default: one for all launches on --hw]"
    ),
    click.option(
        "--account", default="", metavar="NAME", help="where the blobs lie  [default: the workspace's]"
    ),
    click.option(
        "--identity",
        type=click.Choice(["managed", "user"]),
        default="managed",
        show_default=True,
        help="who the workers are for the blobs: their cluster, or you",
    ),
)
