"""One question as a request, one chat completion as a Reply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.chat import Chat
from harness.contracts.backends import Reply, spoken
from harness.judging.faults import Unreadable

Body = dict[str, Any]


def parameters(chat: Chat, max_tokens: int, temperature: float, logprobs: int) -> Body:
    """Give the body of a request, in the words most endpoints know."""
    text = chat.verbatim_text
    messages = chat.to_dicts() if text is None else [{"role": "user", "content": text}]
    for message in messages:  # half a character, as a model may write it, cannot be sent
        message["content"] = message["content"].encode("utf-8", "replace").decode()
    body: Body = {"messages": messages, "max_tokens": max_tokens, "temperature": temperature}
    if logprobs:
        body |= {"logprobs": True, "top_logprobs": logprobs}
    return body


def reworded(body: Body, quirks: frozenset[str]) -> Body:
    """Say it in the words this endpoint knows (``faults.QUIRKS``)."""
    body = dict(body)
    if "max_tokens" in quirks and "max_completion_tokens" not in quirks:
        body["max_completion_tokens"] = body.pop("max_tokens")
    if "temperature" in quirks:
        del body["temperature"]
    if "logprobs" in quirks:
        body.pop("logprobs", None)
        body.pop("top_logprobs", None)
    messages = body["messages"]
    if "system" in quirks and messages[0]["role"] == "system" and len(messages) > 1:
        both = f"{messages[0]['content']}\n\n{messages[1]['content']}"
        body["messages"] = [{**messages[1], "content": both}, *messages[2:]]
    return body


def reply_of(completion: Any) -> Reply:
    """Read a completion.

    Raises Unreadable where it is none: a page, a bare string, an error in disguise.
    """
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices or getattr(choices[0], "message", None) is None:
        said = getattr(completion, "error", None) or completion
        raise Unreadable(str(said) or "empty")
    choice, usage = choices[0], getattr(completion, "usage", None)
    stop = str(getattr(choice, "finish_reason", None) or "")
    reply = Reply(
        choice.message.content or "",
        logprobs=_logprobs(choice),
        stop=stop,
        tokens_in=int(getattr(usage, "prompt_tokens", None) or 0),
        tokens_out=int(getattr(usage, "completion_tokens", None) or 0),
        served=str(getattr(completion, "model", None) or "unnamed"),
    )
    refusal = getattr(choice.message, "refusal", None)
    if refusal or stop == "content_filter":
        why = " ".join(str(refusal or "content filter").split())
        return replace(reply, text="", outcome="refused", error=why)
    return spoken(reply)


def _logprobs(choice: Any) -> tuple[dict[str, float], ...] | None:
    tokens = getattr(getattr(choice, "logprobs", None), "content", None)
    if not tokens:
        return None
    steps = []
    for token in tokens:
        top = {one.token: float(one.logprob) for one in reversed(token.top_logprobs or [])}
        top.setdefault(token.token, float(token.logprob))
        steps.append(top)
    return tuple(steps)
