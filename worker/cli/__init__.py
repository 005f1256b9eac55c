"""The command line: one thin file a command, imported only when it is called."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from worker import __version__
from worker.errors import WorkerError
from worker.harmless import harmless
from worker.redact import redact

# The helps stand here so that `worker --help` imports no command, and with it no model and no cloud.
COMMANDS = {
    "run": "pull and work until the queue is done",
    "enqueue": "add files, folders, globs, URLs or lists to a queue",
    "status": "progress, rate, time left, workers and failures",
    "collect": "write results, summary and report into a folder",
    "record": "cut a live stream into files that overlap, for run --follow",
    "retry": "ask again for items that failed, or for those named",
    "evaluate": "score results against labels",
    "compare": "where two runs agree, and one run made of both",
    "weights": "fetch a model's file, and check it",
    "plan": "what a task needs on a machine: memory, disk, time, money",
    "launch": "start workers elsewhere: SLURM, Azure ML, Kubernetes",
    "gpus": "hand out this machine's GPUs, or a cluster's: gpus serve",
    "tasks": "what can be done, and with which parameters",
    "doctor": "does this machine fit, and what to do if not",
}
STOPPED = 75


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"worker.cli.{name}").command
        # set here, or a variable would carry the command's name: WORKER_RUN_TTL
        command.context_settings.setdefault("auto_envvar_prefix", "WORKER")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command is called '{name}'; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """A command returns its exit code, or None for 0. What goes wrong becomes one line."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise  # main and click know these
        except KeyboardInterrupt:
            return _tell("stopped; nothing is lost, run the same command again", STOPPED)
        except WorkerError as error:
            _trace(ctx)
            return _tell(str(error), error.exit_code)
        except BrokenPipeError:
            return _without_reader()
        except Exception as error:
            _trace(ctx)
            again = "" if ctx.params["debug"] else "; run again with --debug"
            return _tell(f"{type(error).__name__}{_where(error)}: {error}{again}", WorkerError.exit_code)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "WORKER"},
    epilog="Every option has an environment variable: --ttl is WORKER_TTL, --debug is WORKER_DEBUG.",
)
@click.option("--log", type=click.Choice(["text", "json"]), default="text", help="how to log, to stderr")
@click.option("--debug", is_flag=True, help="log more, and show a traceback with an error")
@click.version_option(__version__, prog_name="worker")
def group(log: str, debug: bool) -> None:
    """A folder of work goes in, a folder of answers comes out, on any GPU."""
    from worker.cli import logs

    logs.set_up(log, debug=debug)


def main(arguments: Sequence[str] | None = None) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal has every letter
    try:
        code = group.main(arguments, prog_name="worker", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        ctx = getattr(error, "ctx", None)
        said = error.format_message().rstrip(".")
        code = _tell(f"{said}; see {ctx.command_path if ctx else 'worker'} --help", error.exit_code)
    except click.Abort:
        code = _tell("stopped", STOPPED)
    sys.exit(code)


def tell_error(line: str) -> None:
    """One line to stderr, without secrets and what would move a cursor."""
    click.echo(f"worker: {harmless(' '.join(redact(line).split()))}", err=True)


def _tell(line: str, code: int) -> int:
    tell_error(line)
    return code


def _trace(ctx: click.Context) -> None:
    if ctx.params["debug"]:
        import traceback

        from worker.cli.logs import indented

        click.echo(indented(traceback.format_exc().rstrip()), err=True)


def _where(error: BaseException) -> str:
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    return f" in {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""


def _without_reader() -> int:
    """Whoever read our output has read enough (`worker status | head -1`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
