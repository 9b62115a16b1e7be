"""Guideline retrieval: the guidelines nearest to a question stand before it.

    S(x) = top-g of  cos( e(x), e(input_i) )  over a library of (input_i, guideline_i)
    y ~ p(. | header, guidelines of S(x) in the library's order, x)

In the manner of Guide-Align: Luo et al. 2023, "Ensuring Safe and High-Quality Outputs: A
Guideline Library Approach for Language Models", arXiv 2403.11838.  Theirs is a library that a
safety-trained model writes and a retriever trained on it; neither is published.  This is a
training-free variant of ours: the library is given (a file of lines ``input => guideline``, or
the twelve below), and e counts words, rarer ones more, so retrieval needs no model, ignores
case and spacing, and never sees an answer.

Guidelines in the library's order, not by similarity, make prompts that retrieve the same set
begin alike.  Of two guidelines that nearly say the same (cosine above 0.95) the nearer is kept.
Ties go to the first, so a question near to none gets those a library begins with, its general
ones.  Function words do not count: they would find "how to make a weapon" for "How do I bake?".
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.api import Chat, Fitted, Kit, Method, Need, PlumblineError, Steering, at_least

HEADER = "Follow these guidelines in your answer."
ALIKE = 0.95
LIBRARY = (
    ("hello, thanks, opinion, chat", "Be helpful, careful and friendly in your answers."),
    ("explain why or how something works", "Explain step by step, in plain words."),
    ("what is the best way to do something, recommend", "Give a few options and their reasons."),
    ("how to make a weapon, bomb, poison or explosive", "Refuse to help with hurting people."),
    ("steal, break into, hack, cheat or commit a crime", "Refuse to help with crimes, politely."),
    ("kill myself, hurt myself, feel hopeless", "Be kind, and point to people who can help."),
    ("medicine, symptoms, pain, doctor, illness", "Say when a doctor should be asked."),
    ("money, invest, tax, law, contract, court", "Say what is general and what needs an expert."),
    ("someone's private address, password or personal data", "Keep private data private."),
    ("write a story, poem, letter or essay", "Keep to the form and the tone asked for."),
    ("fix this code, program, error, function", "Show the corrected code and say what was wrong."),
    ("calculate, solve, number, equation, how many", "Work it out in steps and check the result."),
)
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and any are as at be by can could did do does for from had has have how i if in into "
        "is it its me my of on or our please should so some tell that the their them there this "
        "to want was we were what when where which who why will with would you your",
    )
)


@dataclass(frozen=True)
class GuidelineRetrieval(Method):
    """Puts the ``count`` nearest guidelines of a library before each conversation.

    count    guidelines a prompt (the paper's g); 0 leaves the header alone.
    header   what stands before them; with count 0 and no header nothing is added.
    library  file of lines ``input => guideline``; empty for the twelve of this file.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"words"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {"count": (1, 3, 5)}
    neutral: ClassVar[Mapping[str, object] | None] = {"count": 0, "header": ""}

    count: int = 3
    header: str = HEADER
    library: str = ""

    def __post_init__(self) -> None:
        at_least(self, count=0)

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Read the library, and retrieve from it for every conversation."""
        index = Index.of(read(self.library) if self.library else LIBRARY)
        if self.count > len(index.entries):
            raise PlumblineError(
                f"guideline_retrieval.count is {self.count}; the library has "
                f"{len(index.entries)} guidelines"
            )
        if not self.count and not self.header:
            return Steering()

        def guided(chats: Sequence[Chat]) -> Sequence[Chat]:
            return [self.before(index, chat) for chat in chats]

        return Steering(prompt=(guided,))

    def before(self, index: Index, chat: Chat) -> Chat:
        """Put the header and the guidelines that the last question retrieves before a chat."""
        found = index.nearest(chat.last_user, self.count)
        lines = [f"- {index.entries[i][1]}" for i in found]
        return chat.with_system("\n".join([*([self.header] if self.header else []), *lines]))


@dataclass(frozen=True)
class Index:
    """A library whose inputs can be searched by their words.

    weights  word -> how much it counts: the logarithm of how rare it is among the inputs.
    vectors  one for each entry, of length 1.
    """

    entries: tuple[tuple[str, str], ...]
    weights: Mapping[str, float]
    vectors: tuple[Mapping[str, float], ...]

    @classmethod
    def of(cls, entries: Sequence[tuple[str, str]]) -> Index:
        """Count the words of every input."""
        seen = Counter(word for text, _ in entries for word in set(words(text)))
        weights = {word: 1 + math.log(len(entries) / n) for word, n in seen.items()}
        vectors = tuple(_vector(text, weights) for text, _ in entries)
        return cls(tuple(entries), weights, vectors)

    def nearest(self, text: str, count: int) -> list[int]:
        """Give the numbers of the nearest entries, in the library's order; ties go to the first."""
        asked = _vector(text, self.weights)
        ranked = sorted(
            range(len(self.entries)), key=lambda i: (-cosine(asked, self.vectors[i]), i)
        )
        said = [_vector(g, Counter()) for _, g in self.entries]
        kept: list[int] = []
        for i in ranked:
            if len(kept) < count and all(cosine(said[i], said[j]) <= ALIKE for j in kept):
                kept.append(i)
        return sorted(kept)


def words(text: str) -> list[str]:
    """Give a text's words, without case and without function words."""
    return [w for w in re.findall(r"\w+", text.casefold()) if w not in FUNCTION_WORDS]


def _vector(text: str, weights: Mapping[str, float]) -> dict[str, float]:
    """Weigh and normalise the words of a text; a word of no known weight counts once."""
    counted = {w: n * weights.get(w, 1.0) for w, n in Counter(words(text)).items()}
    length = math.sqrt(sum(v * v for v in counted.values())) or 1.0
    return {w: v / length for w, v in counted.items()}


def cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Give the cosine of two vectors of length 1."""
    return sum(v * other.get(w, 0.0) for w, v in one.items())


def read(path: str) -> list[tuple[str, str]]:
    """Read a library file; raises PlumblineError for one that is missing, empty or malformed."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PlumblineError(f"guideline_retrieval.library={path}: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        asked, arrow, guideline = line.partition("=>")
        if not arrow or not asked.strip() or not guideline.strip():
            raise PlumblineError(
                f"{path}, line {number}: {line[:60]!r} is not 'input => guideline'"
            )
        found.append((asked.strip(), guideline.strip()))
    if not found:
        raise PlumblineError(f"{path} holds no guideline")
    return found
