"""A Llama with weights set by hand, in which a trait enters at a known place.

Every token's embedding is the sum of a direction of its own, a constant one (``bulk``) and,
for kind and rude words, plus or minus a ``source`` direction.  Block ``LAYER`` averages the
source over all positions so far (its queries and keys are zero) and writes the mean along
the ``trait`` direction; every other block writes nothing.  The head reads the token's own
direction (a random bigram table), the bulk (a bias that makes markers rare), and
the trait: a kind conversation makes kind words likelier.  So, for a token at position T,

    before  = embedding(x_i) (+ an edit at a site before LAYER, where it applies)
    trait_T = GAIN * mean_{i <= T} <source, norm(before_i)>
    after   = before_T + trait_T * trait (+ an edit at LAYER or later)
    logits  = head @ (norm(after) (+ an edit at the final norm)),
    norm(h) = h / sqrt(mean(h^2) + eps).

``Compiled.predict`` is this formula in float64; what a method does to hidden states,
its reward, its KL and its value function follow from it without running a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.planted.frontier import Point
from benchmarks.planted.language import (
    ASSISTANT,
    BUDGET,
    END,
    PAD,
    UNKNOWN,
    USER,
    VOCABULARY,
    Language,
    rendered,
)
from benchmarks.planted.models import LAYERS, WIDTH, blank, config, save
from benchmarks.planted.tree import Tree, divergence, expected, prefixes
from harness.api import Chat, Site

LAYER = 2  # the block that writes the trait, counted from 0
GAIN = 4.0  # trait written for a mean source of one
BULK = 3.0  # length of the constant part of every embedding
TASTE = 0.75  # what one unit of trait, after the norm, adds to a kind word's logit
CONTRAST = 0.6  # standard deviation of the bigram table
MARKER_BIAS, REST_BIAS = -0.7, -0.15  # per unit of bulk: markers; unknown word and end
EPS = 1e-6
FINAL = "final"

Where = Literal["all", "draws", "response"]


@dataclass(frozen=True)
class Push:
    """Adding a vector to hidden states: what is predicted.

    site    a layer or the final norm.
    vector  [WIDTH].
    where   "all" positions, the ones that "draws" a token, or the "response" itself.
    """

    site: Site
    vector: Tensor
    where: Where = "all"

    def __post_init__(self) -> None:
        if self.site.place not in ("layer", FINAL):
            raise ValueError(f"{self.site} is not predicted; a layer or the final norm is")

    @property
    def early(self) -> bool:
        """Whether the block that writes the trait sees the edit."""
        return self.site.place == "layer" and self.site.index % LAYERS < LAYER

    def mask(self, prompt: int, length: int) -> Tensor:
        """Give 1.0 at the positions edited: [length]."""
        first = {"all": 0, "draws": prompt - 1, "response": prompt}[self.where]
        return (torch.arange(length) >= first).double()


@dataclass(frozen=True)
class Compiled:
    """The compiled model of one seed; all directions are orthonormal and known."""

    seed: int

    @cached_property
    def basis(self) -> Tensor:
        """Orthonormal rows: one per token, then bulk, source, trait, then free directions.

        They are rows of a Hadamard matrix, shuffled and with signs drawn: every coordinate takes
        part in every direction, and +-1/4 loses nothing in float32.
        """
        rng = torch.Generator().manual_seed(self.seed)
        rows = torch.ones(1, 1, dtype=torch.float64)
        while len(rows) < WIDTH:
            rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
        signs = 2 * torch.randint(0, 2, (WIDTH,), generator=rng) - 1
        shuffled = rows[torch.randperm(WIDTH, generator=rng)]
        return shuffled * signs / float(WIDTH**0.5)

    @property
    def tokens(self) -> Tensor:
        """Each token's own direction, [8, WIDTH]."""
        return self.basis[: len(VOCABULARY)]

    @property
    def bulk(self) -> Tensor:
        """The direction that is the same in every embedding, [WIDTH]."""
        return self.basis[len(VOCABULARY)]

    @property
    def source(self) -> Tensor:
        """The direction that the trait is made from, [WIDTH]."""
        return self.basis[len(VOCABULARY) + 1]

    @property
    def trait(self) -> Tensor:
        """The direction that the trait is written along, [WIDTH]."""
        return self.basis[len(VOCABULARY) + 2]

    @property
    def free(self) -> Tensor:
        """A direction that nothing reads, [WIDTH]."""
        return self.basis[len(VOCABULARY) + 3]

    @cached_property
    def kindness(self) -> Tensor:
        """+1 for the kind word, -1 for the rude one and the unknown, else 0: [8]."""
        language = Language.of(self.seed)
        return torch.tensor([language.worth(t) for t in VOCABULARY], dtype=torch.float64)

    @cached_property
    def embedding(self) -> Tensor:
        """Embedding rows as stored, in float64: [8, WIDTH]."""
        return _stored(self.tokens + BULK * self.bulk + self.kindness[:, None] * self.source)

    @cached_property
    def head(self) -> Tensor:
        """Read-out rows as stored, in float64: [8, WIDTH]."""
        rng = torch.Generator().manual_seed(self.seed + 1)
        size = len(VOCABULARY)
        bigrams = CONTRAST * torch.randn(size, size, generator=rng).double()  # [next, now]
        bias = torch.zeros(size, dtype=torch.float64)
        bias[[VOCABULARY.index(t) for t in (PAD, USER, ASSISTANT)]] = MARKER_BIAS
        bias[[VOCABULARY.index(t) for t in (UNKNOWN, END)]] = REST_BIAS
        return _stored(
            bigrams @ self.tokens
            + bias[:, None] * self.bulk
            + TASTE * self.kindness[:, None] * self.trait
        )

    @cached_property
    def _reads(self) -> Tensor:
        return _stored(self.source)

    @cached_property
    def _writes(self) -> Tensor:
        return _stored(GAIN * self.trait)

    def net(self) -> Any:
        """Build the network: an ordinary LlamaForCausalLM in float32."""
        from transformers import LlamaForCausalLM

        net = LlamaForCausalLM(config(rms_norm_eps=EPS))
        blank(net)
        attention = net.model.layers[LAYER].self_attn
        with torch.no_grad():
            net.model.embed_tokens.weight.copy_(self.embedding)
            attention.v_proj.weight[0] = self._reads.float()
            attention.o_proj.weight[:, 0] = self._writes.float()
            net.lm_head.weight.copy_(self.head)
        return net

    def save(self, folder: Path) -> None:
        """Write the network as a Hugging Face folder."""
        save(self.net(), folder)

    # ------------------------------------------------------------ prediction

    def predict(self, ids: Tensor, *, prompt: int, pushes: Sequence[Push] = ()) -> Tensor:
        """Predict log p(next token) after every position of ``ids``.

        ids     [rows, n] a prompt and what was answered so far.
        prompt  how many of the n tokens are the prompt.

        Returns [rows, n, 8] in float64.
        """
        length = ids.shape[1]
        early = torch.zeros(length, WIDTH, dtype=torch.float64)
        late, final = early.clone(), early.clone()
        for push in pushes:
            place = final if push.site.place == FINAL else early if push.early else late
            place += push.mask(prompt, length)[:, None] * push.vector.double()
        before = self.embedding[ids] + early
        seen = _norm(before) @ self._reads
        count = torch.arange(1, length + 1, dtype=torch.float64)
        amount = seen.cumsum(-1) / count
        after = before + amount[..., None] * self._writes + late
        return ((_norm(after) + final) @ self.head.T).log_softmax(-1)

    def tree(self, chat: Chat, pushes: Sequence[Push] = (), budget: int = BUDGET) -> Tree:
        """Predict the law of every answer to a conversation."""
        asked = rendered(chat)
        branch = VOCABULARY.index(END)
        begun = torch.tensor([(*asked, *p) for p in prefixes(branch, budget - 1)])
        table = self.predict(begun, prompt=len(asked), pushes=pushes)
        return Tree.of_table(table[:, len(asked) - 1 :], branch)

    def effect(
        self, chat: Chat, pushes: Sequence[Push], rewards: Tensor, budget: int = BUDGET
    ) -> Point:
        """Predict what edits do: E[r] and KL(edited || base).

        rewards  [leaves] of ``tree``, whose ``values`` are the predicted value function.
        """
        base = self.tree(chat, budget=budget).log_law()
        edited = self.tree(chat, pushes, budget).log_law()
        return Point(expected(edited, rewards), divergence(edited, base))

    def facts(self) -> dict[str, Any]:
        """Say where the trait is, for ``facts.json``."""
        language = Language.of(self.seed)
        return {
            "trait_layer": LAYER,
            "gain": GAIN,
            "taste": TASTE,
            "kind": language.kind,
            "rude": language.rude,
            "source": self.source.tolist(),
            "trait": self.trait.tolist(),
        }


def _stored(x: Tensor) -> Tensor:
    """Round to what the network's float32 weights can hold."""
    return x.float().double()


def _norm(h: Tensor) -> Tensor:
    return h / (h.square().mean(-1, keepdim=True) + EPS).sqrt()
