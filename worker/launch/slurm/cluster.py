"""A SLURM: what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence

from worker.launch.launch import Launch
from worker.launch.launcher import Standing
from worker.launch.slurm import states
from worker.launch.slurm.host import Host, quoted
from worker.launch.slurm.place import Place
from worker.launch.slurm.script import FILE

LIVE = "PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING,REQUEUED,REQUEUE_HOLD,RESIZING,SIGNALING,STAGE_OUT"


class Cluster:
    kind = "slurm"

    def __init__(self, host: Host) -> None:
        self._host = host

    def start(self, launch: Launch, where: Place) -> tuple[list[str], bool]:  # noqa: ARG002
        """Its jobs; False: they were there already. One asks and starts at a time, and whoever asks again
        after a broken connection finds what was started."""
        room = quoted(where.room)
        found = self._live(where)
        said = self._host.need(
            f"cd {room} && exec 9>.starting && {{ command -v flock >/dev/null && flock 9; "
            f'live=$({found}) || exit 1; if [ -n "$live" ]; then echo live; echo "$live"; '
            f"else echo new; sbatch --parsable {FILE}; fi; }} </dev/null"
        )
        word, *jobs = said.split("\n")
        return _first(jobs), word == "new"

    def live(self, where: Place) -> list[str]:
        return _first(self._host.need(self._live(where)).split("\n"))

    def standing(self, jobs: Sequence[str], where: Place) -> Standing:
        # the number of one that was started while nobody listened stands nowhere
        job = jobs[-1:] or self.live(where)
        return states.standing(self._tasks(job[0]) if job else [])

    def cancel(self, jobs: Sequence[str], where: Place) -> str:
        live = self.live(where)
        if ours := [*dict.fromkeys([*live, *jobs])]:
            self._host.need(f"scancel --quiet {quoted(*ours)}; true")
        return (
            f"told {', '.join(live)} to end: their workers hand their work back"
            if live
            else "no job of it runs"
        )

    def _live(self, where: Place) -> str:
        """A line for a shell: the jobs of this name that were submitted from this folder."""
        asked = f'--user "$(id -un)" --name {quoted(where.name)} --states {LIVE}'
        return (
            f"room=$(cd {quoted(where.room)} 2>/dev/null && pwd -P); "
            # who did not answer has not said that there is none
            f"told=$(squeue --noheader {asked} --format '%F %Z') || exit 1; "
            "printf '%s\\n' \"$told\" | sort -u | while read -r job folder; do "
            '[ "$(cd "$folder" 2>/dev/null && pwd -P)" = "$room" ] && echo "$job"; done; true'
        )

    def _tasks(self, job: str) -> list[states.Task]:
        said = self._host.run(f"scontrol --oneliner show job {quoted(job)}")
        if said.code == 0 and (tasks := states.read_scontrol(said.out)):
            return tasks
        if "Invalid job id" not in said.err:
            # not forgotten: it does not answer
            self._host.need("scontrol ping >/dev/null || { scontrol ping >&2; exit 1; }")
        told = self._host.run(
            f"sacct --noheader --parsable2 --allocations --jobs {quoted(job)} --format JobID,State,ExitCode"
        )
        return states.read_sacct(told.out) if told.code == 0 else []


def _first(jobs: Sequence[str]) -> list[str]:
    """12;cluster → 12"""
    return [job.partition(";")[0] for job in jobs if job.strip()]
