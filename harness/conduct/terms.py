"""The sections of a protocol file: what each may say, and what is refused.

Every model forbids unknown fields and converts nothing: a protocol says what it
means or is refused with one line (see ``protocol.py``).
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Dtype = Literal["float32", "bfloat16", "float16"]
_SHA = re.compile(r"[0-9a-f]{40}")


class Section(BaseModel):
    """A table of the file: frozen, strict, no unknown field."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class About(Section):
    """[about]: the first line printed over every table made under the protocol."""

    text: str


class Weights(Section):
    """A model: a role of the protocol's world, a local folder, or a Hub name at a revision.

    unpinned  allows a revision that may move ("main"); it is recorded, and tables say so.
    """

    world: str | None = None
    path: str | None = None
    revision: str | None = None
    unpinned: bool = False
    template: str = "tokenizer"
    dtype: Dtype = "float32"

    @property
    def local(self) -> bool:
        """True where ``path`` is a folder of this machine, not a name on the Hub."""
        path = expanded(self.path or "")
        return os.path.isdir(path) or path.startswith(("/", ".", "~"))

    @model_validator(mode="after")
    def _named(self) -> Self:
        if (self.world is None) == (self.path is None):
            raise ValueError("give either world = or path =")
        if self.path is not None and not self.local and not self.path.startswith("$"):
            _pinned(self.path, self.revision, self.unpinned)
        return self


class Policy(Weights):
    """[model]: the model that is steered.  ``world`` is the world's name.

    world_seed    the world's seed; another seed is another world.
    reads_words   False for a model of bare symbols: methods that need words are skipped.
    """

    world_seed: int = 0
    trust_remote_code: bool = False
    reads_words: bool = True


class Reward(Weights):
    """A reward model; ``max_length`` tokens of conversation and answer are read."""

    max_length: int | None = Field(default=None, ge=1)


class Rewards(Section):
    """[rewards]: what methods may optimise, and what they are measured by."""

    granted: Reward | None = None
    evaluation: Reward | None = None


class Source(Section):
    """Where items come from: a file of the world, a local file, or a Hub data set."""

    world: str | None = None
    file: str | None = None
    dataset: str | None = None
    revision: str | None = None
    unpinned: bool = False
    split: str | None = None
    config: str | None = None
    data_dir: str | None = None
    data_files: str | list[str] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(x is not None for x in (self.world, self.file, self.dataset)) != 1:
            raise ValueError("give exactly one of world =, file =, dataset =")
        if self.dataset is not None:
            _pinned(self.dataset, self.revision, self.unpinned)
        return self

    def mapping(self) -> dict[str, Any]:
        """Give the fields that are set, as ``sources.load_items`` takes them."""
        given = self.model_dump(exclude_defaults=True, exclude={"references", "count"})
        if self.file is not None:
            given["file"] = expanded(self.file)
        return given


class Data(Source):
    """[data.<benchmark>]: its items, and reference answers kept in a file of their own.

    count  how many prompts are asked; all if left out.  Which ones depends on their ids alone,
           so that smaller counts lie inside larger ones.
    """

    references: Source | None = None
    count: int | None = Field(default=None, ge=1)

    def mapping(self) -> dict[str, Any]:
        """Give the fields that are set, the references' own among them."""
        further = self.references
        return super().mapping() | ({"references": further.mapping()} if further else {})


class Training(Section):
    """[training]: preference pairs for fitting, and for choosing strengths.

    reader  the benchmark whose schema the pairs are in.
    count   how many pairs methods get, after a permutation by ``seed``; all if left out.
    """

    pairs: Source | None = None
    dev: Source | None = None
    reader: str = "hh_rlhf"
    count: int | None = Field(default=None, ge=1)
    seed: int = 0


class Draw(Section):
    """Sampling fields; one that is left out falls back to the benchmark's own rule."""

    temperature: float | None = Field(default=None, ge=0)
    top_k: int | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_new_tokens: int | None = Field(default=None, ge=1)

    def given(self) -> dict[str, Any]:
        """Give the fields that are set."""
        return self.model_dump(exclude_none=True, include=set(Draw.model_fields))


