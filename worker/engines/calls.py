"""Questions on their way to an endpoint: many at once, tried again where that may help, never for ever."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from worker.blame import failure_of
from worker.engines.completion import REFUSED, Completion, Refusal, read, refusal
from worker.engines.dialect import Dialect, Question, question
from worker.engines.endpoint import Endpoint
from worker.engines.engine import Reply, Request
from worker.engines.gate import Gate, exhausted, retry_after
from worker.engines.spending import Spent
from worker.errors import EndpointAwayError, MachineError, UnfinishedError, WorkerError
from worker.items import Failure

PATIENCE_S = 200.0
"""for so long an endpoint may say nothing: a batch that is asked twice stays below what counts as hanging"""
TRIES = 4
"""of one question, while others are answered; one that may be paid for each time has half as many"""
CONNECT_S = 10.0
TELL_EVERY_S = 30.0
SHORT_S = 1.0
"""nobody asks, after a "too many" that does not say for how long"""
_backoff = wait_random_exponential(multiplier=0.5, max=20.0)

log = logging.getLogger(__name__)


class Again(Exception):
    """The same question may be answered later."""

    def __init__(self, why: str, *, costs: int, told: bool = False) -> None:
        super().__init__(why)
        self.costs = costs
        """of its TRIES"""
        self.told = told
        """how long to wait; the gate knows"""


class Rejected(Exception):
    """The endpoint does not take this question, as it stands."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.short)
        self.refusal = refusal


