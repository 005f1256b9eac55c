"""Where rank 0's wishes of its workspace are granted, with the true one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from worker.jobs.workspace import Workspace
from worker.ranks.channel import Channel
from worker.ranks.words import (
    Alive,
    Best,
    Done,
    Found,
    Nothing,
    NotSaved,
    Place,
    Progress,
    Publish,
    Save,
    Saved,
    Settle,
    Wanted,
    Wish,
    Word,
)


class Desk:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._saving: AbstractContextManager[Path] | None = None

    def hear(self, word: Word, line: Channel) -> None:
        answer = self._answer(word, line)
        if answer:
            line.send(answer)

    def close(self) -> None:
        """A checkpoint that nobody finishes is none."""
        saving, self._saving = self._saving, None
        if saving:
            gone = UnfinishedCheckpoint()
            try:
                saving.__exit__(UnfinishedCheckpoint, gone, None)
            except UnfinishedCheckpoint:
                pass

    def _answer(self, word: Word, line: Channel) -> Word | None:
        if isinstance(word, Progress):
            self._workspace.progress(word.step, word.steps, **word.figures)
        elif isinstance(word, Alive):
            self._workspace.alive()
        elif isinstance(word, Save):
            self._saving = self._workspace.checkpoint(word.step, word.score)
            return Place(str(self._saving.__enter__()))
        elif isinstance(word, Saved) and self._saving:
            saving, self._saving = self._saving, None
            saving.__exit__(None, None, None)
            return Done()
        elif isinstance(word, NotSaved):
            self.close()
        elif isinstance(word, Best):
            best = self._workspace.best(lambda name: _is_wanted(name, line))
            return Found(best.step, best.score, str(best.folder)) if best else Nothing()
        elif isinstance(word, Settle):
            self._workspace.settle()
            return Done()
        elif isinstance(word, Publish):
            self._workspace.publish(word.name, Path(word.file))
            return Done()
        return None


class UnfinishedCheckpoint(Exception):
    """Rank 0 is gone, or gave it up."""


def _is_wanted(name: str, line: Channel) -> bool:
    line.send(Wanted(name))
    answer = line.receive()
    return isinstance(answer, Wish) and answer.wanted
