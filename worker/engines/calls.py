"""Questions on their way to an endpoint: many at once, tried again where that may help, never for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from worker.blame import failure_of
from worker.engines.completion import REFUSED, Completion, Refusal, is_page, read, refusal
from worker.engines.dialect import Dialect, Question, question
from worker.engines.endpoint import Endpoint
from worker.engines.engine import Reply, Request
from worker.engines.gate import exhausted, retry_after
from worker.engines.spending import Bill, Spent, Till
from worker.engines.waiting import StoppedError, Waiting
from worker.errors import MachineError, UnfinishedError, WorkerError
from worker.items import UNANSWERED, Failure

TRIES = 6
"""of one question, while others are answered"""
LOST = 3
"""of them are used up by one that may have to be paid for"""
CONNECT_S = 10.0
DOUBT_S = 20.0
"""for so long the small question may take when it is asked whether all is well"""
SHORT_S = 1.0
"""nobody asks, after a "too many" that does not say for how long"""
BACKOFF = wait_random_exponential(multiplier=1.0, max=20.0)


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
    """Lives in one event loop."""

    def __init__(
        self, endpoint: Endpoint, small: Request, *, at_once: int, limit_s: float, till: Till
    ) -> None:
        self.dialect = Dialect()
        """the last that was understood"""
        self.till = till
        self._spent = Spent()
        self._endpoint = endpoint
        self._small = question(small)
        self._limit = limit_s
        self._slots = asyncio.Semaphore(at_once)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(limit_s, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=at_once + 1, max_keepalive_connections=at_once + 1),
        )
        self._waiting = Waiting(endpoint)
        self._ill: MachineError | None = None
        """why nothing more is asked"""
        self._doubt: asyncio.Task[None] | None = None
        """the small question, asked for all who are in doubt"""
        self._largest = 0
        """tokens of one question with its answer"""

    async def close(self) -> None:
        await self._client.aclose()

    def stop(self) -> None:
        """Nothing more is asked; what was sent may still be answered."""
        self._waiting.stop()

    @property
    def spent(self) -> Spent:
        self._spent.waited_s = self._waiting.seconds
        return self._spent

    async def answer(self, requests: Sequence[Request]) -> list[Reply | Failure]:
        """In the order given. What was paid for is kept: trouble is raised only where nothing is answered."""
        ends = self._waiting.deadline()
        asked = [self._prepared(request, ends) for request in requests]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        answered: list[Reply | Failure] = []
        trouble: list[WorkerError] = []
        for outcome in outcomes:
            if isinstance(outcome, WorkerError):
                trouble.append(outcome)
                is_over = isinstance(outcome, UnfinishedError)
                answered.append(UNANSWERED if is_over else Failure("device", str(outcome)))
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
        return await self._ask(self._small, self._waiting.deadline())

    async def _prepared(self, request: Request, ends: float) -> Reply | Failure:
        async with self._slots:
            return await self._ask(await asyncio.to_thread(question, request), ends)

    async def _ask(self, asked: Question, ends: float) -> Reply | Failure:
        """In the dialect that the endpoint understands, found out by its refusals."""
        dialect = self.dialect
        while True:
            try:
                outcome = await self._persist(asked, dialect, ends)
            except StoppedError:
                return UNANSWERED
            except Rejected as error:
                said = error.refusal
                if said.is_filter:
                    return Failure(REFUSED, self._endpoint.says(said.short))
                if (other := dialect.after(said.text)) is None:
                    return Failure("rejected", self._endpoint.says(said.short))
                dialect = other
            else:
                if isinstance(outcome, Reply):
                    self.dialect = dialect
                return outcome

    async def _persist(self, asked: Question, dialect: Dialect, ends: float) -> Reply | Failure:
        """Until it is answered, or it shows whose fault it is that it is not."""
        begun = time.monotonic()
        costs = 0
        body = dialect.body(self._endpoint.model, asked)

        def is_to_blame() -> bool:
            """While nobody else is answered either, it is not this question's fault."""
            return costs >= TRIES and self._waiting.was_heard_since(begun)

        async def count(state: RetryCallState) -> None:
            nonlocal costs
            if isinstance(error := _error(state), Again):
                costs += error.costs
                self._waiting.failed(str(error))
                if costs >= TRIES and not is_to_blame() and asked is not self._small:
                    await self._is_well()

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Again),
            wait=_pause,
            after=count,
            stop=lambda _: is_to_blame() or self._waiting.is_over(ends),
            before_sleep=self._again,
            sleep=self._waiting.wait,
            reraise=True,
        )
        try:
            return await retrying(self._call, body, asked, ends)
        except Again as error:
            if is_to_blame():
                return self._given_up(str(error), begun)
            if self._waiting.was_heard_since(begun):
                return Failure("device", self._endpoint.says(str(error)))
            raise self._waiting.away(str(error)) from None

    def _given_up(self, why: str, begun: float) -> Failure:
        """A small question that is answered puts the blame on this one, once work was ever answered."""
        if self._waiting.was_heard_of_work_since(begun):
            return Failure("no-answer", self._endpoint.says(f"{why}; others were answered meanwhile"))
        if self._waiting.was_heard_of_work_since(0.0):
            return Failure(
                "no-answer", self._endpoint.says(f"{why}; a small question was answered meanwhile")
            )
        return Failure(
            "device",
            self._endpoint.says(
                f"{why}; it answers a small question, and has answered none of the work yet: "
                "see to its memory, and to its limits of size and time"
            ),
        )

    def _again(self, state: RetryCallState) -> None:  # noqa: ARG002
        self._spent.retries += 1

    async def _is_well(self) -> None:
        """Whether it is this question, or all of them: heard, if the small one is answered."""
        if self._doubt is None or self._doubt.done():
            self._doubt = asyncio.create_task(self._ask_small_now())
        await self._doubt

    async def _ask_small_now(self) -> None:
        try:
            async with asyncio.timeout(DOUBT_S):
                await self._ask(self._small, time.monotonic())
        except TimeoutError:
            self._spent.perhaps_paid += 1
        except UnfinishedError:
            pass  # it is away, or we are stopped

    async def _call(self, body: bytes, asked: Question, ends: float) -> Reply | Failure:
        """One of them; Again, Rejected or what ails the machine otherwise."""
        async with self.till.bill(asked, small=asked is self._small) as bill:
            await self._waiting.until_open(ends)
            if self._ill:
                raise self._ill
            return await self._send(body, asked, bill)

    async def _send(self, body: bytes, asked: Question, bill: Bill) -> Reply | Failure:
        self._spent.calls += 1
        bill.paid = None
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
            bill.paid = 0.0
            raise Again(f"no connection: {_line(error)}", costs=1) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise self._lost(f"the connection broke: {_line(error)}") from None
        if response.status_code != 200:
            if not self._refusal(response).perhaps_paid:
                bill.paid = 0.0
            raise self._refused(response, asked)
        if wait := exhausted(response.headers, self._largest):
            self._waiting.shut(wait)
        completion = read(response.content)
        if completion is None:
            if asked is self._small and is_page(response.content) and not self._waiting.was_heard_since(0.0):
                bill.paid = 0.0
                raise self._refused(response, asked)
            raise self._lost(f"no answer that can be read: {self._refusal(response).short}")
        self._waiting.heard(of_work=asked is not self._small)
        bill.paid = self._count(completion, asked)
        return completion.outcome(self._endpoint.hide)

    def _refused(self, response: httpx.Response, asked: Question) -> Exception:
        said = self._refusal(response)
        if said.is_about_us:
            self._ill = MachineError(self._endpoint.denies(said))
            return self._ill
        if not said.passes:
            self._waiting.heard(of_work=asked is not self._small)
            return Rejected(said)
        if said.status in (429, 503):
            wait = retry_after(response.headers) or exhausted(response.headers, self._largest)
            if wait or said.status == 429:
                self._waiting.shut(wait or SHORT_S)
                return Again(said.short, costs=0, told=bool(wait))
        self._spent.perhaps_paid += said.perhaps_paid
        return Again(said.short, costs=LOST if said.perhaps_paid else 1)

    def _refusal(self, response: httpx.Response) -> Refusal:
        return refusal(response.status_code, response.content, self._endpoint.clean)

    def _lost(self, why: str) -> Again:
        """It was sent, and what became of it nobody knows."""
        self._spent.perhaps_paid += 1
        return Again(why, costs=LOST)

    def _count(self, completion: Completion, asked: Question) -> float | None:
        """What it cost."""
        usage = completion.usage
        if usage is None or usage.prompt_tokens is None or usage.completion_tokens is None:
            self._spent.unmetered += 1
            return None
        self._spent.prompt_tokens += usage.prompt_tokens
        self._spent.generated_tokens += usage.completion_tokens
        self._largest = max(self._largest, usage.prompt_tokens + usage.completion_tokens)
        if asked is not self._small:
            self.till.learn(asked, usage.prompt_tokens)
        return self.till.cost(usage.prompt_tokens, usage.completion_tokens)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _pause(state: RetryCallState) -> float:
    error = _error(state)
    return 0.0 if isinstance(error, Again) and error.told else BACKOFF(state)


def _line(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()
