"""The same job in other queues: texts in upper case, each in the setting that suits it best.

`python -m tests.bench.peer_jobs NAME PLACE COUNT` enqueues, then prints the seconds that the work took. What
others need to import and to enqueue is not counted.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

LANES = 16
"""ai4s-jobq: so many messages in hand at once; more made it no faster"""


def huey(place: str, count: int) -> float:
    """One thread of its consumer in this process; two or four were slower."""
    return _huey(place, count, fsync=True)


def huey_unsynced(place: str, count: int) -> float:
    return _huey(place, count, fsync=False)


def _huey(place: str, count: int, fsync: bool) -> float:
    from huey import SqliteHuey

    app = SqliteHuey("bench", filename=str(Path(place) / "huey.db"), fsync=fsync)

    @app.task()  # type: ignore[untyped-decorator]
    def shout(text: str) -> str:
        return text.upper()

    for text in _texts(count):
        shout(text)
    began = time.perf_counter()
    consumer = app.create_consumer(workers=1, periodic=False, check_worker_health=False)
    consumer.start()
    while app.result_count() < count:
        # to count takes it longer the more there are: asked so rarely that it costs a hundredth at most
        time.sleep(max(0.02, (time.perf_counter() - began) / 100))
    spent = time.perf_counter() - began
    consumer.stop(graceful=True)
    return spent


def persist_queue(place: str, count: int) -> float:
    """Acknowledged only when the result lies in a second queue."""
    from persistqueue import FIFOSQLiteQueue, SQLiteAckQueue

    items, results = SQLiteAckQueue(f"{place}/items"), FIFOSQLiteQueue(f"{place}/results")
    for text in _texts(count):
        items.put(text)
    began = time.perf_counter()
    for _ in range(count):
        item = items.get(block=False, raw=True)
        results.put((item["pqid"], item["data"].upper()))
        items.ack(id=item["pqid"])
    return time.perf_counter() - began


def litequeue(place: str, count: int) -> float:
    """It has no place for a result: each is dropped."""
    from litequeue import LiteQueue

    queue = LiteQueue(f"{place}/lite.db")
    for text in _texts(count):
        queue.put(text)
    began = time.perf_counter()
    while message := queue.pop():
        message.data.upper()
        queue.done(message.message_id)
    return time.perf_counter() - began


def ai4s_jobq(place: str, count: int) -> float:
    """`place` is a connection string. The Azure queue has no place for a result: each is dropped."""
    from ai4s.jobq import JobQ
    from ai4s.jobq.entities import EmptyQueue

    async def shout(text: str) -> str:
        return text.upper()

    async def work(queue: JobQ) -> None:
        try:
            while True:
                await queue.pull_and_execute(shout)
        except EmptyQueue:
            return

    async def job() -> float:
        async with JobQ.from_connection_string(f"bench{time.time_ns()}", connection_string=place) as queue:
            texts = _texts(count)
            for start in range(0, count, 50):
                await asyncio.gather(*(queue.push({"text": text}) for text in texts[start : start + 50]))
            began = time.perf_counter()
            await asyncio.gather(*(work(queue) for _ in range(LANES)))
            return time.perf_counter() - began

    return asyncio.run(job())


JOBS: dict[str, Callable[[str, int], float]] = {
    job.__name__: job for job in (huey, huey_unsynced, persist_queue, litequeue, ai4s_jobq)
}


def _texts(count: int) -> list[str]:
    return [f"item {number}" for number in range(count)]


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # a line an item would be measured too
    print(JOBS[sys.argv[1]](sys.argv[2], int(sys.argv[3])))  # noqa: T201
