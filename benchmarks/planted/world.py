"""The enumerable world itself: builds the folders and knows the truth."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.planted.compiled import Compiled
from benchmarks.planted.frontier import Frontier, tilted
from benchmarks.planted.items import write_items
from benchmarks.planted.language import BUDGET, END, VOCABULARY, Language, questions, rendered
from benchmarks.planted.models import save_policy, save_reward
from benchmarks.planted.tree import Tree, expected, prefixes
from harness.api import Chat, Json, Prompt, Report, Score, Steering, World

if TYPE_CHECKING:
    from harness.engine.model import Model

SOURCES = ("compiled", "items", "language", "models", "world")  # what a build depends on
STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


class Planted(World):
    """Eight tokens, answers of at most four: the optimum is known exactly.

    policy/    a tiny random Llama.
    compiled/  a Llama set by hand, with a trait at a known place (see ``compiled``).
    reward/    the proxy reward model, a known function (see ``Language.proxy``).
    items/     the four benchmarks and preference pairs, in their published schemas.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.language = Language.of(seed)
        self.compiled = Compiled(seed)

    def recipe(self) -> dict[str, Json]:
        """Give the seed and a digest of the modules that make the files."""
        digest = hashlib.blake2b(digest_size=10)
        for name in SOURCES:
            digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
        return {"world": "planted", "seed": self.seed, "source": digest.hexdigest()}

    def gold(self, chat: Chat, response: str) -> dict[str, float]:
        """Give the planted truth; see ``Language.gold``."""
        return self.language.gold(chat, response)

    def exact(
        self, model: Model, prompts: Sequence[Prompt], steering: Steering
    ) -> dict[str, list[Score]]:
        """Give E[gold], KL and the gap to the frontier of a method, by enumeration.

        Columns ``exact_reward``, ``exact_kl`` and ``gap``, a score for each prompt's first turn;
        a method that cannot be enumerated has none.  See ``Enumerated.report``.
        """
        from benchmarks.planted.enumerated import Enumerated

        every = Enumerated(model, prompts, lambda chat, text: self.gold(chat, text)["gold"])
        return every.report(steering).scores()

    def listed(
        self, model: Model, prompts: Sequence[Prompt], budgets: Sequence[int]
    ) -> Iterator[dict[str, float]] | None:
        """Give every answer to each prompt with its log-probability; None for longer budgets."""
        from benchmarks.planted.enumerated import listed

        if max(budgets, default=0) > BUDGET:
            return None
        return (listed(model, p, budget) for p, budget in zip(prompts, budgets, strict=True))

    def build(self, folder: Path, report: Report) -> None:
        """Write the world; takes a second or two."""
        report(0.0, "setting weights")
        save_policy(folder / "policy", self.seed)
        self.compiled.save(folder / "compiled")
        save_reward(folder / "reward", self.language)
        report(0.4, "drawing items")
        base = _Base(folder / "policy")
        counts = write_items(folder / "items", self.seed, self.language, base.answer)
        report(0.8, "measuring the truth")
        facts = {
            "vocabulary": list(VOCABULARY),
            "budget": BUDGET,
            "words": {
                "kind": self.language.kind,
                "plain": self.language.plain,
                "rude": self.language.rude,
            },
            "items": counts,
            "compiled": self.compiled.facts(),
            "proxy_optimised": self._overoptimisation(base),
        }
        (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        report(1.0, "done")

    def _overoptimisation(self, base: _Base) -> list[dict[str, float]]:
        """Exact proxy, gold and KL of the policy tilted towards the proxy, on eight questions.

        ``best_gold`` is the largest gold at the same KL: what a faithful reward would have given.
        """
        chats = [Chat.of(question) for question in questions(self.seed, (8,))[0]]
        laws = [base.tree(chat).log_law() for chat in chats]
        gold = [base.judged(chat, lambda c, t: self.gold(c, t)["gold"]) for chat in chats]
        proxy = [base.judged(chat, self.language.proxy) for chat in chats]
        honest, fooled = Frontier(laws, gold), Frontier(laws, proxy)
        rows = []
        for strength in STRENGTHS:
            point = fooled.at(strength)
            tilts = zip(laws, proxy, gold, strict=True)
            got = sum(expected(tilted(p, r, strength), g) for p, r, g in tilts) / len(laws)
            rows.append(
                {
                    "strength": strength,
                    "kl": point.kl,
                    "proxy": point.reward,
                    "gold": got,
                    "best_gold": honest.best(point.kl),
                }
            )
        return rows


class _Base:
    """The policy as it is while the world is built: enumerated by plain forward passes."""

    def __init__(self, folder: Path) -> None:
        from transformers import LlamaForCausalLM
        from transformers.utils import logging

        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        self.net = LlamaForCausalLM.from_pretrained(folder).eval()
        if shown:
            logging.enable_progress_bar()
        self.branch = VOCABULARY.index(END)
        self.begun = torch.tensor(prefixes(self.branch, BUDGET - 1))
        levels = tuple(torch.zeros(self.branch**d, self.branch + 1) for d in range(BUDGET))
        self.texts = [words(tokens) for tokens in Tree(levels, self.branch).leaves()]
        self.laws: dict[Chat, Sequence[float]] = {}

    def tree(self, chat: Chat) -> Tree:
        asked = torch.tensor([rendered(chat)]).expand(len(self.begun), -1)
        with torch.no_grad():
            logits: Tensor = self.net(torch.cat([asked, self.begun], dim=1)).logits
        return Tree.of_table(logits[:, asked.shape[1] - 1 :], self.branch)

    def judged(self, chat: Chat, reward: Callable[[Chat, str], float]) -> Tensor:
        """Reward every answer: [leaves]."""
        known = {text: reward(chat, text) for text in dict.fromkeys(self.texts)}
        return torch.tensor([known[text] for text in self.texts], dtype=torch.float64)

    def answer(self, chat: Chat, rng: random.Random) -> str:
        """Draw an answer that says something."""
        if chat not in self.laws:
            law = self.tree(chat).log_law().tolist()
            self.laws[chat] = [
                math.exp(p) if text else 0.0 for p, text in zip(law, self.texts, strict=True)
            ]
        return rng.choices(self.texts, self.laws[chat])[0]


def words(tokens: Sequence[int]) -> str:
    """Give the text of drawn tokens, markers and the end left out."""
    return " ".join(VOCABULARY[t] for t in tokens if not VOCABULARY[t].startswith("<"))
