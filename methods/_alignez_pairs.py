"""Preference pairs that the model writes itself, without labels.

    two_stage   for each query and polarity the model first lists the characteristics of
                a helpful (harmful) answer -- a text that breaks off where the list begins --
                and then answers with that list put before the query as an instruction
    one_stage   a fixed instruction, "You are a <adjective> assistant.", takes the list's place

Only (query, answer, label) is kept.  The instruction is dropped before the states are
measured, or the direction would be that of the instruction.  What the model writes for
the negative role is harmful by design: it is digested, never stored.

The wording is ours; the published copy of the code lacks the prompt files.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from harness.api import Chat, Json, Lab, PlumblineError, Prompt, Sampling, Steering

if TYPE_CHECKING:
    from harness.engine.decoding import Decoded

Stages = Literal["two_stage", "one_stage"]
CHARACTERISTICS_TOKENS = 50
FEWEST = 2  # pairs from which a direction can be told from a pair's own content
_REFUSAL = re.compile(r"\W*(I'?m sorry|I am sorry|Sorry|I can(no|'|’)t|As an AI)", re.IGNORECASE)

# Name -> adjectives of the wanted and of the unwanted assistant.
TRAITS: dict[str, tuple[str, str]] = {
    "general": ("helpful, harmless and polite", "unhelpful, harmful and rude"),  # ours
    "helpful": ("helpful", "useless"),
    "harmless": ("safety-first", "malicious"),
    "humor": ("humorous", "dull and boring"),
    "writing": ("creative", "dull"),
}


@dataclass(frozen=True)
class Trait:
    """Adjectives of the two assistants that the model is to play."""

    name: str
    good: str
    bad: str

    @classmethod
    def of(cls, text: str) -> Trait:
        """Read a trait's name, or "wanted/unwanted" in adjectives of one's own."""
        good, slash, bad = (part.strip() for part in text.partition("/"))
        if slash and good and bad:
            return cls(text, good, bad)
        if text not in TRAITS:
            raise PlumblineError(
                f"alignez.traits holds {text!r}; known: {', '.join(TRAITS)}, or adjectives of "
                "your own as wanted/unwanted"
            )
        return cls(text, *TRAITS[text])


@dataclass(frozen=True)
class Pairs:
    """Cleaned pairs: row i of ``good`` and of ``bad`` answer ``chats[i]``; facts say what was lost.

    good, bad  token ids, end of turn left out.
    """

    chats: tuple[Chat, ...]
    good: tuple[tuple[int, ...], ...]
    bad: tuple[tuple[int, ...], ...]
    facts: Mapping[str, Json]


def self_generated(
    lab: Lab, queries: Sequence[Prompt], trait: Trait, stages: Stages, per_query: int
) -> Pairs:
    """Let the model write ``per_query`` pairs for each query, and clean them.

    Raises PlumblineError where fewer than two pairs are left, or all are identical.
    """
    count: Counter[str] = Counter()
    good, bad = (_instructed(lab, queries, trait, side, stages, count) for side in ("good", "bad"))
    usable = [i for i in range(len(queries)) if _fits(lab, good[i]) and _fits(lab, bad[i])]
    count["queries too long to be instructed"] = len(queries) - len(usable)
    answers = [
        _answers(lab, [queries[i] for i in usable], [chats[i] for i in usable], trait, side, n)
        for n in range(per_query)
        for side, chats in (("good", good), ("bad", bad))
    ]
    asked = [queries[i] for i in usable]
    return _cleaned(lab, trait, asked * per_query, answers[::2], answers[1::2], count)


# ------------------------------------------------------------- conditioning


def _instructed(
    lab: Lab,
    queries: Sequence[Prompt],
    trait: Trait,
    side: str,
    stages: Stages,
    count: Counter[str],
) -> list[Chat]:
    """Put each query under the instruction for one side."""
    adjectives = trait.good if side == "good" else trait.bad
    instruction = f"You are {_article(adjectives)} {adjectives} assistant."
    if stages == "one_stage":
        return [query.chat.with_system(instruction) for query in queries]
    found = _characteristics(lab, queries, trait, side, count)
    return [
        query.chat.with_system(f"{instruction} Your answer is: {traits}" if traits else instruction)
        for query, traits in zip(queries, found, strict=True)
    ]


def _characteristics(
    lab: Lab, queries: Sequence[Prompt], trait: Trait, side: str, count: Counter[str]
) -> list[str]:
    """Ask for what an answer of one side is like; "" where nothing usable was said."""
    prompts = [
        Prompt(f"alignez {trait.name} {side} traits {query.id}", _asking(query.chat, trait, side))
        for query in queries
    ]
    how = replace(
        lab.sampling, max_new_tokens=min(CHARACTERISTICS_TOKENS, lab.sampling.max_new_tokens)
    )
    # A text to be continued has no turns that a neighbour's prompt edit could go before.
    steering = replace(lab.left, prompt=())
    short = [p for p in prompts if _fits(lab, p.chat, steering, how)]
    said = {p.id: d for p, d in zip(short, _drawn(lab, short, how, steering), strict=True)}
    found = []
    for prompt, query in zip(prompts, queries, strict=True):
        text = said[prompt.id].text.split("\n\n")[0].strip() if prompt.id in said else ""
        count["characteristic tokens"] += len(said[prompt.id].tokens) if prompt.id in said else 0
        why = "empty" if not text else "refused" if _REFUSAL.match(text) else ""
        why = why or ("copied" if query.chat.last_user.strip() in text else "")
        count[f"{why} characteristics"] += bool(why)
        found.append("" if why else text)
    return found


def _asking(chat: Chat, trait: Trait, side: str) -> Chat:
    """Write the text that breaks off where the characteristics are to follow."""
    adjectives = trait.good if side == "good" else trait.bad
    role = f"{_article(adjectives)} {adjectives} assistant"
    be = "You are" if side == "good" else "Pretend that you are"
    return Chat.verbatim(
        f"{chat.last_user}\n\n{be} {role} who is asked this. Characteristics of your answer:"
    )


def _article(words: str) -> str:
    return "an" if words[:1] in "aeiouAEIOU" and not words.startswith("use") else "a"


def _fits(
    lab: Lab, chat: Chat, steering: Steering | None = None, how: Sampling | None = None
) -> bool:
    """Say whether a conversation and its answer fit the model's context."""
    (seen,) = (steering or lab.left).prompted([chat])
    room = lab.model.context - (how or lab.sampling).max_new_tokens
    return len(lab.model.encode(seen)) <= room


