"""Workers as jobs of a SLURM, or as processes of a server that has none: here, or by ssh."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

from worker.errors import MachineError, UnfinishedError, UsageError
from worker.launch import cost, template
from worker.launch.here import CHECKOUT
from worker.launch.launch import Launch, Receipt
from worker.launch.launcher import Launcher, Look, Standing
from worker.launch.queue import looked
from worker.launch.slurm import inputs, place, script
from worker.launch.slurm.cluster import Cluster
from worker.launch.slurm.host import Address, Host, quoted
from worker.launch.slurm.place import Place
from worker.launch.slurm.refusals import refusal, refused
from worker.launch.slurm.server import Server

if TYPE_CHECKING:
    from worker.launch.launcher import Keep, Say

MEMORY = re.compile(r"\d+[KMGT]?")
CARD = re.compile(r"[A-Za-z0-9_.-]+")


class Slurm(Launcher):
    name: ClassVar[str] = "slurm"

    def check(self, launch: Launch) -> None:
        host = str(launch.setting("host", ""))
        if host:
            Address.of(host)
        for option in ("dir", "venv", "partition", "account", "qos", "constraint"):
            said = str(launch.setting(option, ""))
            if re.search(r"[\x00-\x1f\x7f\\]", said) or said.startswith("-"):
                raise UsageError(f"--{option} {said!r}: no backslash, no line's end, no hyphen first")
        for option, pattern, form in (("memory", MEMORY, "64G"), ("gpu_type", CARD, "a100")):
            said = str(launch.setting(option, ""))
            if said and not pattern.fullmatch(said):
                raise UsageError(f"--{option.replace('_', '-')} {said!r}: write it like {form}")
        inputs.check(launch.inputs, host)
        place.place(launch)
        template.read(CHECKOUT / script.TEMPLATE)

    def render(self, launch: Launch) -> Mapping[str, str]:
        return self._render(launch, place.place(launch))

    def cost(self, launch: Launch) -> cost.Cost:
        return cost.of(launch, int(launch.setting("nodes", 1)))

    def submit(self, launch: Launch, known: Receipt | None, say: Say, keep: Keep) -> Receipt:
        host = Host(str(launch.setting("host", "")))
        facts = place.facts(host)
        where = place.place(launch, facts)
        receipt = _receipt(launch, known, facts, where)
        mark = str(receipt.notes["mark"])
        if known and known.launch.setting("host") != launch.setting("host"):
            refuse_other_host(host, known, where)
        starter = _starter(receipt, host)
        live = starter.live(where) if known else []
        keep(receipt)  # its mark is known before anything has it
        made = [*dict.fromkeys(host.need(place.make(where, mark)).splitlines())]
        receipt = receipt.also(made=made)
        keep(receipt)
        if not live:
            _bring_worker(host, launch, where, say)
        _bring_inputs(host, launch, where, say)
        return self._start(starter, receipt, where, say)

    def again(self, receipt: Receipt, say: Say) -> Receipt:
        host, where = _at(receipt)
        return self._start(_starter(receipt, host), receipt, where, say)

    def standing(self, receipt: Receipt) -> Standing:
        host, where = _at(receipt)
        return _starter(receipt, host).standing(receipt.jobs, where)

    def look(self, receipt: Receipt) -> Look:
        from worker.queue.told import progress_of

        host, where = _at(receipt)
        told = host.need(f"{where.worker} status {quoted(where.queue)} --json")
        return looked(progress_of(json.loads(told)))

    def fetch(self, receipt: Receipt, out: Path, say: Say) -> bool:
        host, where = _at(receipt)
        to = where.results if host.is_far else str(out.absolute())
        collect = f"{where.worker} collect {quoted(where.queue)} --out {quoted(to)}"
        said = host.run(collect, limit_s=None)
        if said.code not in (0, 1):
            why = said.err.strip().splitlines()[-1:] or ["it ended without a word"]
            kind = UnfinishedError if said.code == UnfinishedError.exit_code else MachineError
            raise kind(f"the answers of {receipt.name}: {why[0].removeprefix('worker: ')}")
        if host.is_far:
            host.fetch(to, out)
        say(said.out.rstrip().replace(f"{to}/", f"{out}/"))
        return said.code == 0

    def cancel(self, receipt: Receipt, say: Say) -> None:
        host, where = _at(receipt)
        told = _starter(receipt, host).cancel(receipt.jobs, where)
        say(f"{receipt.name}: {told}; queue and answers stay")

    def delete(self, receipt: Receipt, say: Say) -> None:
        host, where = _at(receipt)
        if live := _starter(receipt, host).live(where):
            raise UsageError(
                f"{', '.join(live)} still run: worker launch slurm cancel {receipt.name} ends them first"
            )
        gone = host.need(place.delete(where, str(receipt.notes["mark"])), limit_s=None).splitlines()
        for folder in gone:
            say(f"{folder}: deleted" + f" on {host.name}" * host.is_far)
        if not gone:
            say(f"{receipt.name}: nothing is there that it made")

    def _render(self, launch: Launch, where: Place) -> Mapping[str, str]:
        return {script.FILE: script.render(launch, where, template.read(CHECKOUT / script.TEMPLATE))}

    def _start(self, starter: Cluster | Server, receipt: Receipt, where: Place, say: Say) -> Receipt:
        host = Host(str(receipt.launch.setting("host", "")))
        text = self._render(receipt.launch, where)[script.FILE]
        host.need(
            f"cd {quoted(where.room)} && cat >{script.FILE}.part && mv {script.FILE}.part {script.FILE}",
            stdin=text,
        )
        jobs, is_new = starter.start(receipt.launch, where)
        if not is_new:
            say(f"{receipt.name}: {', '.join(jobs)} runs already, nothing is started twice")
        return receipt.also(jobs=jobs)


def _receipt(launch: Launch, known: Receipt | None, facts: Mapping[str, str], where: Place) -> Receipt:
    is_slurm = bool(facts.get("slurm"))
    if not is_slurm and int(launch.setting("nodes", 1)) > 1:
        host = launch.setting("host", "this machine")
        raise UsageError(f"{host} has no SLURM in PATH, and --nodes needs one: leave --nodes out")
    mark = known.notes["mark"] if known else f"{launch.name} {uuid4().hex}"
    notes = {"facts": dict(facts), "kind": "slurm" if is_slurm else "server", "mark": mark}
    if known is None or not (known.made or known.jobs):  # what failed at once may go elsewhere
        return Receipt(Slurm.name, launch, where.queue, notes=notes)
    if known.notes["facts"].get("home") != facts.get("home") or known.queue != where.queue:
        raise UsageError(
            f"{launch.name} was submitted to {known.queue} on "
            f"{known.launch.setting('host', 'this machine')}: submit it there, or choose another --name"
        )
    return replace(known, launch=launch, notes=notes)


def refuse_other_host(host: Host, known: Receipt, where: Place) -> None:
    """One machine may have two names; but each rented one has a /root, too."""
    if (known.made or known.jobs) and host.run(place.is_ours(where, str(known.notes["mark"]))).code:
        raise UsageError(
            f"{known.name} was submitted to {known.launch.setting('host', 'this machine')}, and "
            f"{host.name or 'this machine'} is another one: choose another --name"
        )


def _at(receipt: Receipt) -> tuple[Host, Place]:
    host = Host(str(receipt.launch.setting("host", "")))
    return host, place.place(receipt.launch, receipt.notes["facts"])


def _starter(receipt: Receipt, host: Host) -> Cluster | Server:
    if receipt.notes["kind"] == "slurm":
        return Cluster(host)
    return Server(host, int(receipt.notes["facts"].get("cards") or 0))


def _bring_worker(host: Host, launch: Launch, where: Place, say: Say) -> None:
    """Its files, and the environment that they need."""
    if host.is_far:
        say(f"bringing the worker to {host.name}:{where.checkout}")
        host.need(f"mkdir -p -- {quoted(where.checkout)}")
        there = [name for name in script.names() if (CHECKOUT / name).exists()]
        without = ("--exclude=__pycache__", "--exclude=*.pyc")
        host.bring(there, where.checkout, options=("-z", "--delete", *without), cwd=CHECKOUT)
    if launch.setting("venv"):
        said = host.run(f"{where.worker} --version")
        if said.code:
            raise MachineError(
                refusal(said.err, host.name)
                + f"; --venv {launch.setting('venv')} cannot run the worker: leave it out, and one is made"
            )
        return
    say("setting up its environment: minutes, the first time")
    host.need(place.set_up(launch, where), limit_s=None)


def _bring_inputs(host: Host, launch: Launch, where: Place, say: Say) -> None:
    what = inputs.brought(launch.inputs)
    root = where.inputs if host.is_far else str(what.root)
    if what.files:
        if host.is_far:
            say(f"bringing the inputs to {host.name}:{where.inputs}")
            host.bring_these(what.files, where.inputs, cwd=what.root)
        for batch in inputs.batches([f"{root}/{one}" if one != "." else root for one in what.files]):
            _enqueue(host, launch, where, say, ["--root", root, "--", *batch])
    if what.there:
        _enqueue(host, launch, where, say, ["--", *what.there])


def _enqueue(host: Host, launch: Launch, where: Place, say: Say, words: Sequence[str]) -> None:
    asked = quoted("enqueue", where.queue, *launch.recipe_words, *words)
    said = host.run(f"{where.worker} {asked}", limit_s=None)
    if said.code not in (0, 1):
        raise refused(said.err or said.out, host.name, said.code)
    say(said.err)
