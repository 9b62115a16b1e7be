"""HH-RLHF: dialogues about being helpful and harmless, with a better and a worse last answer.

Bai et al., "Training a Helpful and Harmless Assistant with Reinforcement Learning from Human
Feedback", arXiv 2204.05862.  Schema: ``{"chosen": dialogue, "rejected": dialogue}``, where a
dialogue is plain text whose turns each begin with a blank line and ``Human:`` or ``Assistant:``.

The prompt is everything before the last ``Assistant:`` that follows a blank line.  Those words
without a blank line are words like any other.  Parsing loses nothing: the conversation together
with its answer, rendered by the template "human-assistant", is the dialogue again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from benchmarks._reading import Ids, cluster, digest, text, usable
from harness.api import Benchmark, Chat, Json, Message, Preference, Prompt, Read

LABEL = re.compile(r"\n\n(Human|Assistant): ?")
INNER_LABEL = re.compile(r"(Human|Assistant):")
SENTENCE_END = tuple(".!?:;\"')]}”’…*")

UNUSABLE = "pairs with a side that has no question before its last answer (left out)"
DIFFER = "pairs whose two prompts differ (not trained on; the chosen side's prompt is asked)"
SAME = "pairs whose two sides are identical (not trained on)"
REPEATED = "repeated prompts (kept, one cluster)"
EMPTY_CHOSEN = "empty chosen answers (kept, empty)"
EMPTY_REJECTED = "empty rejected answers (kept, empty)"
CUT_OFF = "chosen answers that stop without punctuation (kept)"
ASSISTANT_LAST = "prompts that end with an assistant turn (kept)"
CONSECUTIVE = "dialogues with two turns in a row by one speaker (kept)"
ODD = "dialogues with an odd number of turns (kept)"
EMPTY_INNER = "dialogues with an empty inner turn (kept)"
INNER = "dialogues with a role label inside a turn (kept as words)"
PREAMBLE = "dialogues with words before the first turn (kept as a system turn)"
AFTER = "dialogues that go on after the last answer (the rest cut)"
IRREGULAR = "dialogues with irregular blanks around a role label"


@dataclass(frozen=True)
class Dialogue:
    """One side of a pair: the conversation, the last answer, and what is odd about it."""

    prompt: Chat
    answer: str
    oddities: tuple[str, ...]


def parse(dialogue: str) -> Dialogue | None:
    """Cut a dialogue at its last answer; None where nobody asks or nobody answers."""
    regular = dialogue if dialogue.startswith("\n\n") else f"\n\n{dialogue.lstrip()}"
    preamble, *pieces = LABEL.split(regular)
    speakers, words = pieces[::2], pieces[1::2]
    if "Assistant" not in speakers:
        return None
    last = len(speakers) - 1 - speakers[::-1].index("Assistant")
    turns = tuple(
        Message("user" if who == "Human" else "assistant", said)
        for who, said in zip(speakers[:last], words[:last], strict=True)
    )
    system = (Message("system", preamble),) if preamble.strip() else ()
    prompt = Chat((*system, *turns))
    if not prompt.last_user.strip():
        return None
    rebuilt = preamble + "".join(
        f"\n\n{who}: {said}" for who, said in zip(speakers, words, strict=True)
    )
    tests = {
        CONSECUTIVE: any(a == b for a, b in pairwise(speakers)),
        ODD: len(speakers) % 2 == 1,
        EMPTY_INNER: any(not said.strip() for said in words[:last]),
        INNER: any(INNER_LABEL.search(said) for said in words),
        PREAMBLE: bool(system),
        AFTER: last + 1 < len(speakers),
        IRREGULAR: rebuilt != dialogue,
    }
    return Dialogue(prompt, words[last], tuple(odd for odd, found in tests.items() if found))


class HHRLHF(Benchmark):
    """Answers to the prompts of HH-RLHF; its pairs are what methods are fitted on."""

    title: ClassVar[str] = "HH-RLHF"
    about: ClassVar[str] = "multi-turn dialogues on helpfulness and harmlessness, with pairs"
    scorers: ClassVar[tuple[str, ...]] = (
        "reward",
        "optimised_reward",
        "gold",
        "diversity",
        "coherence",
        "refusal",
        "length",
    )
    sampling: ClassVar[Mapping[str, Json]] = {"temperature": 0.0, "max_new_tokens": 128}
    cluster: ClassVar[str] = "prompt"
    max_prompt_tokens: ClassVar[int | None] = 512

    def read(self, items: Iterable[Mapping[str, Json]]) -> Read:
        """Turn ``{"chosen", "rejected"}`` into prompts and pairs.

        Raises PlumblineError for a missing field or where nothing is usable.
        """
        read, prompt_ids, pair_ids = Read(), Ids(), Ids()
        for number, item in enumerate(items, 1):
            sides = text(item, "chosen", number), text(item, "rejected", number)
            chosen, rejected = map(parse, sides)
            if chosen is None or rejected is None:
                read.notes[UNUSABLE] += 1
                continue
            read.notes.update([*chosen.oddities, *rejected.oddities])
            words = [part for m in chosen.prompt.messages for part in (m.role, m.text)]
            name, unit = prompt_ids(*words), cluster(item, digest(*words), number)
            pair = pair_ids(*sides)
            tests = {
                REPEATED: "-" in name,
                EMPTY_CHOSEN: not chosen.answer.strip(),
                EMPTY_REJECTED: not rejected.answer.strip(),
                CUT_OFF: bool(chosen.answer.strip())
                and not chosen.answer.rstrip().endswith(SENTENCE_END),
                ASSISTANT_LAST: chosen.prompt.messages[-1].role == "assistant",
                DIFFER: chosen.prompt != rejected.prompt,
                SAME: chosen == rejected,
            }
            read.notes.update(reason for reason, found in tests.items() if found)
            read.prompts.append(Prompt(name, chosen.prompt, reference=chosen.answer, cluster=unit))
            if not tests[DIFFER] and not tests[SAME]:
                read.pairs.append(
                    Preference(pair, chosen.prompt, chosen.answer, rejected.answer, unit)
                )
        return usable(read, self.title)
