"""`worker gpus`"""

from __future__ import annotations

from pathlib import Path

import click

from worker.errors import UsageError

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("gpus", context_settings={"auto_envvar_prefix": "WORKER"})
def command() -> None:
    """Hand out the GPUs of this machine, of a Kubernetes cluster, or of one that a file describes."""


@command.command("serve", context_settings={"auto_envvar_prefix": "WORKER"})
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--token", default="", help="that clients have to send; better in WORKER_TOKEN")
@click.option("--config", type=FILE, help="gpu_config.yaml")
@click.option("--cluster", type=FILE, help="a file that describes the nodes, instead of this machine")
@click.option(
    "--ledger", type=click.Path(path_type=Path, dir_okay=False), help="who holds what; else in your home"
)
@click.option("--kubernetes", is_flag=True, help="the cluster that kubeconfig names, or this pod is in")
@click.option("--context", default="", help="of kubeconfig; else the current one")
@click.option("--namespace", default="", help="where its ledger lies: the same for all managers of a cluster")
@click.option(
    "--tolerate", multiple=True, help="a taint's key to take nodes with it all the same, or KEY=VALUE"
)
def serve(
    host: str,
    port: int,
    token: str,
    config: Path | None,
    cluster: Path | None,
    ledger: Path | None,
    kubernetes: bool,
    context: str,
    namespace: str,
    tolerate: tuple[str, ...],
) -> int:
    """Answer on http://HOST:PORT/api/v1/gpu until stopped; / shows the cards, /docs describes it."""
    from worker.gpus.serving import Kubernetes, serve

    if kubernetes and (cluster or ledger):
        raise UsageError(
            "--kubernetes finds nodes and ledger in the cluster: leave out --cluster and --ledger"
        )
    if not kubernetes and (context or namespace or tolerate):
        raise UsageError("--context, --namespace and --tolerate belong to --kubernetes")
    click.echo(f"http://{host}:{port}", err=True)
    chosen = Kubernetes(context, namespace, tolerate) if kubernetes else None
    serve(host, port, token, config, cluster, ledger, chosen)
    return 0
