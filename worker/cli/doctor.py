"""worker doctor"""

from __future__ import annotations

import click

from worker.errors import MachineError


@click.command("doctor")
@click.option("--hw", metavar="NAME", help="the profile that this machine should be, such as a800")
@click.option("--queue", metavar="QUEUE", help="try the store where the work shall lie")
@click.option("--model", metavar="FOLDER|OWNER/NAME", help="is it here, and does a card hold it")
@click.option(
    "--for", "task", metavar="TASK", help="the work that is meant: pcb, detection, or a task's name"
)
@click.option("--json", is_flag=True, help="one line for programs")
def command(hw: str | None, queue: str | None, model: str | None, task: str | None, json: bool) -> int:
    """Does this machine fit? Each line a finding, and what to do about it. Ends with 3 if it does not."""
    from worker.cli.findings import lines
    from worker.doctor.examination import examine
    from worker.doctor.facts import Wanted
    from worker.queue.text import dumps
    from worker.redact import redact_json

    found = examine(Wanted(hw, queue, model, task))
    if json:
        click.echo(dumps(redact_json(found.as_json())))
    else:
        click.echo("\n".join(lines(found)))
    return 0 if found.fits else MachineError.exit_code
