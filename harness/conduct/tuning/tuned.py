"""What a tuning found, stored as ``tuned.json``, and which rows of a command it serves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from harness.conduct import fitting, store
from harness.conduct.setting import Setting
from harness.conduct.tuning.objective import Objective
from harness.conduct.tuning.trials import (
    REFUSED,
    Trial,
    best,
    fields_in_words,
    setting_of,
    standings,
)
from harness.contracts.budget import Chosen
from harness.contracts.method import Stack
from harness.errors import PlumblineError, unknown
from harness.ledger import Ledger
from harness.records import Json

Fields = Literal["tuned", "default", "both"]
Found = Mapping[str, Json]


def fields_option(text: str) -> Fields:
    """Read ``FIELDS=``."""
    for known in get_args(Fields):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise unknown("FIELDS", text, get_args(Fields))


# ---------------------------------------------------------------- what is stored


def result(
    spec: Mapping[str, Json], prompts: int, trials: Sequence[Trial], objective: Objective
) -> dict[str, Json]:
    """Give ``tuned.json``: the fields found, what they score, and what finding them cost.

    spec     the tuning's own.
    prompts  how many development prompts each trial answered.
    """
    found = best(trials, objective)
    known = standings(trials, objective)
    total = Ledger()
    for trial in trials:
        total += trial.ledger
    same = ("protocol", "protocol_hash", "method", "objective", "trials", "seed")
    return {name: spec[name] for name in same} | {
        "code": [part["code"] for part in spec["stack"]],
        "asked": spec["prompts"],
        "prompts": prompts,
        "evaluations": len(trials),
        "settings": len(known),
        "failed": sum(bool(trial.failed) for trial in trials),
        "scores": [one.score if math.isfinite(one.score) else None for one in known],
        "fields": [dict(part) for part in found.fields] if found else None,
        "best": {"reward": found.reward, "kl": found.kl} if found else None,
        "default": None
        if math.isnan(known[0].reward)
        else {"reward": known[0].reward, "kl": known[0].kl},
        "labels": max(trial.labels for trial in trials),
        "ledger": total.to_json(),
    }


def sentence(found: Found) -> str:
    """Say in a line what a tuning found and what it cost."""
    spent = Ledger.from_json(found["ledger"])
    cost = (
        f"{sum(spent.seconds.values()):.0f} s, {sum(spent.tokens.values()):,} tokens, "
        f"{found['labels']} labels"
    )
    start = f"{found['method']}  tuned on {found['objective']} by {found['evaluations']} trials"
    if found["best"] is None:
        return f"{start}: no setting tried stays within the cap, so the defaults stand; {cost}"
    default = found["default"]
    was = "the defaults fail" if default is None else f"{default['reward']:.3f} at the defaults"
    far = "" if found["best"]["kl"] is None else f", KL {found['best']['kl']:.2f}"
    at = fields_in_words(found["fields"])
    return f"{start}: {found['best']['reward']:.3f}{far} at {at}; {was}; {cost}"


# ---------------------------------------------------------------- what a command uses


def rows(
    stacks: Sequence[Stack],
    named: frozenset[str],
    setting: Setting,
    results: store.Store,
    wanted: Fields,
    say: Callable[[str], None],
) -> tuple[Stack, ...]:
    """Put tuned rows in the place of default ones, or beside them; say so, row by row.

    named  labels of rows that name fields of their own, which are left as they are.
    """
    if wanted == "default":
        return tuple(stacks)
    out: list[Stack] = []
    for stack in stacks:
        found = None if stack.label in named else find(stack, setting, results, say)
        if found is None or wanted == "both":
            out.append(stack)
        if found is not None:
            out.append(found)
    return tuple(out)


def find(
    stack: Stack, setting: Setting, results: store.Store, say: Callable[[str], None]
) -> Stack | None:
    """Give a row with the newest fields tuned under these terms, or None.

    Fields of other terms, or found with another version of a method's code, are not used; a
    line says that they exist.
    """
    files = sorted(results.root.glob(f"tuned/*/{stack.name}/*/tuned.json"), key=_written)
    own = [f for f in files if f.parents[2].name == setting.terms]
    code = [fitting.described(part)["code"] for part in stack.parts]
    fresh = [(f, d) for f in own if (d := store.read_json(f))["code"] == code]
    if not fresh:
        others = {f.parents[2].name for f in files} - {setting.terms}
        same = sorted(o for o in others if o.rpartition("-")[0] == setting.protocol.name)
        if own:
            say(f"{stack.label}: tuned fields are not used: its code has changed since; tune again")
        elif same:
            say(
                f"{stack.label}: tuned fields exist for other terms ({', '.join(same)}) and are "
                f"not used under {setting.terms}"
            )
        return None
    file, found = fresh[-1]
    if found["fields"] is None:
        say(f"{stack.label}: no setting tried stayed within {found['objective']}; defaults")
        return None
    try:
        made = setting_of(stack, found["fields"])
    except REFUSED as error:
        raise PlumblineError(f"{file}: {stack.label} refuses these fields: {error}") from error
    made = replace(made, chosen=Chosen(int(found["trials"]), str(found["objective"])))
    say(
        f"{stack.label}: tuned fields ({fields_in_words(found['fields'])}), by {found['trials']} "
        f"trials on {found['objective']}; FIELDS=default runs the defaults"
    )
    return made


def _written(file: Path) -> tuple[float, str]:
    return file.stat().st_mtime, str(file)