class Draws(Draw):
    """[sampling]: for all benchmarks, [sampling.search] for candidates, and per benchmark."""

    search: Draw = Draw()
    benchmarks: dict[str, Draw] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _tables(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        tables = {k: v for k, v in raw.items() if isinstance(v, dict) and k != "search"}
        return {k: v for k, v in raw.items() if k not in tables} | {"benchmarks": tables}


class Seeds(Section):
    """[seeds]: sampling seeds of every row, fit seeds of every method that learns.

    crossed  a run for each pair of the two; otherwise the first with the first, and so on.
    """

    sampling: list[int] = Field(default=[0], min_length=1)
    fit: list[int] = Field(default=[0], min_length=1)
    crossed: bool = True

    @model_validator(mode="after")
    def _matched(self) -> Self:
        if not self.crossed and len(self.sampling) != len(self.fit):
            raise ValueError(
                f"{len(self.sampling)} sampling seeds and {len(self.fit)} fit seeds make no pairs; "
                "with crossed = false give as many of one as of the other"
            )
        return self


class Judging(Section):
    """[judging.<judge>]: who answers, on which benchmarks, and against what.

    backend      "world": the world's model of ``role``; "local": the model at ``path``;
                 "openai": ``model`` behind an endpoint (``url``, or the environment's; the
                 key is the environment's alone).
    against      "unsteered": the reference run; "reference": the answers of the set.
    prompts      FastChat's judge_prompts.jsonl for a judge of MT-Bench; left out, its own words.
    max_tokens   a budget above the judge's own, for models that think first.
    price_in     dollars per million tokens of questions; ``price_out`` of replies.
    concurrency  requests in flight; each takes at most ``timeout`` seconds and is made
                 ``tries`` times.
    """

    backend: Literal["world", "local", "openai"]
    role: str = "judge"
    path: str | None = None
    revision: str | None = None
    unpinned: bool = False
    template: str = "tokenizer"
    dtype: Dtype = "float32"
    model: str | None = None
    url: str | None = None
    against: Literal["unsteered", "reference"] = "unsteered"
    prompts: str | None = None
    benchmarks: list[str] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    price_in: float | None = Field(default=None, ge=0)
    price_out: float | None = Field(default=None, ge=0)
    concurrency: int = Field(default=8, ge=1)
    timeout: float = Field(default=120.0, gt=0)
    tries: int = Field(default=8, ge=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.backend == "local") != (self.path is not None):
            raise ValueError('backend = "local" needs path =, and no other backend takes it')
        if (self.backend == "openai") != (self.model is not None):
            raise ValueError('backend = "openai" needs model =, and no other backend takes it')
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("give both price_in = and price_out =, or neither")
        self.weights()
        return self

    def weights(self) -> Weights | None:
        """Give the judge's model; None where it is behind an endpoint."""
        shared = {"template": self.template, "dtype": self.dtype}
        if self.backend == "openai":
            return None
        if self.backend == "world":
            return Weights(world=self.role, **shared)  # type: ignore[arg-type]
        return Weights(path=self.path, revision=self.revision, unpinned=self.unpinned, **shared)  # type: ignore[arg-type]

    def answers_by(self) -> dict[str, Any]:
        """Give the fields that a reply depends on: not its reading, its price or its speed."""
        asking = {"benchmarks", "against", "prompts", "max_tokens"}
        left_out = asking | {"price_in", "price_out", "concurrency", "timeout", "tries"}
        return self.model_dump(mode="json", exclude=left_out, exclude_defaults=True)

    def verdict_by(self) -> dict[str, Any]:
        """Give the fields that a verdict depends on."""
        more = {"against", "prompts", "max_tokens"}
        return self.answers_by() | self.model_dump(include=more, exclude_defaults=True)


class Divergence(Section):
    """[kl]: how far a row has moved from the base model.

    prompts  how many get samples of their own where answers are not plain samples.
    exact    also list every answer, where the world is small enough: columns for
             the exact reward, the exact KL and the gap to the best there is.
    """

    prompts: int = Field(default=64, ge=0)
    exact: bool = False


class Coherence(Section):
    """[coherence]: the sentence encoder; "policy" is the model's own mean final state."""

    encoder: str | None = None
    revision: str | None = None
    unpinned: bool = False

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.encoder not in (None, "policy"):
            Weights(path=self.encoder, revision=self.revision, unpinned=self.unpinned)
        return self


class Tuning(Section):
    """[tuning]: trials that ``tune`` gives each method; 0 leaves it to the command."""

    trials: int = Field(default=0, ge=0)


def expanded(path: str) -> str:
    """Fill in environment variables and ``~``; an unset variable stays as written."""
    return os.path.expanduser(os.path.expandvars(path))


def _pinned(name: str, revision: str | None, unpinned: bool) -> None:
    if revision is None:
        raise ValueError(
            f"{name} is on the Hub and has no revision; give the 40-digit commit "
            '(or revision = "main" with unpinned = true, which tables then show)'
        )
    if not _SHA.fullmatch(revision) and not unpinned:
        raise ValueError(
            f"revision {revision!r} of {name} is no 40-digit commit and may move; "
            "pin it, or add unpinned = true, which tables then show"
        )
