"""Training pairs that begin with a question the benchmark asks.

Their conversations, though not word for word the same, start alike; a method fitted on such a
pair has seen the benchmark's question.  They are found by a hash of the first user turn.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

from harness.chat import Chat
from harness.records import Preference, Prompt


def first_turn(chat: Chat) -> str:
    """Hash what the user says first; case, blanks and compatible characters make no difference."""
    said = next((m.text for m in chat.messages if m.role == "user"), "")
    words = " ".join(unicodedata.normalize("NFKC", said).casefold().split())
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def overlap(pairs: Iterable[Preference], prompts: Iterable[Prompt]) -> set[str]:
    """Give the ids of the pairs whose first user turn is also a prompt's."""
    asked = {first_turn(prompt.chat) for prompt in prompts}
    return {pair.id for pair in pairs if first_turn(pair.prompt) in asked}
