"""Whether the queue can hold what exactly-once rests on."""

from __future__ import annotations

from collections.abc import Iterator

from worker.doctor.facts import Facts
from worker.doctor.finding import Finding, blocker, ok, warning

SLOW_S = 2.0
MORTAL = {"tmpfs": "memory", "ramfs": "memory", "overlay": "the container"}


def mount(facts: Facts) -> Iterator[Finding]:
    queue = facts.queue
    if queue is None or not queue.mount:
        return
    where = f"{queue.tried} ({queue.url} is not there yet)" if queue.tried != queue.url else queue.url
    if dies := MORTAL.get(queue.mount):
        yield warning(
            f"{where} lies in {dies} ({queue.mount}), and dies with it",
            "a folder of a real disk, NFS or a bucket: -v /data/queue:/queue, az://container/prefix",
        )
    elif "fuse" not in queue.mount or queue.wrong is None:
        yield ok(f"{where}: {queue.mount}")


def race(facts: Facts) -> Iterator[Finding]:
    queue = facts.queue
    if queue is None:
        return
    if queue.wrong:
        found, _, remedy = queue.wrong.partition("; ")
        yield blocker(found, remedy or "name a folder on a local disk or NFS, or a bucket")
    elif wrong := [winners for winners in queue.winners if winners != 1]:
        yield blocker(
            f"of two writes to one name {wrong[0]} won, in {len(wrong)} of {len(queue.winners)} races: two "
            "workers would answer one shard",
            "another store: a local disk, NFS from version 3 on, Azure, S3 or GCS",
        )
    elif queue.slowest > SLOW_S:
        yield warning(
            f"one winner in each of {len(queue.winners)} races, but a write took {queue.slowest:.1f} s",
            "a store that is nearer; or fewer, larger shards",
        )
    else:
        slowest = f"the slowest write took {queue.slowest * 1000:.0f} ms"
        yield ok(f"{len(queue.winners)} races of two writes to one name, one winner each; {slowest}")