# ----------------------------------------------------------------- answers


def _answers(
    lab: Lab, queries: Sequence[Prompt], chats: Sequence[Chat], trait: Trait, side: str, n: int
) -> list[Decoded]:
    """Draw one answer to each instructed query, under luck of its own."""
    prompts = [
        Prompt(f"alignez {trait.name} {side} {n} {query.id}", chat)
        for query, chat in zip(queries, chats, strict=True)
    ]
    return _drawn(lab, prompts, lab.sampling, lab.left)


def _drawn(lab: Lab, prompts: Sequence[Prompt], how: Sampling, steering: Steering) -> list[Decoded]:
    plain = steering.without_search()  # what is wanted is a sample, not a neighbour's choice
    return lab.generate(prompts, sampling=how, steering=plain) if prompts else []


def answer_ids(lab: Lab, answer: Decoded) -> tuple[int, ...]:
    """Give an answer's ids without its end token, or those of its text where it was cut."""
    if answer.stop == "string":
        return tuple(lab.model.encode_answer(Chat(), answer.text))
    ids = answer.tokens
    while ids and ids[-1] in lab.model.ends:
        ids = ids[:-1]
    return tuple(ids)


def _cleaned(
    lab: Lab,
    trait: Trait,
    queries: Sequence[Prompt],
    good: Sequence[Sequence[Decoded]],
    bad: Sequence[Sequence[Decoded]],
    count: Counter[str],
) -> Pairs:
    """Pair the answers query by query; drop and count what says nothing."""
    helpful, harmful = ([d for draw in side for d in draw] for side in (good, bad))
    rows = list(zip(queries, helpful, harmful, strict=True))
    told = [row for row in rows if row[1].text and row[2].text]
    kept = [row for row in told if row[1].text != row[2].text]
    sides = [row[1] for row in kept], [row[2] for row in kept]
    digest = hashlib.blake2b(digest_size=8)
    for _, one, other in rows:
        digest.update(f"{one.text}\0{other.text}\0".encode())
    facts: dict[str, Json] = {
        "pairs": len(kept),
        "written": len(rows),
        "with an empty answer": len(rows) - len(told),
        "identical": len(told) - len(kept),
        "answer tokens": sum(len(d.tokens) for _, *both in rows for d in both),
        "mean tokens": [_mean([len(d.tokens) for d in side]) for side in sides],
        "cut at the budget": [sum(d.stop == "length" for d in side) for side in sides],
        "digest": digest.hexdigest(),
        **{what: count[what] for what in sorted(count)},
    }
    if len(kept) < FEWEST:
        raise PlumblineError(
            f"alignez: trait {trait.name!r} left {len(kept)} of {len(rows)} self-generated pairs "
            f"({facts['identical']} identical, {facts['with an empty answer']} with an empty "
            f"answer); {FEWEST} at least are needed"
        )
    return Pairs(
        tuple(query.chat for query, _, _ in kept),
        tuple(answer_ids(lab, d) for _, d, _ in kept),
        tuple(answer_ids(lab, d) for _, _, d in kept),
        facts,
    )


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
