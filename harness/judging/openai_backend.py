"""Any endpoint that speaks OpenAI's chat protocol, asked many questions at a time.

A request that fails for a passing reason (429, 5xx, a time-out, a lost connection)
is made again, later and later, as late as the endpoint asks; after the last try
that one question has failed, and its reply says so.  What would fail for every
question (no key, no such model, nobody there) stops everything with one line.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl

from harness.chat import Chat
from harness.contracts.backends import Arrived, ChatBackend, Reply
from harness.errors import PlumblineError
from harness.judging.endpoint import Endpoint
from harness.ledger import Ledger, Metered

if TYPE_CHECKING:
    from openai import AsyncOpenAI

LONGEST_WAIT = 300.0  # seconds; an endpoint that asks for more has given the question up
IN_A_ROW = 20  # questions given up one after another before the endpoint is tried with
PROBE = "Please say yes."
ROLE = "judge"


@dataclass(frozen=True)
class Patience:
    """How long a question is tried.

    timeout   seconds one request may take.
    tries     requests a question gets.
    pause     seconds before the second request; doubled each time, a quarter of it chance.
    """

    timeout: float = 120.0
    tries: int = 8
    pause: float = 0.5

    def wait(self, failed: int) -> float:
        """Give the seconds to wait after so many failed requests."""
        return min(60.0, self.pause * 2.0 ** (failed - 1)) * random.uniform(0.75, 1.25)


@dataclass(frozen=True)
class Prices:
    """Dollars per million tokens, of the question and of the reply."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0

    def of(self, reply: Reply) -> float:
        """Give what a reply cost."""
        return (reply.tokens_in * self.tokens_in + reply.tokens_out * self.tokens_out) / 1e6


class OpenAIBackend(Metered, ChatBackend):
    """A model behind an endpoint.

    concurrency  requests in flight; a reply is handed over before the next request.
    notes        what is asked otherwise than it was told, by reason.
    again        requests made again, by reason.
    """

    def __init__(
        self,
        model: str,
        where: Endpoint,
        *,
        concurrency: int = 8,
        patience: Patience | None = None,
        prices: Prices | None = None,
    ) -> None:
        self.name = model
        self.where = where
        self.concurrency = concurrency
        self.patience = patience or Patience()
        self.prices = prices
        self.notes: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.ledger = Ledger()
        self._quirks: set[str] = set()
        self._worked = False
        self._lost = 0  # questions given up since one was answered
        self._not_before = 0.0

    def ask(
        self,
        chats: Sequence[Chat],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        logprobs: int = 0,
        draw: int = 0,
        arrived: Arrived | None = None,
    ) -> Sequence[Reply]:
        """Answer each conversation; the first alone, so that what is wrong shows at once."""
        if not chats:
            return []
        from harness.judging.completions import parameters

        replies: list[Reply | None] = [None] * len(chats)
        waiting = iter(enumerate(chats))

        async def work(client: AsyncOpenAI, most: int | None = None) -> None:
            for count, (position, chat) in enumerate(waiting, start=1):
                asked = parameters(chat, max_tokens, temperature, logprobs)
                replies[position] = reply = await self._one(client, asked)
                self._spent(reply)
                if arrived is not None:
                    arrived(position, reply)
                await self._patient(client, reply)
                if count == most:
                    return

        async def everyone() -> None:
            from openai import AsyncOpenAI, Timeout

            patient = Timeout(self.patience.timeout, connect=min(10.0, self.patience.timeout))
            async with AsyncOpenAI(
                api_key=self.where.key or "none",
                base_url=self.where.url,
                timeout=patient,
                max_retries=0,
                default_query=dict(parse_qsl(self.where.query)),
            ) as client:
                if not self._worked:
                    await work(client, most=1)
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.concurrency, len(chats))):
                        group.create_task(work(client))
                if not self._worked:
                    await self._present(client, replies[-1])

        _run(everyone)
        return [reply for reply in replies if reply is not None]

    async def _one(self, client: AsyncOpenAI, asked: dict[str, Any]) -> Reply:
        """Ask one question until there is a reply or no patience."""
        from openai import OpenAIError

        from harness.judging.completions import reply_of, reworded
        from harness.judging.faults import QUIRKS, Unreadable, read

        failed = 0
        while True:
            known = frozenset(self._quirks)
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            try:
                body = reworded(asked, known)
                reply = reply_of(await client.chat.completions.create(model=self.name, **body))
            except (OpenAIError, Unreadable, OSError, ValueError) as error:
                fault = read(error)
            else:
                self._worked = True
                return reply
            line = self.where.hide(fault.line)
            if fault.what == "otherwise":
                if fault.quirk in known:
                    return Reply("", "failed", line)
                if fault.quirk not in self._quirks:
                    self._quirks.add(fault.quirk)
                    self.notes[QUIRKS[fault.quirk]] += 1
                continue
            if fault.what == "refused":
                self._worked = True
                return Reply("", "refused", line)
            if fault.what == "stop" and not (self._worked and line[:3] in ("403", "404")):
                self._stop(line)
            if fault.what in ("failed", "stop"):
                return Reply("", "failed", line)
            failed += 1
            if fault.what == "unreachable" and not self._worked and failed >= 3:
                self._stop(line)
            if failed >= self.patience.tries or (fault.after or 0.0) > LONGEST_WAIT:
                return Reply("", "failed", f"{line} (after {failed} requests)")
            self.again[_kind(line)] += 1
            if fault.after is not None:
                # A limit is the endpoint's, not this question's: everybody waits.
                self._not_before = max(self._not_before, time.monotonic() + fault.after)
            await asyncio.sleep(max(fault.after or 0.0, self.patience.wait(failed)))

    def _spent(self, reply: Reply) -> None:
        tokens = reply.tokens_in + reply.tokens_out
        if tokens:
            self.ledger.count(ROLE, tokens)
            if self.prices is not None:
                self.ledger.pay(ROLE, self.prices.of(reply))

    async def _patient(self, client: AsyncOpenAI, reply: Reply) -> None:
        """After many questions lost in a row, see whether anybody is still there."""
        lost = reply.outcome == "failed" and not reply.served
        self._lost = self._lost + 1 if lost else 0
        if self._lost < IN_A_ROW:
            return
        self._lost = 0
        await self._present(client, reply)

    async def _present(self, client: AsyncOpenAI, last: Reply | None) -> None:
        """Stop where not even the simplest question is answered."""
        from harness.judging.completions import parameters

        probe = await self._one(client, parameters(Chat.of(PROBE), 16, 0.0, 0))
        self._spent(probe)
        if probe.outcome == "failed" and not probe.served:
            said = probe.error if last is None else last.error
            self._stop(f"gave no reply to several questions; the last said {said}")

    def _stop(self, line: str) -> NoReturn:
        hint = {
            "401": "; the key is wrong, or none is set",
            "404": f"; is there a model {self.name!r}, and does the URL end as it should (…/v1)?",
        }.get(line[:3], "")
        raise PlumblineError(
            f"judge {self.name} at {self.where.shown} (from {self.where.source}): {line}{hint}"
        )


def _kind(line: str) -> str:
    return line[:3] if line[:3].isdigit() else line.partition(":")[0]


def _run(main: Callable[[], Any]) -> None:
    """Run a coroutine to its end, from a notebook too; the first fault comes out alone."""

    def alone() -> None:
        try:
            asyncio.run(main())
        except ExceptionGroup as several:
            raise next(_leaves(several)) from None

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        alone()
        return
    caught: list[BaseException] = []

    def inside() -> None:
        try:
            alone()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
