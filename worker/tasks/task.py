"""The contract of a task: what a person writes to teach the worker a new kind of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from worker.errors import ItemError, UsageError
from worker.items import Answer, Failure, Item, Json, Result

if TYPE_CHECKING:
    from worker.engines.choice import Choice
    from worker.jobs.stopping import StopFlag
    from worker.jobs.workspace import Workspace
    from worker.purse import Purse
    from worker.tasks.chapters import Chapter


class Params(BaseModel):
    """Typed knobs of a task; part of the recipe's fingerprint. Unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened at some time of an item, for the report."""

    start_s: float
    end_s: float
    of_s: float
    """how long the item is"""
    title: str
    lines: Sequence[str] = ()
    level: Literal["high", "medium", "low"] = "medium"
    pictures: Sequence[str] = ()
    """of the answer's files"""


P = TypeVar("P", bound=Params)
S = TypeVar("S")


class Task(Generic[P]):
    """What all kinds of work have in common. A task is a MapTask or a JobTask."""

    name: ClassVar[str]
    """as people type it: "media-check" """
    about: ClassVar[str]
    """one line for `worker tasks`"""
    version: ClassVar[str] = "1"
    """of its prompts and rules; part of the recipe, so that old and new answers never mix"""
    params_type: ClassVar[type[Params]] = Params
    takes: ClassVar[Literal["files", "values"]] = "files"
    engines: ClassVar[Mapping[str, str]] = {}
    """those that can answer it, `module:Class` by name, the one that needs nothing first"""
    gpu_is_idle: ClassVar[frozenset[str]] = frozenset()
    """those of its engines that compute on the CPU, or elsewhere"""
    suffixes: ClassVar[frozenset[str]] = frozenset()
    """endings (".mp4") that a folder is searched for; empty: every file"""
    seconds_per_item: ClassVar[float] = 1.0
    """an estimate; it gives the shard size"""
    headlines: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """keys of its summary that stand large in the report: what they are called in English and in Chinese.
    A float is a share, and told in per cent"""
    paretos: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """keys of its summary that are counts, which the report draws from the largest on: what is counted, in
    English and in Chinese"""
    notices: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """by engine: what a reader of its answers must know first, in English and in Chinese"""
    item_limit_s: ClassVar[float] = 600.0
    """for so long a worker may be silent over one item: then what works on it is killed"""

    def __init__(self, params: P, choice: Choice | None = None) -> None:
        self.params = params
        self.purse: Purse | None = None
        """set before open(), where there is a budget: for engines that pay for each answer"""
        self.choice = choice
        """the engine and its model; None: the task uses none, or only its results are looked at"""

    def open(self, device: str) -> None:
        """Load models and warm up, once, before the first claim."""

    def close(self) -> None:
        """Give the device back."""

    def stop(self) -> None:
        """From any thread: answer() shall end soon. What has no answer by then is UNANSWERED."""

    def spent(self) -> Mapping[str, Json]:
        """Since open(), from any thread: what the device did, in numbers that add up over workers; other
        values say what was chosen."""
        return {}

    def together(self, results: Iterable[Result]) -> Iterable[Result]:
        """Results beside each other, in the order of their inputs: what one of them says of another is added
        here, before anything is made of them. As many come out, and one after the other."""
        return results

    def summarise(self, results: Iterable[Result]) -> Mapping[str, Json]:  # noqa: ARG002
        """The task's own keys of summary.json."""
        return {}

    def figures(self, spent: Mapping[str, float], summary: Mapping[str, Json]) -> Mapping[str, Json]:  # noqa: ARG002
        """The task's own keys of performance.json, from what all workers spent together."""
        return dict(spent)

    def exports(self, results: Iterable[Result]) -> Mapping[str, bytes]:  # noqa: ARG002
        """Files of its own, by name, that lie beside final_results.json."""
        return {}

    def row(self, result: Result) -> Mapping[str, str]:
        """One line of the table that people read: column → text. Failed results never come here."""
        assert isinstance(result.outcome, Answer)
        return {key: str(value) for key, value in result.outcome.keys.items()}

    def moments(self, result: Result) -> Sequence[Moment]:  # noqa: ARG002
        """What happened in it and when, for the report. Failed results never come here."""
        return ()

    def chapters(self, result: Result, read: Callable[[str], bytes]) -> Sequence[Chapter]:  # noqa: ARG002
        """What there is to say of one job, for the report. `read`: one of the answer's files. Failed results
        never come here."""
        return ()

    def params_of(self, item: Item) -> P:
        """The recipe's parameters with this item's own over them."""
        if not item.params:
            return self.params
        return self.params.model_validate({**self.params.model_dump(), **item.params})


class MapTask(Task[P], Generic[P, S]):
    """Many independent items, each prepared on a CPU and answered on the device.

    An instance lives in the worker and one in every child process; only the worker's is opened.
    """

    item_memory_gb: ClassVar[float] = 4.0
    """a child may not take more memory than this"""
    at_once: int = 1
    """so many answers it waits for at a time, where somebody else gives them: `answer` is asked for one
    sample, from several threads, and the next is begun as one ends. 1: it computes them, a batch at a time"""
    wanted_batch: int | None = None
    """a person's choice, which is there before open(); None: the task's own"""
    batch: int = 1
    """how many samples `answer` likes to see at once; open() may find out what the device holds"""

    def beside(self, input: str) -> Sequence[str]:  # noqa: ARG002
        """Other inputs of its folder that `prepare` looks for beside this one: from a blob store they are
        fetched too, if they are there. In a folder they lie there anyway."""
        return ()

    def prepare(self, item: Item) -> S | Answer:
        """In a child process: `item.file` → a sample. Bad media dies here; raise ItemError to say how.

        What is an Answer already needs no device, and never comes to `answer`.
        A task of values may leave this out: it is handed the items themselves, and no child is started."""
        return item  # type: ignore[return-value]

    def answer(self, samples: Sequence[S]) -> Sequence[Answer | Failure]:  # noqa: ARG002
        """On the device: one batch, answered in the order given."""
        raise TypeError(f"task {self.name} has no answer()")


class JobTask(Task[P]):
    """One long item: a training, a merge, a quantisation. It goes on where its last checkpoint was made."""

    seconds_per_item: ClassVar[float] = 3600.0
    item_limit_s: ClassVar[float] = 3600.0
    """a job that says nothing for so long (progress, a checkpoint) hangs, and is killed"""
    spans: ClassVar[bool] = False
    """it can use several devices, one in each of several processes that torch.distributed joins: run() is
    called in each of them. That of rank 0 has the true workspace; what the others return is not looked at"""
    of_billions: ClassVar[bool] = False
    """of parameters: where nobody says on what, it takes the only GPU"""
    keep: ClassVar[int] = 2
    """how many checkpoints are kept, besides the best one and the one it went on from; once it is answered,
    the newest and the best. 0: one, and none once it is answered"""

    def run(self, item: Item, workspace: Workspace, stop: StopFlag) -> Answer | Failure:  # noqa: ARG002
        """All of it. When `stop` is set: make a checkpoint and raise Stopped; the next worker goes on there.

        What it reports and publishes must depend on the item and its parameters alone."""
        raise TypeError(f"task {self.name} has no run()")


@contextmanager
def models_of_the_item() -> Iterator[None]:
    """What is wrong with the models that a job names is its own failure: it ends no worker that has others to
    do."""
    try:
        yield
    except UsageError as error:
        raise ItemError("no-model", str(error)) from None


class Stopped(Exception):
    """A job's word that it was told to stop, and has saved what it could."""
