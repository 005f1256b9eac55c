"""What films are read with, and how a stop arrives."""

from __future__ import annotations

from collections.abc import Iterator

from worker.doctor.facts import Facts
from worker.doctor.finding import Finding, blocker, ok, warning
from worker.stop import GRACE_S

DECODERS = {
    "H.264": ("h264",),
    "HEVC": ("hevc",),
    "AV1": ("libdav1d", "av1"),
    "VP9": ("vp9",),
    "MPEG-4": ("mpeg4",),
    "MJPEG": ("mjpeg",),
}
SLOW_S = 5.0


def codecs(facts: Facts) -> Iterator[Finding]:
    there = facts.system.codecs
    if there is None:
        yield blocker(f"PyAV does not load: {facts.system.codecs_wrong}", "pip install --force-reinstall av")
        return
    missing = [name for name, any_of in DECODERS.items() if not set(any_of) & set(there)]
    encoder = next((one for one in ("libx264", "libopenh264", "mpeg4") if one in there), None)
    if missing:
        yield warning(
            f"PyAV here reads no {', '.join(missing)}", "pip install --force-reinstall --only-binary av av"
        )
    else:
        yield ok(f"PyAV reads {', '.join(DECODERS)}; writes with {encoder}")


def signals(facts: Facts) -> Iterator[Finding]:
    here = facts.signals
    if here.shell:
        yield warning(
            f"'{here.shell}' stands before us, and a shell passes no SIGTERM on: a stop loses work",
            'exec worker run … in scripts; ENTRYPOINT ["worker"] in images, as ours have it',
        )
    if here.blocked:
        yield warning(
            f"blocked by who started us: {', '.join(here.blocked)}",
            "start the worker from another program: a mask is inherited",
        )
    if not here.shell and not here.blocked:
        yield ok(f"arrive (PID 1 is {here.first.split()[0] if here.first else 'ourselves'})")


def stopping(facts: Facts) -> Iterator[Finding]:
    here = facts.signals
    if here.stopped_after is None or here.ended_after is None:
        yield blocker(
            f"a small worker could not be started and stopped: {here.trial_wrong}",
            "try it: make run TASK=media-check",
        )
        return
    said = f"{here.stopped_after:.2f} s from SIGTERM to work handed back, {here.ended_after:.2f} to the end"
    if here.ended_after > SLOW_S:
        yield warning(
            said, f"give it {2 * here.ended_after:.0f} s and more: --grace, docker stop -t, KillWait"
        )
    else:
        yield ok(f"{said}; it is given {GRACE_S:g}")
