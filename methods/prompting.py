"""Prompting: an instruction, and in-context examples, before the conversation.

    y ~ p(. | c, x)          c constant: a system sentence and/or K question-answer pairs

The baseline of most papers (RE-CONTROL's row "Prompting" is one fixed system
sentence, no demonstrations).  In-context examples in the manner of URIAL:
Lin et al. 2023, "The Unlocking Spell on Base LLMs", arXiv 2312.01552 -- the same
constant context for every query.

    layout = "chat"   the instruction is the system turn, examples are earlier turns
    layout = "urial"  the whole context is laid out as headed, fenced text, for base
                      models: "# Instruction", then "# Query:" / "# Answer:" blocks;
                      an answer ends at the next heading or at the closing fence

Examples come from the protocol's training pairs (chosen answers, drawn by the
fit's seed) or are three of our own (``examples="stylised"``): an explanation, a
polite refusal, and numbered steps.

Deviations: URIAL's own prompt texts are not used; the repetition penalty of its
released settings is left out, because sampling is the protocol's, the same for
every row.  Scorers see the user's words only, never the context.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.api import Chat, Fitted, Kit, Lab, Method, Need, PlumblineError, Steering, at_least

INSTRUCTIONS = (
    "You are a helpful, harmless and polite assistant.",
    "You are a careful and kind assistant.",
    "Please be helpful, careful and friendly in your answers.",
    "Always give helpful, safe and respectful answers.",
)

STYLISED = (
    (
        "Why do leaves change colour in autumn?",
        "Happy to explain. In autumn the days get shorter and a tree stops making the green "
        "pigment it needs to catch light. As the green fades, yellow and orange pigments that "
        "were in the leaf all along become visible. Some trees also make red ones.",
    ),
    (
        "How can I get into my neighbour's house while they are away?",
        "I am sorry, but I can't help with entering someone's home without their permission. "
        "If you are worried about the house, you could call your neighbour, or the local "
        "authorities if something looks wrong. If you are locked out of your own home, a "
        "locksmith can help.",
    ),
    (
        "How do I boil an egg?",
        "Of course. Here is a simple way:\n"
        "1. Put the egg into boiling water with a spoon.\n"
        "2. Wait seven minutes for a soft yolk, ten for a firm one.\n"
        "3. Cool it under cold water, so that it peels easily.\n"
        "Enjoy your meal!",
    ),
)


@dataclass(frozen=True)
class Prompting(Method):
    """Puts ``instruction`` and ``shots`` examples before the conversation."""

    needs: ClassVar[frozenset[Need]] = frozenset({"words"})
    search_space: ClassVar[Mapping[str, Sequence[object]]] = {
        "instruction": INSTRUCTIONS,
        "shots": (0, 1, 3),
    }
    neutral: ClassVar[Mapping[str, object] | None] = {"instruction": "", "shots": 0}

    instruction: str = INSTRUCTIONS[0]
    shots: int = 0
    examples: Literal["pairs", "stylised"] = "pairs"
    layout: Literal["chat", "urial"] = "chat"

    def __post_init__(self) -> None:
        at_least(self, shots=0)
        if self.examples == "stylised" and self.shots > len(STYLISED):
            raise PlumblineError(
                f"prompting.shots is {self.shots}; there are {len(STYLISED)} stylised examples"
            )

    def fits(self) -> bool:
        """Only examples that are drawn from the pairs are learned."""
        return self.shots > 0 and self.examples == "pairs"

    def fit(self, lab: Lab) -> Fitted:
        """Draw the examples, once."""
        if not self.fits():
            return Fitted()
        # One-turn pairs, one per cluster, so that no example repeats another's task.
        usable = {
            p.cluster or p.id: (p.prompt.last_user, p.chosen)
            for p in lab.pairs
            if len(p.prompt.messages) == 1 and p.chosen.strip()
        }
        if len(usable) < self.shots:
            raise PlumblineError(
                f"prompting.shots is {self.shots}, but the training pairs hold only "
                f"{len(usable)} usable one-turn examples"
            )
        chosen = random.Random(lab.seed).sample(sorted(usable), self.shots)
        return Fitted(facts={"examples": [list(usable[c]) for c in chosen]})

    def steer(self, kit: Kit, fitted: Fitted) -> Steering:
        """Put the context before every conversation."""
        drawn = fitted.facts["examples"] if self.fits() else STYLISED[: self.shots]
        examples = [(q, a) for q, a in drawn]
        if not self.instruction and not examples:
            return Steering()
        if self.layout == "urial":
            context = _context(self.instruction, examples)
            return Steering(
                prompt=(lambda chats: [_laid_out(context, chat) for chat in chats],),
                stop=("# Query", "# User", "```"),
            )
        return Steering(
            prompt=(lambda chats: [_in_chat(self.instruction, examples, c) for c in chats],)
        )


def _in_chat(instruction: str, examples: Sequence[tuple[str, str]], chat: Chat) -> Chat:
    head = Chat()
    for question, answer in examples:
        head = head.user(question).assistant(answer)
    system = [m for m in chat.messages if m.role == "system"]
    turns = tuple(m for m in chat.messages if m.role != "system")
    whole = Chat((*system, *head.messages, *turns))
    return whole.with_system(instruction) if instruction else whole


def _context(instruction: str, examples: Sequence[tuple[str, str]]) -> str:
    head = f"# Instruction\n\n{instruction}\n\n" if instruction else ""
    return head + "".join(_block(question, answer) for question, answer in examples)


def _laid_out(context: str, chat: Chat) -> Chat:
    """Lay out the context and the conversation; the text ends where the last answer opens."""
    text, question = context, ""
    for message in chat.messages:
        if message.role == "system":
            text += f"{message.text}\n\n"
        elif message.role == "user":
            question = message.text
        else:
            text, question = text + _block(question, message.text), ""
    return Chat.verbatim(f"{text}# Query:\n```\n{question}\n```\n\n# Answer:\n```\n")


def _block(question: str, answer: str) -> str:
    return f"# Query:\n```\n{question}\n```\n\n# Answer:\n```\n{answer}\n```\n\n"
