"""Plain, frozen, JSON-able records: what is asked, what was answered, how it was scored.

Nothing here knows a model or a file; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from harness.chat import Chat

Json = Any  # a value json.dumps accepts
Stop = Literal["running", "eos", "string", "length"]
Outcome = Literal["ok", "tie", "unparsed", "failed", "refused"]


@dataclass(frozen=True)
class Prompt:
    """One benchmark item.

    id         stable within its benchmark; part of every random draw's key.
    chat       the conversation up to where the assistant speaks.
    turns      further user turns, asked after the answers (MT-Bench).
    reference  the set's own answer, where it has one.
    cluster    the unit of resampling: prompts that share it are not independent.
    category   the set's own grouping, where it has one.
    further    the set's own answers to ``turns``, where it has them.
    """

    id: str
    chat: Chat
    turns: tuple[str, ...] = ()
    reference: str | None = None
    cluster: str = ""
    category: str | None = None
    further: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preference:
    """A labelled pair: the same conversation, a better and a worse answer."""

    id: str
    prompt: Chat
    chosen: str
    rejected: str
    cluster: str = ""


@dataclass(frozen=True)
class Response:
    """What a method answered to one prompt in one turn.

    text    the answer, cut at a stop string, special tokens left out.
    tokens  the ids as drawn, the end token included.
    stop    why the answer ended.
    cost    tokens pushed through each model for this answer, by model.
    """

    prompt: str
    turn: int
    text: str
    tokens: tuple[int, ...]
    stop: Stop
    cost: Mapping[str, int] = field(default_factory=dict)
    candidates: int = 1

    @property
    def key(self) -> tuple[str, int]:
        """Give what identifies the record within its run."""
        return (self.prompt, self.turn)

    def to_json(self) -> dict[str, Json]:
        """Give the line that is stored."""
        return asdict(self) | {"tokens": list(self.tokens)}

    @classmethod
    def from_json(cls, line: Mapping[str, Json]) -> Response:
        """Read a stored line back."""
        return cls(**{**line, "tokens": tuple(line["tokens"])})


@dataclass(frozen=True)
class Score:
    """One scorer's reading of one response; never an average.

    value    None unless ``outcome`` is "ok" or "tie".
    outcome  "unparsed": there is a text but no verdict in it; "failed": there is
             no text; "refused": the judge declined.  None of these is a tie or a
             zero, and none is dropped: tables count them.
    parts    named sub-scores (a world's traits, a judge's two orders).
    text     the judge's words, whole.
    """

    prompt: str
    turn: int
    value: float | None
    outcome: Outcome = "ok"
    parts: Mapping[str, float] = field(default_factory=dict)
    text: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Give what identifies the record within its file."""
        return (self.prompt, self.turn)

    def to_json(self) -> dict[str, Json]:
        """Give the line that is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, line: Mapping[str, Json]) -> Score:
        """Read a stored line back."""
        return cls(**line)
