"""Fit a stack left to right, each method on the model as steered by its left neighbours.

A fit is stored under the hash of everything it depends on and never repeated;
a second process that wants it waits and reads it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.conduct import fractions, plugins, store
from harness.conduct.cell import Cell
from harness.conduct.code import code_digest
from harness.conduct.questions import Training
from harness.contracts.budget import Budget, BudgetSpent
from harness.contracts.method import Fitted, Kit, Lab, Named, Stack
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.ledger import Ledger
from harness.records import Json

if TYPE_CHECKING:
    from harness.engine.reward import RewardModel


@dataclass(frozen=True)
class Learned:
    """What the parts of a stack learned, in order.

    fits          folder names of the fits, None where a part learns nothing.
    transductive  some part read the test prompts while it was fitted.
    """

    fitted: tuple[Fitted, ...]
    fits: tuple[str | None, ...]
    transductive: bool


def described(named: Named) -> dict[str, Json]:
    """Say which method, with which fields, as computed by which code."""
    less: dict[str, Json] = {} if named.fraction == 1 else {fractions.FIELD: named.fraction}
    return less | {
        "name": named.name,
        "settings": named.method.settings(),
        "changed": named.changed(),
        "code": code_digest(plugins.source_file(type(named.method))),
    }


def fit(
    results: store.Store, cell: Cell, kit: Kit, training: Training, reward: RewardModel | None
) -> Learned:
    """Fit, or read the stored fit of, every part.

    kit     what the run may use.
    reward  what it is granted, or None; a lab is granted the same.
    """
    fitted: list[Fitted] = []
    fits: list[str | None] = []
    transductive = False
    for i, part in enumerate(cell.stack.parts):
        if not part.method.fits():
            fitted.append(Fitted())
            fits.append(None)
            continue
        left = Stack(cell.stack.parts[:i])
        spec = _spec(cell, part, left, fits, training)
        name = Stack(cell.stack.parts[: i + 1]).name
        folder = results.fit(cell.setting.terms, name, spec)
        with store.opened(folder, spec, f"waiting for another process that fits {name}"):
            if not store.is_done(folder):
                before = left.steer(kit, fitted) if left.parts else Steering()
                _fit(cell, part, _lab(cell, part, before, training, reward, folder), folder)
        learned, read_queries = load(folder)
        fitted.append(learned)
        fits.append(folder.name)
        transductive = transductive or read_queries
    return Learned(tuple(fitted), tuple(fits), transductive)


def _spec(
    cell: Cell, part: Named, left: Stack, fits: Sequence[str | None], training: Training
) -> dict[str, Json]:
    asked = cell.questions
    queries = "queries" in part.method.needs
    # A fit that may try nothing is another fit only of a method that would have tried.
    bound: dict[str, Json] = {"evaluations": 0} if cell.stack.chosen and part.method.tries else {}
    return bound | {
        "protocol": cell.setting.protocol.name,
        "protocol_hash": cell.setting.terms_hash,
        "method": described(part),
        "left": [described(p) | {"fit": f} for p, f in zip(left.parts, fits, strict=True)],
        "model": cell.setting.model.facts(),
        "training": training.digests(),
        "queries": [asked.name, asked.digest()] if queries else None,
        "seed": cell.fit_seed,
    }


def _lab(
    cell: Cell,
    part: Named,
    left: Steering,
    training: Training,
    reward: RewardModel | None,
    folder: Path,
) -> Lab:
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # left by a fit that was killed
    scratch.mkdir()
    lab = Lab(
        cell.setting.model,
        pairs=fractions.nested(training.pairs, part.fraction, cell.fit_seed),
        dev=training.dev,
        queries=cell.questions.prompts if "queries" in part.method.needs else (),
        seed=cell.fit_seed,
        left=left,
        scratch=scratch,
        budget=_budget(cell, part),
        batch_rows=cell.setting.batch_rows,
        reward=reward,
        sampling=Sampling(**cell.setting.protocol.draw(None, {})),
    )
    lab.models = cell.setting.roles
    return lab


def _budget(cell: Cell, part: Named) -> Budget:
    """Let a fit try settings only where it says that it does, and nobody else chooses them."""
    return Budget(None if part.method.tries and cell.stack.chosen is None else 0)


def _fit(cell: Cell, part: Named, lab: Lab, folder: Path) -> None:
    ledger = Ledger()
    try:
        with cell.setting.metered(ledger), ledger.timed("fit"):
            learned = part.method.fit(lab)
    except BudgetSpent as error:
        if part.method.tries:
            raise
        raise PlumblineError(
            f"method {part.name} answers development prompts while it is fitted without saying "
            "so; declare tries = True, and keep to lab.budget"
        ) from error
    finally:
        shutil.rmtree(folder / "scratch", ignore_errors=True)
    if not isinstance(learned, Fitted):
        raise PlumblineError(
            f"method {part.name}: fit returned {type(learned).__name__}; it must return a Fitted"
        )
    if lab.transductive and "queries" not in part.method.needs:
        raise PlumblineError(
            f"method {part.name} reads lab.queries without saying so; add 'queries' to its needs"
        )
    save(folder, part.name, learned, transductive=lab.transductive)
    (folder / "ledger.jsonl").unlink(missing_ok=True)
    labels = len(lab.pairs) if "pairs" in part.method.needs else 0
    store.append(folder / "ledger.jsonl", [ledger.to_json() | {"phase": "fit", "labels": labels}])
    store.mark_done(folder)


def save(folder: Path, name: str, learned: Fitted, *, transductive: bool) -> None:
    """Store tensors as safetensors and facts as JSON; no pickle is written or read."""
    import torch
    from safetensors.torch import save as packed

    for key, tensor in learned.tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise PlumblineError(f"method {name}: fitted tensor {key!r} is no tensor")
    plain = {k: t.detach().cpu().clone().contiguous() for k, t in learned.tensors.items()}
    facts = {"facts": dict(learned.facts), "transductive": transductive}
    try:
        store.canonical(facts)
    except (TypeError, ValueError) as error:
        raise PlumblineError(f"method {name}: its facts cannot be stored: {error}") from error
    store.write_bytes(folder / "fitted.safetensors", packed(plain))
    store.write_json(folder / "facts.json", facts)


def load(folder: Path) -> tuple[Fitted, bool]:
    """Read a stored fit back, and whether it saw the test prompts."""
    from safetensors.torch import load_file

    facts: Mapping[str, Json] = store.read_json(folder / "facts.json")
    tensors = load_file(folder / "fitted.safetensors")
    return Fitted(tensors, facts["facts"]), bool(facts["transductive"])
