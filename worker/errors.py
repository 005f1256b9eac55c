"""Errors that a person reads: one line that says what is wrong, where, and what to do."""

from __future__ import annotations


class WorkerError(Exception):
    """Something a person has to know; `exit_code` is what the command ends with."""

    exit_code = 2


class UsageError(WorkerError):
    """A wrong argument or a wrong file."""


class MachineError(WorkerError):
    """This machine does not fit, or is ill."""

    exit_code = 3


class UnfitError(MachineError):
    """This machine does not fit, and will not in a moment: to try again is no use."""


class UnfinishedError(WorkerError):
    """Work is left; nothing is lost; run the same command again."""

    exit_code = 75


class StoreDeniedError(WorkerError):
    """The store refuses us: wrong credentials, a read-only folder, no such container."""


class StoreFullError(MachineError):
    """The store has no room left."""


class StoreAwayError(UnfinishedError):
    """The store did not answer for longer than we are patient."""


class EndpointAwayError(UnfinishedError):
    """A model on somebody else's server did not answer for longer than we are patient."""


class ItemError(Exception):
    """What a task raises when one item cannot be answered: the item fails, the others go on."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
