"""The options of `worker launch kubernetes` alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--context", default="", help="of kubeconfig  [default: the current one]"),
    click.option("--namespace", default="", help="[default: the context's]"),
    click.option(
        "--secret", multiple=True, metavar="NAME", help="a Secret whose keys are variables of the workers"
    ),
    click.option("--service-account", default="", metavar="NAME", help="one that is there  [default: none]"),
    click.option(
        "--identity",
        default="",
        metavar="ID",
        help="of the queue's cloud: a client id, a role's ARN, an account's address; "
        "a service account is made for it",
    ),
    click.option(
        "--claim",
        "claims",
        multiple=True,
        metavar="NAME:DIR",
        help="a PersistentVolumeClaim, which the workers see at DIR, as this machine does",
    ),
    click.option(
        "--resource", default="nvidia.com/gpu", show_default=True, help="what a card is called: amd.com/gpu"
    ),
    click.option(
        "--product",
        "products",
        multiple=True,
        metavar="NAME",
        help="label of the cards, nvidia.com/gpu.product, or any  [default: those of --hw]",
    ),
    click.option(
        "--node-selector", "selectors", multiple=True, metavar="KEY=VALUE", help="only nodes with this label"
    ),
    click.option(
        "--tolerate",
        "tolerated",
        multiple=True,
        metavar="KEY[=VALUE][:EFFECT]",
        help="take nodes with this taint, besides the cards' own",
    ),
    click.option("--cpu", default="", metavar="CORES", help="of each worker  [default: 3 a card]"),
    click.option(
        "--memory",
        default="",
        metavar="SIZE",
        help="most of each worker: 24Gi  [default: 12Gi a card, no most]",
    ),
    click.option("--user", default="", metavar="UID:GID", help="who the workers are  [default: 1000:1000]"),
    click.option(
        "--template",
        default="",
        metavar="FILE",
        help="what is filled in  [default: env/kubernetes/worker.yaml]",
    ),
)
