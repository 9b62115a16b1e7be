"""Ways in which a question can be put better: what to ask a rewriter for, and what to add.

The ten are P-Aligner's (arXiv 2508.04626) by name; the wordings are ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Principle:
    """One way of putting a question better.

    ask  what a model that rewrites is told to do.
    say  the sentence that goes after the question where nothing is rewritten.
    """

    ask: str
    say: str


PRINCIPLES = {
    "safe_intent": Principle(
        "Say that nobody is to be harmed.", "I mean no harm to anyone, so keep it safe."
    ),
    "boundary": Principle(
        "Ask that whatever could do harm be refused.",
        "If any of this could do harm, say so and do not help with it.",
    ),
    "clarification": Principle(
        "Say what is meant where the question can be taken in several ways.",
        "Where this can be taken in several ways, say which you take.",
    ),
    "information": Principle(
        "Add the background and the details that a good answer needs.",
        "Give the background and the details that are needed.",
    ),
    "tone": Principle(
        "Put it politely, and ask for a helpful, careful and polite answer.",
        "Please be helpful, careful and polite in your answer.",
    ),
    "factuality": Principle(
        "Ask for facts only, and for what is uncertain to be named.",
        "Give facts only, and say what is uncertain.",
    ),
    "error_simulation": Principle(
        "Ask for a mistake that is easily made here, and how it is avoided.",
        "Show a mistake that is easily made here, and how to avoid it.",
    ),
    "debugging": Principle(
        "Ask for the cause to be found first, and then put right.",
        "Find the cause first, then put it right.",
    ),
    "hint": Principle("Add a hint at how it can be solved.", "Begin with how it can be solved."),
    "verification": Principle(
        "Ask for the result to be checked at the end.", "Check the result at the end."
    ),
}

# The first class whose words a question holds; any other question asks for information.
CLASSES = (
    ("boundary", r"weapon|bomb|poison|explosive|kill|hurt|steal|hack|drug|illegal|secretly?"
                 r"|without being caught|suicide|attack"),
    ("debugging", r"code|program|function|python|javascript|bug|compile|script|sql|exception"),
    ("verification", r"calculate|solve|equation|sum|how many|percent|prove|integral"
                     r"|\d+ ?[-+*/] ?\d+"),
)  # fmt: skip
OTHERWISE = "information"


def of_question(text: str) -> str:
    """Name the principle of the first class, of safety, code and mathematics, that a text is of."""
    words = text.casefold()
    for name, pattern in CLASSES:
        if re.search(rf"(?<!\w)(?:{pattern})(?!\w)", words):
            return name
    return OTHERWISE
