"""A protocol: the terms of comparison all rows of a table share, one TOML file.

Loading it checks everything that can be checked without a model, so that a
mistake costs a second, not a run.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from harness.conduct import terms
from harness.conduct.store import digest
from harness.errors import PlumblineError, unknown
from harness.records import Json

# What another run of the same terms may change: the words over the table, who judges
# (score files carry the judge's name), and seeds and items (each run's spec carries its own).
UNKEYED = ("about", "judging", "seeds", "data")


class Sections(terms.Section):
    """The whole file."""

    about: terms.About
    model: terms.Policy
    models: dict[str, terms.Weights] = Field(default={})
    rewards: terms.Rewards = terms.Rewards()
    data: dict[str, terms.Data]
    training: terms.Training = terms.Training()
    sampling: terms.Draws = terms.Draws()
    seeds: terms.Seeds = terms.Seeds()
    judging: dict[str, terms.Judging] = Field(default={})
    kl: terms.Divergence = terms.Divergence()
    coherence: terms.Coherence = terms.Coherence()
    tuning: terms.Tuning = terms.Tuning()


@dataclass(frozen=True)
class Protocol:
    """A checked protocol file.

    name       the file's name without .toml; what PROTOCOL= takes.
    file_hash  of the whole file, as printed.
    """

    name: str
    file: Path
    file_hash: str
    sections: Sections

    def terms_hash(self, identities: Mapping[str, Json]) -> str:
        """Hash what keys fits and runs.

        identities  what the names in the file stand for on this machine (fingerprints
                    of folders, a world's recipe, a template's text): two things of one
                    name and other content are other terms.
        """
        keyed = self.sections.model_dump(mode="json", exclude=set(UNKEYED), exclude_defaults=True)
        return digest({"terms": keyed, "identities": dict(identities)})

    def draw(self, benchmark: str | None, own: Mapping[str, Json]) -> dict[str, Json]:
        """Resolve sampling fields: the benchmark's section, then [sampling], then its own rule."""
        sampling = self.sections.sampling
        override = sampling.benchmarks.get(benchmark or "", terms.Draw())
        return {**own, **sampling.given(), **override.given()}

    @property
    def unpinned(self) -> list[str]:
        """Name whatever may change under its name."""
        s = self.sections
        weights: list[tuple[str, terms.Weights | terms.Source | None]] = [
            ("model", s.model),
            *((f"models.{role}", w) for role, w in s.models.items()),
            ("rewards.granted", s.rewards.granted),
            ("rewards.evaluation", s.rewards.evaluation),
            *((f"data.{name}", source) for name, source in s.data.items()),
            ("training.pairs", s.training.pairs),
            ("training.dev", s.training.dev),
            *((f"judging.{name}", judge.weights()) for name, judge in s.judging.items()),
        ]
        places = [place for place, one in weights if one is not None and one.unpinned]
        return places + ["coherence"] * s.coherence.unpinned


def load(file: Path) -> Protocol:
    """Read and check a protocol file; every fault is one line naming section and field."""
    try:
        content = file.read_bytes()
        raw = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise PlumblineError(f"cannot read protocol {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlumblineError(f"{file} is not valid TOML: {error}") from error
    try:
        sections = Sections.model_validate(raw)
    except ValidationError as error:
        raise _explained(file, error) from None
    _consistent(file, sections)
    name_hash = hashlib.blake2b(content).hexdigest()[:10]
    return Protocol(file.stem, file, name_hash, sections)


def _consistent(file: Path, sections: Sections) -> None:
    """Check what no single section can know."""
    for name in sections.sampling.benchmarks:
        if name not in sections.data:
            raise unknown(f"benchmark in {file}, [sampling.{name}]", name, sections.data)
    for judge, judging in sections.judging.items():
        for name in judging.benchmarks or ():
            if name not in sections.data:
                raise unknown(f"benchmark in {file}, [judging.{judge}]", name, sections.data)
    if sections.model.world is None:
        for place, one in _world_users(sections):
            if one.world is not None:
                raise PlumblineError(
                    f"{file}, [{place}]: world = {one.world!r}, but [model] names no world"
                )


def _world_users(sections: Sections) -> list[tuple[str, terms.Weights | terms.Source]]:
    users: list[tuple[str, terms.Weights | terms.Source | None]] = [
        *((f"models.{role}", one) for role, one in sections.models.items()),
        ("rewards.granted", sections.rewards.granted),
        ("rewards.evaluation", sections.rewards.evaluation),
        *((f"data.{name}", one) for name, one in sections.data.items()),
        ("training.pairs", sections.training.pairs),
        ("training.dev", sections.training.dev),
        *((f"judging.{name}", judge.weights()) for name, judge in sections.judging.items()),
    ]
    return [(place, one) for place, one in users if one is not None]


# ---------------------------------------------------------------- error messages


def _explained(file: Path, error: ValidationError) -> PlumblineError:
    faults = error.errors(include_url=False)
    first = faults[0]
    where = [str(step) for step in first["loc"] if not isinstance(step, int)]
    # pydantic calls the per-benchmark tables by the field that holds them
    where = [step for step in where if step != "benchmarks" or where[0] != "sampling"]
    section, field = ".".join(where[:-1]), (where[-1] if where else "")
    place = f"{file}, [{section}] {field}" if section else f"{file}, {field or 'the file'}"
    if isinstance(first["input"], dict) and first["type"] == "value_error":
        place = f"{file}, [{'.'.join(where)}]"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(Sections, first["loc"][:-1])
        what = "field" if section else "section"
        within = f" in {file}" + (f", [{section}]" if section else "")
        return PlumblineError(f"{unknown(what + within, field, known)}{more}")
    if first["type"] == "missing":
        what = "a section that every protocol needs" if not section else "required"
        return PlumblineError(f"{place}: missing; it is {what}{more}")
    message = first["msg"].removeprefix("Value error, ")
    shown = first["input"]
    given = f", not {shown!r}" if isinstance(shown, str | int | float | bool) else ""
    return PlumblineError(f"{place}: {message[:1].lower()}{message[1:]}{given}{more}")


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """List the fields accepted at a place of the file."""
    kind: Any = model
    for step in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(step)].annotation if step in kind.model_fields else None
        else:  # a table of tables: the step is one of its names
            kind = get_args(kind)[1] if get_origin(kind) is dict else kind
        if get_origin(kind) in (Union, UnionType):
            kind = next(k for k in get_args(kind) if k is not type(None))
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    hidden = {"benchmarks"} if kind is terms.Draws else set()
    return [name for name in kind.model_fields if name not in hidden]
