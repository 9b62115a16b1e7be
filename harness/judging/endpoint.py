"""Which endpoint answers, and with which key: read from the environment, never stored.

A judge's own URL and key come first; a key is only ever sent to the URL it
belongs to.  ``OPENAI_API_KEY`` goes to ``OPENAI_BASE_URL`` (or OpenAI itself),
``PLUMBLINE_JUDGE_API_KEY`` to wherever the judge is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from harness.errors import PlumblineError

JUDGE_KEY, JUDGE_URL = "PLUMBLINE_JUDGE_API_KEY", "PLUMBLINE_JUDGE_BASE_URL"
KEY, URL, OLD_URL = "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"
OPENAI = "https://api.openai.com/v1"
PATHS = ("/chat/completions", "/completions")  # what people paste after the base


@dataclass(frozen=True)
class Endpoint:
    """A base URL and its key.

    query   what stood after ``?`` in it, sent with every request.
    key     "" where none is set: servers of one's own ask for none.
    source  where the URL was read, for error messages.
    """

    url: str = field(repr=False)
    key: str = field(default="", repr=False)
    source: str = ""
    query: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """The URL without a user name, a password or a query in it."""
        return shown(self.url)

    def hide(self, text: str) -> str:
        """Take the key, and what stands before ``@`` in the URL, out of a text."""
        before = urlsplit(self.url).netloc.rpartition("@")[0]
        values = [value for _, value in parse_qsl(self.query)]
        for secret in (self.key, before, before.partition(":")[2], *values):
            if secret:
                text = text.replace(secret, "[hidden]")
        return text


def shown(url: str) -> str:
    """Give a URL as it may be printed and stored."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def endpoint(environment: Mapping[str, str], given: str | None = None) -> Endpoint:
    """Find the judge's endpoint.

    given  the URL of the protocol or the command line; the environment's otherwise.

    Raises PlumblineError where OpenAI itself is meant and there is no key, and for a
    URL that is none.
    """
    set_ = {name: environment.get(name, "").strip() for name in (JUDGE_KEY, JUDGE_URL, KEY)}
    shared = next((n for n in (URL, OLD_URL) if environment.get(n, "").strip()), "")
    theirs = normal(environment[shared], shared) if shared else OPENAI
    if given:
        url, source = normal(given, "the judge's url"), "the judge's url"
    elif set_[JUDGE_URL]:
        url, source = normal(set_[JUDGE_URL], JUDGE_URL), JUDGE_URL
    else:
        url, source = theirs, shared or "the default"
    key = set_[JUDGE_KEY] or (set_[KEY] if url in (theirs, OPENAI) else "")
    if not key and url == OPENAI:
        raise PlumblineError(
            f"no key for {OPENAI}: set {JUDGE_KEY} (or {KEY}), or name a server of your own in "
            f"{JUDGE_URL}"
        )
    bare, _, query = url.partition("?")
    return Endpoint(bare, key, source, query)


def normal(url: str, source: str) -> str:
    """Give the base URL of a base URL or of a full ``…/chat/completions``."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PlumblineError(
            f"{source} is {shown(url)!r}; it must be a URL such as http://localhost:8000/v1"
        )
    path = parts.path.rstrip("/")
    for end in PATHS:
        if path.endswith(end):
            path = path.removesuffix(end)
            break
    return urlunsplit(parts._replace(path=path, fragment=""))