class Calls:
    """Lives in one event loop. All that is known of the endpoint is known to all calls."""

    def __init__(
        self,
        endpoint: Endpoint,
        small: Request,
        *,
        at_once: int,
        limit_s: float,
    ) -> None:
        self.spent = Spent()
        self.dialect = Dialect()
        """the last that was understood"""
        self._endpoint = endpoint
        self._small = question(small)
        self._limit = limit_s
        self._patience = PATIENCE_S
        self._slots = asyncio.Semaphore(at_once)
        self._gate = Gate()
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(limit_s, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=at_once + 1, max_keepalive_connections=at_once + 1),
        )
        self._stopped = asyncio.Event()
        self._ill: MachineError | None = None
        """why nothing more is asked"""
        self._heard = 0.0
        """when it last settled a question"""
        self._silent: float | None = None
        """since when it does not, though it was asked"""
        self._largest = 0
        """tokens of one question with its answer"""
        self._doubt: asyncio.Task[None] | None = None
        """the small question, asked for all who are in doubt"""
        self._trouble = ""
        """the last"""
        self._tell_at = 0.0

    async def close(self) -> None:
        await self._client.aclose()

    def stop(self) -> None:
        """Nothing more is asked; what was sent may still be answered."""
        self._stopped.set()

    async def answer(self, requests: Sequence[Request]) -> list[Reply | Failure]:
        """In the order given. What was paid for is kept: trouble is raised only where nothing is answered."""
        ends = time.monotonic() + self._patience
        asked = [self._prepared(request, ends) for request in requests]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        answered: list[Reply | Failure] = []
        trouble: list[WorkerError] = []
        for outcome in outcomes:
            if isinstance(outcome, WorkerError):
                trouble.append(outcome)
                answered.append(Failure("device", str(outcome)))
            elif isinstance(outcome, Exception):
                answered.append(failure_of(outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                answered.append(outcome)
        if trouble and len(trouble) == len(outcomes):
            raise trouble[0]
        return answered

    async def ask_small(self) -> Reply | Failure:
        """The least question that has all that the large ones have."""
        return await self._ask(self._small, time.monotonic() + self._patience)

    async def _prepared(self, request: Request, ends: float) -> Reply | Failure:
        async with self._slots:
            return await self._ask(await asyncio.to_thread(question, request), ends)

    async def _ask(self, asked: Question, ends: float) -> Reply | Failure:
        """In the dialect that the endpoint understands, found out by its refusals."""
        dialect = self.dialect
        while True:
            try:
                outcome = await self._persist(asked, dialect, ends)
            except Rejected as error:
                said = error.refusal
                if said.is_filter:
                    return Failure(REFUSED, self._said(said.short))
                if (other := dialect.after(said.text)) is None:
                    return Failure("rejected", self._said(said.short))
                dialect = other
            else:
                if isinstance(outcome, Reply):
                    self.dialect = dialect
                return outcome

    async def _persist(self, asked: Question, dialect: Dialect, ends: float) -> Reply | Failure:
        begun = time.monotonic()
        costs = 0
        body = dialect.body(self._endpoint.model, asked)

        async def count(state: RetryCallState) -> None:
            nonlocal costs
            if isinstance(error := _error(state), Again):
                costs += error.costs
                self._silent = self._silent or time.monotonic()
                self._trouble = f"{error}; "
                self._tell(str(error))
                if costs >= TRIES and self._heard < begun and asked is not self._small:
                    await self._is_well()

        def is_enough(state: RetryCallState) -> bool:  # noqa: ARG001
            # while nobody is answered, it is not this question's fault
            return (costs >= TRIES and self._heard > begun) or time.monotonic() >= self._ends(ends)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Again),
            wait=_pause,
            after=count,
            stop=is_enough,
            before_sleep=self._again,
            sleep=self._wait,
            reraise=True,
        )
        try:
            return await retrying(self._call, body, ends)
        except Again as error:
            if costs >= TRIES and self._heard > begun:
                return Failure("no-answer", self._said(f"{error}; others were answered meanwhile"))
            raise self._away(str(error)) from None

    async def _is_well(self) -> None:
        """Whether it is this question, or all of them: heard, if the small one is answered."""
        if self._doubt is None or self._doubt.done():
            self._doubt = asyncio.create_task(self._ask_small_now())
        await self._doubt

    async def _ask_small_now(self) -> None:
        try:
            async with asyncio.timeout(2 * CONNECT_S):
                await self._ask(self._small, time.monotonic())
        except TimeoutError:
            self.spent.perhaps_paid += 1
        except UnfinishedError:
            pass  # it is away, or we are stopped

    async def _call(self, body: bytes, ends: float) -> Reply | Failure:
        """One of them; Again, Rejected or what ails the machine otherwise."""
        await self._pass_the_gate(ends)
        if self._ill:
            raise self._ill
        self.spent.calls += 1
        try:
            async with asyncio.timeout(self._limit):
                response = await self._client.post(
                    self._endpoint.url,
                    content=body,
                    headers={"Content-Type": "application/json", **self._endpoint.headers},
                )
        except TimeoutError:
            raise self._lost(f"no answer within {self._limit:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Again(f"no connection: {_line(error)}", costs=1) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise self._lost(f"the connection broke: {_line(error)}") from None
        if response.status_code != 200:
            raise self._refused(response)
        if wait := exhausted(response.headers, self._largest):
            self._shut(wait)
        completion = read(response.content)
        if completion is None:
            raise self._lost(f"no answer that can be read: {self._refusal(response).short}")
        self._count(completion)
        self._settled()
        return completion.outcome(self._endpoint.hide)

    def _refused(self, response: httpx.Response) -> Exception:
        said = self._refusal(response)
        if said.is_about_us:
            self._ill = MachineError(self._endpoint.denies(said))
            return self._ill
        if not said.passes:
            self._settled()
            return Rejected(said)
        if said.status in (429, 503):
            wait = retry_after(response.headers) or exhausted(response.headers, self._largest)
            if wait or said.status == 429:
                self._shut(wait or SHORT_S)
                return Again(said.short, costs=0, told=bool(wait))
        self.spent.perhaps_paid += said.perhaps_paid
        return Again(said.short, costs=TRIES // 2 if said.perhaps_paid else 1)

    def _refusal(self, response: httpx.Response) -> Refusal:
        return refusal(response.status_code, response.content, self._endpoint.hide)

    def _lost(self, why: str) -> Again:
        """It was sent, and what became of it nobody knows."""
        self.spent.perhaps_paid += 1
        return Again(why, costs=TRIES // 2)

    def _settled(self) -> None:
        self._heard, self._silent = time.monotonic(), None

    def _count(self, completion: Completion) -> None:
        usage = completion.usage
        if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            self.spent.unmetered += 1
            return
        self.spent.prompt_tokens += usage.prompt_tokens
        self.spent.generated_tokens += usage.completion_tokens
        self._largest = max(self._largest, usage.prompt_tokens + usage.completion_tokens)

    # waiting

    def _ends(self, ends: float) -> float:
        """Who is not heard for long is not given as long again by the next question."""
        return ends if self._silent is None else min(ends, self._silent + self._patience)

    async def _pass_the_gate(self, ends: float) -> None:
        while (left := self._gate.left) and not self._stopped.is_set():
            if time.monotonic() + left > self._ends(ends):
                raise self._away(f"{self._trouble}it wants us to wait for {left:.0f} s")
            await self._wait(left + random.uniform(0, min(1.0, left / 10)))  # not all in one moment
        if self._stopped.is_set():
            raise UnfinishedError("stopped before this was asked")

    def _again(self, state: RetryCallState) -> None:  # noqa: ARG002
        self.spent.retries += 1

    def _shut(self, seconds: float) -> None:
        self._gate.shut(seconds)
        self._tell(f"rate limit, nothing is asked for {seconds:.3g} s")

    async def _wait(self, seconds: float) -> None:
        """Or until the stop."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass
        self.spent.waited_s += time.monotonic() - begun

    # saying

    def _away(self, why: str) -> EndpointAwayError:
        return EndpointAwayError(
            f"endpoint away ({self._said(why)}); nothing is lost, run the same command again"
        )

    def _said(self, what: str) -> str:
        return f"{self._endpoint.shown}: {self._endpoint.clean(what)}"

    def _tell(self, what: str) -> None:
        if (now := time.monotonic()) >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            log.warning("%s; trying again for up to %g s", self._said(what), self._patience)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _pause(state: RetryCallState) -> float:
    error = _error(state)
    return 0.0 if isinstance(error, Again) and error.told else _backoff(state)


def _line(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()
