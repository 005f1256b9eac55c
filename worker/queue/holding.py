"""A shard in hand: what is left of it, the parts written so far, the commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from worker.items import Answer, Failure, Item, Result
from worker.queue import layout, parts
from worker.queue.beat import Life
from worker.queue.gist import Gist
from worker.queue.shards import Shard
from worker.queue.store import Store
from worker.queue.text import encode

INLINE_MOST = 256 * 1024


class Holding:
    def __init__(
        self,
        store: Store,
        life: Life,
        shard: Shard,
        epoch: int,
        *,
        careful: bool,
        inherited: Mapping[str, int],
        answers: Mapping[str, Result],
        killers: frozenset[str],
        hand: Callable[[Mapping[str, tuple[str, ...]]], None],
        forget: Callable[[str], None],
    ) -> None:
        self.shard = shard
        self.epoch = epoch
        self.careful = careful
        self.answered: set[str] = set()
        self._ids = frozenset(item.id for item in shard.items)
        self._gist = Gist()
        self._parts = dict(inherited)
        """and their bytes"""
        self._written = 0
        self._buffer: list[Result] = []
        self._store = store
        self._life = life
        self._gaps = life.gaps
        self._hand: tuple[str, ...] = ()
        self._tell_hand = hand
        self._forget = forget
        for result in answers.values():
            self._take(result)
        message = "every worker that touched it died, twice while it was alone in hand"
        self.add(
            [
                Result(i.id, i.input, Failure("crashed-worker", message))
                for i in self.left()
                if i.id in killers
            ]
        )

    @property
    def complete(self) -> bool:
        return self.answered >= self._ids

    @property
    def doubtful(self) -> bool:
        """Our beats went unheard for the TTL since we last made sure that the shard is ours."""
        return self._life.gaps != self._gaps

    def left(self) -> list[Item]:
        return [item for item in self.shard.items if item.id not in self.answered]

    def begin(self, items: Sequence[Item]) -> bool:
        """Name the items that the device begins, so that a death can be laid at their door.

        False: the shard is careful (rule 7) and no beat that names them was acknowledged; do not begin."""
        begin([(self, items)])
        return self._life.beat_now() if self.careful else True

    def add(self, results: Sequence[Result]) -> None:
        """Take answers in; an item that has one already keeps it."""
        for result in results:
            if self._take(result):
                self._buffer.append(result)
        _set_hands({self: tuple(i for i in self._hand if i not in self.answered)})

    def flush(self) -> None:
        """Write what is buffered as one part. Only acknowledged parts are ever listed (rule 1)."""
        if not self._buffer:
            return
        self._store_files()
        data = parts.pack(self._buffer)
        while True:
            self._written += 1
            name = layout.part(self.shard.name, self.epoch, self._written)
            # False: an earlier write of ours, given up for lost, arrived late under this name
            if self._store.create(name, data):
                break
        self._parts[name] = len(data)
        self._buffer.clear()

    def commit(self) -> None:
        commit([self])

    def sealed(self) -> tuple[str, bytes]:
        """The commit's name and bytes; all that it lists is written."""
        if not self.complete:
            raise ValueError(f"shard {self.shard.name} has items without an answer: it is not committed")
        self._store_files()
        inline = parts.pack(self._buffer)
        if len(inline) > INLINE_MOST:
            self.flush()
        record = {
            "shard": self.shard.name,
            "sha256": self.shard.sha256,
            **self._gist.as_json(),
            "bytes": [*self._parts.values()],
            "parts": [*self._parts],
            "worker": self._life.worker,
            "epoch": self.epoch,
            "inline": inline.decode() if self._buffer else None,
        }
        return layout.done(self.shard.name), encode(record)

    def _take(self, result: Result) -> bool:
        """False: it is no item of ours, or it has an answer already."""
        if result.item not in self._ids or result.item in self.answered:
            return False
        self.answered.add(result.item)
        self._gist.add(result.kind, result.seconds)
        return True

    def ours(self) -> bool:
        """Rule 4: after a silence of ours, new work only once a beat is heard and no higher epoch stands."""
        if not self.doubtful:
            return True
        self.flush()
        if not self._life.beat_now():
            return False
        self._gaps = self._life.gaps
        return self.is_newest()

    def is_newest(self) -> bool:
        """No higher epoch stands."""
        names = (layout.claim_of(e.name) for e in self._store.list(layout.claims(self.shard.name)))
        return max((name[1] for name in names if name), default=0) == self.epoch

    def release(self, reason: str) -> None:
        """Hand the shard back, finished results first."""
        self.flush()
        release(self._store, self.shard.name, self.epoch, reason)
        self._forget(self.shard.name)

    def drop(self) -> None:
        """It is committed, or somebody else has it: what we wrote stays."""
        self._forget(self.shard.name)

    def _store_files(self) -> None:
        for number, result in enumerate(self._buffer):
            if isinstance(result.outcome, Answer) and result.outcome.files:
                for content in result.outcome.files.values():
                    self._store.create(layout.file(content), content)
                names = {name: layout.file(content) for name, content in result.outcome.files.items()}
                stored = Answer(result.outcome.keys)
                self._buffer[number] = replace(result, outcome=stored, files={**result.files, **names})


def begin(batch: Sequence[tuple[Holding, Sequence[Item]]]) -> None:
    """Name the items of each shard that the device begins now: one word for all."""
    _set_hands({h: tuple(item.id for item in items if item.id not in h.answered) for h, items in batch})


def _set_hands(hands: Mapping[Holding, tuple[str, ...]]) -> None:
    changed = {holding: hand for holding, hand in hands.items() if hand != holding._hand}
    for holding, hand in changed.items():
        holding._hand = hand
    if changed:
        next(iter(changed))._tell_hand({holding.shard.name: hand for holding, hand in changed.items()})


def commit(full: Sequence[Holding]) -> None:
    """Rule 1: creating done/<shard> is the commit; if somebody else's stands, it is as good as ours."""
    sealed = [holding.sealed() for holding in full]
    store = full[0]._store
    if len(sealed) == 1:
        store.create(*sealed[0])
    else:
        store.create_all(sealed)
    for holding in full:
        holding.drop()


def release(
    store: Store, shard: str, epoch: int, reason: str, *, died: bool = False, hand: Sequence[str] = ()
) -> None:
    """Only this frees a shard before its TTL (rule 2); the parent writes it for a worker that died."""
    record = {"reason": reason, "died": died, "in_hand": list(hand)}
    store.create(layout.released(shard, epoch), encode(record), durable=False)
