"""A server with cards and no scheduler: workers that go on when nobody is logged in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from worker.errors import MachineError
from worker.launch.endings import AGAIN, DONE, FINAL, stop_after
from worker.launch.launch import Launch
from worker.launch.launcher import Standing, State
from worker.launch.slurm.host import Host, quoted
from worker.launch.slurm.place import Place
from worker.launch.slurm.script import MARGIN_S

SCRIPT = "worker/launch/slurm/detached.sh"
WAIT_S = 90
"""for workers to hand their work back"""
KILLED = 128
"""and more: by a signal"""


class Server:
    kind = "server"

    def __init__(self, host: Host, cards: int = 0) -> None:
        self._host = host
        self._cards = cards

    def start(self, launch: Launch, where: Place) -> tuple[list[str], bool]:
        lists = cards(launch, self._cards, self._host.name or "this machine")
        before = self.live(where)
        limit_s = stop_after(launch.time_limit_s, MARGIN_S)
        limit = f"WORKER_LAUNCH_LIMIT={limit_s:.0f} " if limit_s else ""
        said = self._host.need(
            f"cd {quoted(where.room)} && exec 9>.starting && {{ command -v flock >/dev/null && flock 9; "
            f"{limit}{self._call('start', where, *lists)}; }} </dev/null"
        )
        lost = [words[0] for words in _lines(said) if words[1] == "lost"]
        if lost:
            raise MachineError(f"worker {lost[0]} did not start: see {where.log}/worker-{lost[0]}.log")
        return [f"worker-{words[0]}" for words in _lines(said)], len(before) < launch.workers

    def live(self, where: Place) -> list[str]:
        said = self._host.run(self._call("look", where))
        return [f"worker-{words[0]}" for words in _lines(said.out) if words[1] == "running"]

    def standing(self, jobs: Sequence[str], where: Place) -> Standing:  # noqa: ARG002
        return standing(self._host.need(self._call("look", where)))

    def cancel(self, jobs: Sequence[str], where: Place) -> str:  # noqa: ARG002
        live = self.live(where)
        script = quoted(f"{where.checkout}/{SCRIPT}")  # not there yet, where a submit broke early
        call = f"[ ! -e {script} ] || {self._call('stop', where, str(WAIT_S))}"
        left = [words for words in _lines(self._host.need(call, limit_s=None)) if words[1] == "running"]
        if left:
            raise MachineError(
                f"{len(left)} workers have not ended after {WAIT_S} s (processes "
                f"{', '.join(words[2] for words in left)}): cancel again, or kill them"
            )
        return f"{', '.join(live)} ended, the work is handed back" if live else "no worker of it runs"

    def _call(self, verb: str, where: Place, *words: str) -> str:
        return quoted("bash", f"{where.checkout}/{SCRIPT}", verb, where.room, *words)


def cards(launch: Launch, there: int, host: str) -> list[str]:
    """Which ones each worker sees, as a scheduler would give them; -: none."""
    if not launch.gpus:
        return ["-"] * launch.workers
    said = launch.environment.get("CUDA_VISIBLE_DEVICES", "")
    known = said.split(",") if said else [str(number) for number in range(there)]
    if len(known) < launch.workers * launch.gpus:
        raise MachineError(
            f"{host} has {len(known)} cards, and --workers {launch.workers} with --gpus {launch.gpus} need "
            f"{launch.workers * launch.gpus}: ask for less"
        )
    each = launch.gpus
    return [",".join(known[n * each : (n + 1) * each]) for n in range(launch.workers)]


def standing(said: str) -> Standing:
    """Of what detached.sh tells."""
    found = [words[1:] for words in _lines(said)]
    counts = Counter(words[0] for words in found)
    codes = [int(words[1]) for words in found if words[0] == "ended"]
    told = [f"{counts[word]} {word}" for word in ("running", "cancelled") if counts[word]]
    told += [f"{codes.count(code)} ended" + f" with {code}" * (code != DONE) for code in sorted(set(codes))]
    told += [f"{counts['lost']} ended without a word"] if counts["lost"] else []
    if counts["running"]:
        return Standing("running", ", ".join(told))
    if counts["cancelled"]:
        return Standing("cancelled", ", ".join(told), "the same submit goes on")
    if any(code not in (AGAIN, *FINAL) and code < KILLED for code in codes):
        return Standing("failed", ", ".join(told), "its log, in the launch's folder, says why")
    # whoever was killed, or whose machine was started again, has left work
    state: State = "done" if codes and len(codes) == len(found) and {*codes} <= {*FINAL} else "again"
    return Standing(state, ", ".join(told) or "no worker was started")


def _lines(said: str) -> list[list[str]]:
    return [line.split() for line in said.splitlines() if len(line.split()) > 1]
