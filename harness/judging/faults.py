"""What a failed request means: try again, ask differently, give this question up, or stop.

Endpoints say the same things in many words; all of the reading is done here.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import openai

What = Literal["again", "otherwise", "refused", "failed", "unreachable", "stop"]

# Parameters an endpoint may not know -> what is asked instead.
QUIRKS = {
    "max_tokens": "max_completion_tokens is sent for max_tokens",
    "max_completion_tokens": "max_tokens is sent for max_completion_tokens",
    "temperature": "the endpoint takes no temperature: its own is used",
    "logprobs": "the endpoint gives no log-probabilities",
    "system": "the model takes no system turn: it is put before the question",
}
_REFUSALS = ("content_filter", "content management policy", "responsibleai", "moderation",
             "content policy", "safety system", "usage policies", "flagged")  # fmt: skip
_FLATLY = ("unsupported", "not supported", "does not support", "not allowed", "unknown",
           "unrecognized", "unexpected", "extra", "not permitted", "only the default", "deprecated",
           "must be", "invalid", "not available", "not enabled", "cannot")  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One failed request, read.

    what    again: the same request may work later; otherwise: without ``quirk``;
            refused, failed: this question is lost; unreachable: nobody is there;
            stop: every question would fail like this.
    line    what the endpoint said, one line.
    after   seconds the endpoint asks to wait; None where it does not say.
    quirk   the parameter to leave out or replace.
    """

    what: What
    line: str
    after: float | None = None
    quirk: str = ""


class Unreadable(Exception):
    """The endpoint answered 200 and what it sent is no chat completion."""


def read(error: Exception) -> Fault:
    """Say what an exception of a request means."""
    if isinstance(error, openai.APITimeoutError):
        if "Connect" in type(error.__cause__).__name__:
            return Fault("unreachable", "no connection in time")
        return Fault("again", "no answer in time")
    if isinstance(error, openai.APIStatusError):
        return _status(error)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        said = " ".join(str(cause).split()) or type(cause).__name__
        if "Connect" in type(cause).__name__:
            return Fault("unreachable", said)
        return Fault("again", f"connection lost: {said}")
    return Fault("again", f"unreadable answer: {' '.join(str(error).split())[:120]}")


def _status(error: openai.APIStatusError) -> Fault:
    code, words = _said(error)
    line = f"{error.status_code}: {words}"
    low = f"{code} {words}".lower()
    status = error.status_code
    if status in (400, 403, 422) and any(word in low for word in _REFUSALS):
        return Fault("refused", line)
    if status in (400, 422) and (quirk := _quirk(getattr(error, "param", None), low)):
        return Fault("otherwise", line, quirk=quirk)
    if "insufficient_quota" in low or "model_not_found" in low or status in (401, 402, 403, 404):
        return Fault("stop", line)
    if status in (408, 409, 425, 429) or status >= 500:
        return Fault("again", line, _after(error.response.headers))
    return Fault("failed", line)


def _said(error: openai.APIStatusError) -> tuple[str, str]:
    """Give the code and the words of an error, whatever shape its body has."""
    body: Any = error.body
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    code, words = "", error.message
    if isinstance(body, Mapping):
        code = str(body.get("code") or body.get("type") or "")
        found = body.get("message") or body.get("detail") or body.get("error")
        words = str(found) if found else words
    elif isinstance(body, str) and "<html" in body.lower():
        words = "a web page, not an answer"
    return code, " ".join(words.split())[:200]


def _quirk(param: object, low: str) -> str:
    """Name the parameter that an endpoint does not take."""
    if "context" in low or "too large" in low:  # too long a question, not an unknown parameter
        return ""
    if "max_completion_tokens" in low and "max_tokens" in low:
        # "Unsupported parameter: 'max_tokens' … Use 'max_completion_tokens' instead."
        first = min(("max_tokens", "max_completion_tokens"), key=low.index)
        return str(param) if param in ("max_tokens", "max_completion_tokens") else first
    flat = any(word in low for word in _FLATLY)
    named = param if isinstance(param, str) else ""
    for word, quirk in (
        ("max_completion_tokens", "max_completion_tokens"),
        ("temperature", "temperature"),
        ("logprobs", "logprobs"),
        ("system role", "system"),
        ("system message", "system"),
        ("developer instruction", "system"),
    ):
        if flat and (word in low or (named and word in named)):
            return quirk
    if flat and ("max_tokens" in low or named == "max_tokens"):
        known = ("unsupported", "not supported", "unknown", "unrecognized", "unexpected", "extra")
        return "max_tokens" if any(word in low for word in known) else ""
    return ""


def _after(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After: seconds, milliseconds or a date."""
    exact = headers.get("retry-after-ms")
    said = headers.get("retry-after")
    try:
        if exact:
            return max(0.0, float(exact) / 1000)
        if said is None:
            return None
        return max(0.0, float(said))
    except ValueError:
        when = email.utils.parsedate_tz(said or "")
        return None if when is None else max(0.0, email.utils.mktime_tz(when) - time.time())
