"""Replies of judges, kept by content: the same question to the same judge is paid for once.

One file of JSON lines per judge and model (``results/verdicts``).  A reply is
written as it arrives, before the next request is made, so that a command that
is killed loses only what was in flight.  What is kept is the reply, not what
was read from it: another parser reads the same replies and asks nobody.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

from harness.chat import Chat
from harness.conduct import store
from harness.contracts.backends import Arrived, ChatBackend, Reply
from harness.ledger import Ledger
from harness.records import Json


class Kept(ChatBackend):
    """A backend in front of which every reply is kept.

    identity    what tells this backend from every other one: model, revision, template.
    max_tokens  a budget that stands above the judge's own, for models that think first.
    asked       questions put to the backend; ``found`` had a reply already.
    torn        lines of the file that a killed process left unreadable.
    served      replies by the model that gave them, as the endpoint calls it.
    heard       called with the number of new replies as they arrive; for a progress bar.

    A question is the conversation as it was put (the order of the answers is in it),
    the decoding settings and the draw.  A reply that never came (the backend gave the
    question up) is not kept, so it is asked for again next time.
    """

    def __init__(
        self,
        backend: ChatBackend,
        path: Path,
        identity: Mapping[str, Json],
        *,
        max_tokens: int | None = None,
    ) -> None:
        self.backend = backend
        self.name = backend.name
        self.path = path
        self.identity = dict(identity)
        self.max_tokens = max_tokens
        self.asked = self.found = self.torn = 0
        self.served: Counter[str] = Counter()
        self.heard: Callable[[int], None] | None = None
        self._replies: dict[str, Reply] = {}
        self._read_to = 0

    def metered(self, ledger: Ledger) -> AbstractContextManager[Ledger]:
        """Count what the backend spends inside the block on ``ledger``."""
        metered = getattr(self.backend, "metered", None)
        return nullcontext(ledger) if metered is None else metered(ledger)

    @property
    def notes(self) -> Sequence[str]:
        """Say what was done otherwise than it was told, and who answered where several did."""
        several = [f"answered by {', '.join(sorted(self.served))}"] if len(self.served) > 1 else []
        return [*sorted(getattr(self.backend, "notes", ())), *several]

    @property
    def troubles(self) -> dict[str, int]:
        """Count requests that had to be made again, and lines that could not be read."""
        again = getattr(self.backend, "again", {})
        found = {f"requests made again after {why}": n for why, n in again.items()}
        return found | ({"torn lines of kept replies": self.torn} if self.torn else {})

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
        """Answer from the file what is in it, and ask for the rest, each question once."""
        self._look()
        how: dict[str, Json] = {
            "max_tokens": self.max_tokens or max_tokens,
            "temperature": temperature,
            "logprobs": logprobs,
            "draw": draw,
        }
        places: dict[str, list[int]] = {}
        for position, chat in enumerate(chats):
            places.setdefault(question_key(chat, how), []).append(position)
        new = [key for key in places if key not in self._replies]
        replies = {key: self._replies[key] for key in places if key in self._replies}
        if arrived is not None:
            for key, reply in replies.items():
                for position in places[key]:
                    arrived(position, reply)

        def came(number: int, reply: Reply) -> None:
            key = new[number]
            replies[key] = reply
            if self.heard is not None:
                self.heard(len(replies) - found)
            if reply.outcome != "failed" or reply.served:
                self._keep(key, reply)
            if arrived is not None:
                for position in places[key]:
                    arrived(position, reply)

        found = len(replies)
        self.asked += len(new)
        self.found += found
        if new:
            self.backend.ask([chats[places[key][0]] for key in new], arrived=came, **how)
        self.served.update(reply.served for reply in replies.values() if reply.served)
        return [replies[key] for key in _by_position(places, len(chats))]

    def _look(self) -> None:
        """Read what was written since the last look, by another process too."""
        lines, torn, self._read_to = store.read_shared(self.path, self._read_to)
        self.torn += torn
        for line in lines:
            if "key" in line:
                self._replies[str(line["key"])] = from_json(line["reply"])

    def _keep(self, key: str, reply: Reply) -> None:
        self._replies[key] = reply
        if not self.path.exists():
            store.append_shared(self.path, {"backend": self.name, "identity": self.identity})
        store.append_shared(self.path, {"key": key, "reply": to_json(reply)})


def question_key(chat: Chat, how: Mapping[str, Json]) -> str:
    """Name a question by its content."""
    text = store.canonical({"chat": chat.to_dicts(), "how": dict(how)})
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def to_json(reply: Reply) -> dict[str, Json]:
    """Give the line that is kept: what differs from an empty reply."""
    empty = asdict(Reply(""))
    told = {name: value for name, value in asdict(reply).items() if value != empty[name]}
    return {"text": reply.text} | told


def from_json(line: Mapping[str, Json]) -> Reply:
    """Read a kept reply back."""
    steps = line.get("logprobs")
    return Reply(**{**line, "logprobs": None if steps is None else tuple(steps)})


def _by_position(places: Mapping[str, Sequence[int]], count: int) -> list[str]:
    keys = [""] * count
    for key, positions in places.items():
        for position in positions:
            keys[position] = key
    return keys
