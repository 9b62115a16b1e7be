"""Which settings are tried: the defaults first, then points spread over the declared space.

The points come from Optuna's quasi-random sampler (scrambled Sobol), which spreads few trials
more evenly than chance does.  They depend on the space and the seed alone, never on a result:
a tuning that was killed proposes the same again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_type_hints

from harness.conduct import coerce
from harness.conduct.store import canonical
from harness.conduct.tuning.trials import REFUSED
from harness.contracts.method import Named, Stack
from harness.errors import PlumblineError, unknown
from harness.records import Json

PATIENCE = 64  # points drawn for one unseen setting, before the unseen are listed in order

Values = tuple[Json, ...]  # one per axis


@dataclass(frozen=True)
class Axis:
    """One field of one part of a stack, and the values worth trying."""

    part: int
    method: str
    field: str
    values: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Name it apart from the same field of another part."""
        return f"{self.part}.{self.method}.{self.field}"


@dataclass(frozen=True)
class Proposals:
    """Settings to be tried, each once; the first is the defaults.

    refused  combinations of declared values that a method refuses.
    """

    stacks: tuple[Stack, ...]
    refused: int = 0


def axes(stack: Stack) -> list[Axis]:
    """Read the search spaces of a stack's parts.

    Raises PlumblineError for a field that does not exist, no values, and a value that the
    field or the method refuses.
    """
    found = []
    for number, part in enumerate(stack.parts):
        cls = type(part.method)
        hints = get_type_hints(cls)
        for field, values in cls.search_space.items():
            if field not in part.method.settings():
                raise unknown(
                    f"field in the search space of {part.name}", field, part.method.settings()
                )
            if not values:
                raise PlumblineError(f"the search space of {part.name}.{field} has no values")
            for value in values:
                _accepted(part, field, value, hints[field])
            found.append(Axis(number, part.name, field, tuple(dict.fromkeys(values))))
    return found


def _accepted(part: Named, field: str, value: Any, hint: Any) -> None:
    said = f"the search space of {part.name} has {field}={value!r}"
    if isinstance(value, str | int | float | bool | None):
        try:
            if coerce.coerce(str(value), hint) != value:
                raise coerce.UnfitError
        except coerce.UnfitError:
            raise PlumblineError(f"{said}, which is not {coerce.accepted(hint)}") from None
    try:
        replace(part.method, **{field: value})
    except REFUSED as error:
        raise PlumblineError(f"{said}, which the method refuses: {error}") from error


def proposals(stack: Stack, space: Sequence[Axis], count: int, seed: int) -> Proposals:
    """Give up to ``count`` different settings; fewer where the space has no more."""
    found = {_identity(stack): stack}
    refused: set[Values] = set()
    points = _spread(space, seed)
    listed = product(*(axis.values for axis in space))
    while len(found) < count:
        new = None
        for _ in range(PATIENCE):
            new = _unseen(stack, space, next(points), found, refused)
            if new is not None:
                break
        while new is None:  # nearly everything was seen: take what is left in order
            values = next(listed, None)
            if values is None:
                return Proposals(tuple(found.values()), len(refused))
            new = _unseen(stack, space, values, found, refused)
        found[_identity(new)] = new
    return Proposals(tuple(found.values()), len(refused))


def at(stack: Stack, space: Sequence[Axis], values: Values) -> Stack:
    """Set a stack's fields; raises what a method raises that refuses them together."""
    parts = list(stack.parts)
    for number, part in enumerate(parts):
        fields = {a.field: v for a, v in zip(space, values, strict=True) if a.part == number}
        parts[number] = replace(part, method=replace(part.method, **fields))
    return replace(stack, parts=tuple(parts))


def _unseen(
    stack: Stack,
    space: Sequence[Axis],
    values: Values,
    found: dict[str, Stack],
    refused: set[Values],
) -> Stack | None:
    try:
        made = at(stack, space, values)
    except REFUSED:
        refused.add(values)
        return None
    return None if _identity(made) in found else made


def _identity(stack: Stack) -> str:
    """Write what is set, without fields that change nothing beside the others."""
    return canonical(
        [
            {k: v for k, v in part.method.settings().items() if k not in part.method.unused()}
            for part in stack.parts
        ]
    )


def _spread(space: Sequence[Axis], seed: int) -> Iterator[Values]:
    """Draw points of the space without end."""
    import optuna
    from optuna.distributions import BaseDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    grid: dict[str, BaseDistribution] = {
        axis.name: IntDistribution(0, len(axis.values) - 1) for axis in space
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sampler is called experimental
        study = optuna.create_study(sampler=optuna.samplers.QMCSampler(seed=seed, scramble=True))
        corner = dict.fromkeys(grid, 0)  # the sampler learns what the axes are from a past trial
        study.add_trial(optuna.trial.create_trial(params=corner, distributions=grid, value=0.0))
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = study.ask(grid)
            study.tell(trial, 0.0)
        yield tuple(axis.values[trial.params[axis.name]] for axis in space)
