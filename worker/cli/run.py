"""worker run"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker import models, process
from worker.cli import tell_error
from worker.cli.devices import compare, hold_of, node_of, shared, untold
from worker.cli.enqueue import tell
from worker.cli.options import BATCH, Duration, recipe_options, settings_of
from worker.clock import Clock
from worker.crew import Crew, divide, together
from worker.engines import trust
from worker.enqueue import Wanted, agree, enqueue
from worker.errors import UnfinishedError, UsageError
from worker.evictions import events_url
from worker.following import STILL_S, Following, followed
from worker.nursery import Nursery
from worker.parent import Ending, Parent
from worker.purse import refuse_unpriced
from worker.queue import layout
from worker.queue.progress import Watcher
from worker.queue.recipe import require
from worker.queue.store import Store, open_store
from worker.report.files import default_out, make_out
from worker.settings import Settings
from worker.standing import Standing
from worker.stop import GRACE_S, StopListener
from worker.tasks import registry

if TYPE_CHECKING:
    from worker.hardware.cards import Card

log = logging.getLogger(__name__)


@click.command("run")
@click.argument("queue")
@click.argument("paths", nargs=-1, metavar="[PATH…]")
@recipe_options(required=False)
@click.option("--root", metavar="DIR", help="where this machine keeps the inputs")
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="where the answers go")
@click.option(
    "--hw", metavar="NAME", help="this machine's profile: a100, a800, rtx2080 …; another card is told"
)
@click.option("--workers", type=click.IntRange(1), help="workers on this machine  [default: 1, or one a GPU]")
@click.option(
    "--gpus",
    metavar="all|0,1|UUID|2x|2xA100",
    help="GPUs to work on, one for each worker in turn: these, or so many that nobody uses",
)
@click.option("--wait-gpus", type=Duration(), help="how long to wait for them, where others hold them")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path, dir_okay=False),
    help="who holds which GPU of this machine  [default: as of worker gpus serve]",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="processes of one training, where it has no GPUs  [default: 1; with --gpus one a GPU]",
)
@click.option(
    "--nodes", type=click.IntRange(1), help="machines that train together  [default: as SLURM says]"
)
@click.option("--node-rank", type=click.IntRange(0), help="which of them this is, from 0")
@click.option("--meet-at", metavar="HOST:PORT", help="where the others find node 0")
@click.option("--device", help="what the task computes on  [default: cpu; large models: the only GPU]")
@click.option("--batch", type=BATCH, default="auto", show_default=True, help="samples at once on the device")
@click.option(
    "--allow-code",
    metavar="NAME@REVISION",
    default="",
    help="models that may run python code of their own; several: with commas",
)
@click.option(
    "--children",
    type=click.IntRange(1),
    help="processes that prepare  [default: one a core, shared by the workers]",
)
@click.option(
    "--item-limit",
    type=Duration(),
    help="longest silence over an item that is prepared; reading on is no silence  [default: the task's]",
)
@click.option("--item-memory", type=click.FloatRange(0, min_open=True), help="most GB to prepare one item")
@click.option(
    "--scratch",
    type=click.FloatRange(0, min_open=True),
    help="most GB of inputs fetched from a blob store at once, each worker  [default: what is free]",
)
@click.option(
    "--ttl", type=Duration(), default="60", show_default=True, help="silence after which work is taken over"
)
@click.option(
    "--follow", is_flag=True, help="go on until stopped; new work is taken as it comes, into the folders too"
)
@click.option(
    "--still",
    type=Duration(),
    default=STILL_S,
    show_default=True,
    help="a file in a followed folder is whole when it has not changed for so long",
)
@click.option("--idle-exit", type=Duration(), help="leave after so long without work")
@click.option(
    "--budget",
    metavar="USD",
    type=click.FloatRange(0, min_open=True),
    help="stop before all workers of QUEUE have spent more",
)
@click.option(
    "--price-per-hour",
    metavar="USD",
    type=click.FloatRange(0, min_open=True),
    help="what this machine costs while it works",
)
@click.option("--stop-after", type=Duration(), help="stop early enough to be done by then: 90s, 15m, 12h")
@click.option(
    "--grace", type=Duration(), default=GRACE_S, show_default=True, help="seconds left after SIGTERM"
)
@click.option(
    "--patience", type=Duration(), default="10m", show_default=True, help="how long the store may be away"
)
@click.option("--force", is_flag=True, help="start even where a model cannot fit its card by arithmetic")
@click.option(
    "--metrics", metavar="PORT", type=click.IntRange(1, 65535), help="answer Prometheus at this port"
)
@click.option("--on-done", metavar="CMD", help="run this when all is done, e.g. to switch the machine off")
@click.pass_context
def command(
    context: click.Context,
    queue: str,
    paths: tuple[str, ...],
    task: str | None,
    engine: str | None,
    model: str | None,
    revision: str | None,
    screen: str | None,
    screen_model: str | None,
    lang: str | None,
    settings: tuple[str, ...],
    root: str | None,
    out: Path | None,
    hw: str | None,
    workers: int | None,
    gpus: str | None,
    wait_gpus: float | None,
    ledger: Path | None,
    processes: int | None,
    nodes: int | None,
    node_rank: int | None,
    meet_at: str | None,
    device: str | None,
    batch: int | None,
    allow_code: str,
    children: int | None,
    item_limit: float | None,
    item_memory: float | None,
    scratch: float | None,
    ttl: float,
    follow: bool,
    still: float,
    idle_exit: float | None,
    budget: float | None,
    price_per_hour: float | None,
    stop_after: float | None,
    grace: float,
    patience: float,
    force: bool,
    metrics: int | None,
    on_done: str | None,
) -> int:
    """Pull and work until QUEUE is done. With --task and PATHs: from files to answers in one command."""
    nursery = context.with_resource(Nursery(process.main))  # first: a store may have threads
    # nothing below needs a device or a model; those are the working process's
    trust.parse(allow_code)
    if on_done and not shutil.which(shlex.split(on_done)[0]):
        raise UsageError(f"--on-done {on_done}: no such program; it is started by itself, not by a shell")
    refuse_unpriced(budget, price_per_hour or os.environ.get("WORKER_PRICE_IN", "").strip())
    if hw:
        compare(hw)
    hold = context.with_resource(hold_of(gpus, wait_gpus, ledger)) if gpus else None
    cards: Sequence[Card] = hold.cards if hold else ()
    if metrics:
        from worker.metrics import refuse_taken

        refuse_taken(metrics)
    store = open_store(queue, make=task is not None, named=True)
    task_type = registry.find(task or require(store).recipe.task)
    share = shared(task_type, cards, workers, processes)
    workers, cards = share.workers, share.cards
    node = node_of(task_type, nodes, node_rank, meet_at, workers)
    wanted = Wanted(task, engine, model, revision, settings_of(settings, lang), screen, screen_model)
    folders = _folders(store, task, paths) if follow else []
    if named := [path for path in paths if path not in folders]:
        tell(enqueue(store, wanted, named, root), store.url)
    run = agree(store, wanted)
    if not gpus and not device:
        hold = untold(task_type, run.recipe.engine, wait_gpus, ledger)
        cards = context.with_resource(hold).cards if hold else ()
    if cards and not force:
        from worker.planning.refusal import refuse

        refuse(store, run.recipe, cards, workers)
    following = Following(store, run, folders, root, still, Clock()) if folders else None
    if out:
        make_out(out, run.fingerprint)
    if cards and (engine := run.recipe.engine) in task_type.gpu_is_idle:
        others = ", ".join(name for name in task_type.engines if name not in task_type.gpu_is_idle)
        log.warning("--gpus %s: %s leaves the GPU idle; with --engine %s it computes", gpus, engine, others)
    if notice := task_type.notices.get(run.recipe.engine or ""):
        click.echo(notice[run.recipe.params.get("lang") == "zh"], err=True)
    about_models = ((models.HERE, model), (trust.VARIABLE, allow_code))
    group = context.find_root().params
    chosen = Settings(
        queue=queue,
        root=root,
        hw=hw or "",
        device=device or (cards[0].device if cards else "cpu"),
        ranks=share.ranks,
        node=node,
        environment={variable: value for variable, value in about_models if value},
        batch=batch,
        children=children or max(1, len(os.sched_getaffinity(0)) // workers),
        item_limit_s=item_limit,
        item_memory_gb=item_memory,
        scratch_gb=scratch,
        budget=budget,
        price_per_hour=price_per_hour and price_per_hour / workers,
        ttl=ttl,
        follow=follow,
        idle_exit_s=idle_exit,
        out=out,
        patience_s=patience,
        log=group["log"],
        debug=group["debug"],
    )
    limit = item_limit or task_type.item_limit_s
    with StopListener(grace=grace, stop_after=stop_after, events_url=events_url(os.environ)) as stop:
        crew = Crew(divide(chosen, workers, cards), stop, Ticker(), partial(Parent, nursery, limit))
        with _measured(metrics, crew), followed(following) if following else nullcontext():
            ending = together(crew.run())
        if stop.current:  # one Ctrl-C more than needed must not cost the exit code
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hold:
        hold.release()
    return finish(ending, store, out or (default_out(queue) if paths else None), on_done)


def _folders(store: Store, task: str | None, paths: Sequence[str]) -> list[str]:
    """Those of the paths that files may come into."""
    takes = registry.find(task or require(store).recipe.task).takes
    return [path for path in paths if takes == "files" and Path(path).is_dir()]


def _measured(port: int | None, crew: Crew) -> AbstractContextManager[None]:
    if port is None:
        return nullcontext()
    from worker.metrics import served

    return served(port, crew.standings)


class Ticker:
    """A line now and then of how it goes here; `worker status --watch` shows all workers."""

    def __init__(self) -> None:
        self._every = 5.0 if sys.stderr.isatty() else 30.0
        self._told = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, members: Sequence[Standing]) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._told < self._every or not any("answered" in one.info for one in members):
                return
            self._told = now
        log.info("%s", line_of(members))


def line_of(members: Sequence[Standing]) -> str:
    infos = [one.info for one in members if "answered" in one.info]
    states = sorted({str(info["state"]) for info in infos})
    hands = [str(info["item"]) for info in infos if info["item"]]
    done, shards = max((int(info["shards_done"]), int(info["shards"])) for info in infos)
    return (
        f"{', '.join(states)}: {done} of {shards} shards done; "
        f"here {sum(one.answered for one in members)} items answered, "
        f"{sum(one.failed for one in members)} of them failed, "
        f"{sum(float(info['rate_per_s']) for info in infos):.3g} a second; {', '.join(hands) or 'waiting'}"
    )


def shards_left(store: Store) -> int:
    done = {layout.shard_of(entry.name) for entry in store.list(layout.DONE)}
    return sum(layout.shard_of(entry.name) not in done for entry in store.list(layout.ITEMS))


def finish(ending: Ending, store: Store, out: Path | None, on_done: str | None) -> int:
    """The answers into OUT when all is done; else what is left, and what to type."""
    if ending.code not in (0, UnfinishedError.exit_code):
        tell_error(ending.text)
        return ending.code
    if ending.code and (left := shards_left(store)):
        # a machine that is taken has no time for more than two lists
        tell_error(f"{left} shards are left and handed back: run the same command again ({ending.text})")
        return UnfinishedError.exit_code
    progress = Watcher(store, Clock()).look()
    complete = not progress.failed and not progress.refused
    if not progress.is_over:
        why = f" ({ending.text})" if ending.text else ""
        tell_error(
            f"{progress.answered} of {progress.total} items are answered; the rest is handed back: "
            f"run the same command again{why}"
        )
        return UnfinishedError.exit_code
    if out:
        # here, for a worker without --out needs none of it
        from worker.cli.outcome import outcome
        from worker.report.collect import collect

        collected = collect(store, out)
        click.echo("\n".join(outcome(collected)))
        complete = collected.complete
    elif progress.total:
        tell_error(f"all done, {progress.total} items; `worker collect {store.url}` writes the answers")
    else:
        tell_error(f"{store.url} holds no items yet: enqueue some, or wait for them with --follow")
    if on_done:
        import subprocess

        subprocess.run(shlex.split(on_done), check=False)
    return 0 if complete else 1
