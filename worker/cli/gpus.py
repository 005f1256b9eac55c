"""`worker gpus`"""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("gpus", context_settings={"auto_envvar_prefix": "WORKER"})
def command() -> None:
    """Hand out the GPUs of this machine, or of a cluster that a file describes."""


@command.command("serve", context_settings={"auto_envvar_prefix": "WORKER"})
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--token", default="", help="that clients have to send; better in WORKER_TOKEN")
@click.option("--config", type=FILE, help="gpu_config.yaml")
@click.option("--cluster", type=FILE, help="a file that describes the nodes, instead of this machine")
@click.option(
    "--ledger", type=click.Path(path_type=Path, dir_okay=False), help="who holds what; else in your home"
)
def serve(
    host: str, port: int, token: str, config: Path | None, cluster: Path | None, ledger: Path | None
) -> int:
    """Answer on http://HOST:PORT/api/v1/gpu until stopped; / shows the cards, /docs describes it."""
    from worker.gpus.serving import serve

    click.echo(f"http://{host}:{port}", err=True)
    serve(host, port, token, config, cluster, ledger)
    return 0
