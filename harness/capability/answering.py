"""Answers to lm-evaluation-harness's generation requests: how they are drawn, where they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.engine.sampling import Sampling
from harness.errors import PlumblineError
from harness.records import Json

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
READ = (*LENGTHS, "until", "do_sample", "temperature", "top_k", "top_p")
# What other settings must be, for there to be nothing to do about them.
IDLE: dict[str, tuple[Json, ...]] = {
    "num_beams": (1,),
    "repetition_penalty": (1, 1.0),
    "num_return_sequences": (1,),
    "use_cache": (True, False),
    "early_stopping": (False, True),
    "min_p": (0, 0.0),
    "typical_p": (1, 1.0),
}
DEFAULT_LENGTH = 256


@dataclass(frozen=True)
class Manner:
    """How one request is answered."""

    sampling: Sampling
    until: tuple[str, ...]


def manner(given: Mapping[str, Json]) -> Manner:
    """Read a task's ``generation_kwargs``; greedy unless it samples.

    Nothing the task does not name is applied (no top-k of 50 as the library's default has).
    Raises PlumblineError for a setting that would change the answer and is not offered.
    """
    for name, value in given.items():
        if name not in READ and value is not None and value not in IDLE.get(name, ()):
            raise PlumblineError(
                f"generation_kwargs: {name} = {value!r} is not offered; "
                f"accepted are {', '.join(READ)}"
            )
    length = next((given[n] for n in LENGTHS if given.get(n) is not None), DEFAULT_LENGTH)
    temperature = float(given.get("temperature") or 0.0)
    samples = given.get("do_sample")
    if samples is None:
        samples = temperature > 0
    draws: dict[str, Json] = {"temperature": 0.0}
    if samples:
        draws = {
            "temperature": temperature or 1.0,
            "top_k": int(given.get("top_k") or 0),
            "top_p": float(given.get("top_p") or 1.0),
        }
    return Manner(Sampling(max_new_tokens=int(length), **draws), _strings(given.get("until")))


def cut(text: str, until: Sequence[str]) -> str:
    """Cut a text before the first of the stop strings in it."""
    found = [at for at in map(text.find, filter(None, until)) if at >= 0]
    return text[: min(found)] if found else text


def _strings(until: Json) -> tuple[str, ...]:
    return (until,) if isinstance(until, str) else tuple(until or ())
