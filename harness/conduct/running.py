"""One cell from fit to scores, in a folder that can be killed and taken up again."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness import __version__
from harness.conduct import divergence, fitting, scoring, store
from harness.conduct.ceiling import GoldReward
from harness.conduct.cell import Cell
from harness.conduct.fitting import Learned
from harness.conduct.generating import generate
from harness.conduct.questions import Training
from harness.conduct.setting import Setting
from harness.contracts.method import NEEDS, Fitted, Kit, Stack
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.records import Json

if TYPE_CHECKING:
    from harness.engine.reward import RewardModel


def skip_reason(setting: Setting, stack: Stack) -> str | None:
    """Say what the protocol does not grant, if a method of the stack needs it."""
    sections = setting.protocol.sections
    granted = {
        "pairs": sections.training.pairs is not None,
        "reward": sections.rewards.granted is not None,
        "queries": True,
        "gradients": True,
        "gold": setting.gold is not None or sections.rewards.evaluation is not None,
        "words": sections.model.reads_words,
        "aligned": "aligned" in sections.models,
    }
    lacking = [NEEDS[need] for need in sorted(stack.needs) if not granted[need]]
    return f"the protocol does not grant: {'; '.join(lacking)}" if lacking else None


def preflight(setting: Setting, stacks: Sequence[Stack]) -> None:
    """Refuse, before anything is run, a stack whose parts cannot be put together.

    Only stacks that learn nothing can be tried; any other fault is its cell's own.
    """
    for stack in stacks:
        if any(part.method.fits() for part in stack.parts) or skip_reason(setting, stack):
            continue
        kit, _ = equipped(setting, stack, Sampling(**setting.protocol.draw(None, {})))
        try:
            steerings = [part.method.steer(kit, Fitted()) for part in stack.parts]
        except Exception:  # reported when the cell is run, with its log
            continue
        try:
            sum(steerings, Steering())
        except PlumblineError as error:
            raise PlumblineError(f"{stack.label}: {error}") from error


def run(results: store.Store, cell: Cell, training: Training, reference: Path | None) -> Path:
    """Do whatever of a cell is not done; give its folder.

    reference  the finished run of ``unsteered`` that pairwise judges compare with;
               None where this is it.
    """
    kit, reward = equipped(cell.setting, cell.stack, cell.sampling)
    learned = fitting.fit(results, cell, kit, training, reward)
    steering = cell.stack.steer(kit, learned.fitted)
    kl = divergence.kind(cell, steering)
    spec = specification(cell, learned, steering, kl)
    folder = results.run(cell.setting.terms, cell.questions.name, cell.stack.name, spec)
    waiting = f"waiting for another process that runs {cell.label} on {cell.questions.name}"
    with store.opened(folder, spec, waiting):
        if store.is_done(folder):  # only what was not scored before, by a new judge for one
            found = scoring.score(cell, folder, reference)
            if found:
                _note(folder, "scores", found)
            return folder
        notes = _answered(cell, folder, steering, kl)
        if said := told(cell.stack, learned):
            _note(folder, "fit", said)
        _note(folder, "answers", notes + training.notes if cell.fitted else notes)
        _note(folder, "scores", scoring.score(cell, folder, reference))
        store.mark_done(folder)
    return folder


def _answered(cell: Cell, folder: Path, steering: Steering, kl: divergence.Kind) -> Counter[str]:
    """Generate, and measure KL."""
    store.write_json(folder / "environment.json", environment(cell))
    lines = [store.canonical(store.prompt_line(p)) + "\n" for p in cell.questions.prompts]
    store.write_text(folder / "prompts.jsonl", "".join(lines))
    notes = cell.questions.notes + generate(cell, folder, steering)
    if kl.kind == divergence.EXACT:
        notes.update(divergence.measure(cell, folder, steering))
    _exact(cell, folder, steering)
    return notes


def _exact(cell: Cell, folder: Path, steering: Steering) -> None:
    """Store what a world knows about a steering without sampling, where answers are plain."""
    world, wanted = cell.setting.world, cell.setting.protocol.sections.kl.exact
    if world is None or not wanted or not cell.questions.plain:
        return
    for column, scores in world.exact(cell.setting.model, cell.questions.prompts, steering).items():
        text = "".join(store.canonical(score.to_json()) + "\n" for score in scores)
        store.write_text(folder / f"scores.{column}.jsonl", text)


def told(stack: Stack, learned: Learned) -> dict[str, int]:
    """Give what a reader must know of the fits, from their facts.

    warnings  a fit's own doubts.
    trials    settings it tried on development prompts, the first being to do nothing.
    """
    found: dict[str, int] = {}
    for part, fitted in zip(stack.parts, learned.fitted, strict=True):
        found |= {f"{part.name}: {text}": 1 for text in fitted.facts.get("warnings", ())}
        if trials := fitted.facts.get("trials"):
            rule = fitted.facts.get("chosen_by", "reward")
            found[f"settings {part.name} tried while it was fitted, by granted {rule}"] = (
                len(trials) - 1
            )
    return found


def _note(folder: Path, stage: str, found: Mapping[str, int]) -> None:
    """Keep each stage's notes apart, so that re-scoring does not lose what reading found."""
    store.write_json(folder / f"notes.{stage}.json", dict(found))
    whole: Counter[str] = Counter()
    for part in sorted(folder.glob("notes.*.json")):
        whole.update(store.read_json(part))
    store.write_json(folder / "notes.json", dict(whole))


def equipped(setting: Setting, stack: Stack, sampling: Sampling) -> tuple[Kit, RewardModel | None]:
    """Give what a stack may use under the protocol, and the reward it is granted."""
    reward = setting.granted
    if "gold" in stack.needs:
        gold = setting.gold
        reward = cast("RewardModel", GoldReward(gold)) if gold else setting.evaluation
    kit = Kit(setting.model, reward=reward, sampling=sampling)
    kit.models = setting.roles
    return kit, reward


# ---------------------------------------------------------------- what is recorded


def specification(
    cell: Cell, learned: Learned, steering: Steering, kl: divergence.Kind
) -> dict[str, Json]:
    """Give ``spec.json``: all that could change an answer, and all a table prints."""
    setting, asked = cell.setting, cell.questions
    sections = setting.protocol.sections
    sampling = sorted(set(asked.sampling.values()), key=repr)
    return {
        "protocol": setting.protocol.name,
        "protocol_hash": setting.terms_hash,
        "world": sections.model.world,
        "about": sections.about.text,
        "benchmark": asked.name,
        "title": asked.benchmark.title,
        "cluster": asked.benchmark.cluster,
        "headlines": list(asked.benchmark.headline),
        "method": cell.label,
        "stack": [fitting.described(part) for part in cell.stack.parts],
        "seed": cell.seed,
        "fit_seeds": [cell.fit_seed] if cell.fitted else [],
        "fits": list(learned.fits),
        "limit": cell.limit,
        "items": asked.digest(),
        "tuning": tuning(cell.stack, learned),
        "marks": marks(cell, learned),
        "sampling": {
            "answers": [vars(s) for s in sampling],
            "search": vars(cell.search_sampling) if cell.search_sampling else None,
        },
        "model": setting.model.facts() | {"unpinned": setting.protocol.unpinned},
        "rewards": sections.rewards.model_dump(mode="json", exclude_none=True),
        "optimised": setting.optimised,
        "encoder": setting.instruments.encoder,
        "kl": kl.to_json(),
        "touches": sorted(steering.touches),
    }


def tuning(stack: Stack, learned: Learned) -> dict[str, Json]:
    """Say how many evaluations chose a row's settings, and what they optimised.

    trials  of ``tune``; fit: those that fits made themselves, left out where there are none.
    """
    own = [fitted.facts for fitted in learned.fitted if fitted.facts.get("trials")]
    within = sum(len(facts["trials"]) for facts in own)
    if stack.chosen:
        return {"trials": stack.chosen.trials, "objective": stack.chosen.objective}
    if not within:
        return {"trials": 0, "objective": None}
    return {"trials": 0, "objective": str(own[0].get("chosen_by", "reward")), "fit": within}


def marks(cell: Cell, learned: Learned) -> list[str]:
    """Give the marks a row carries in every table."""
    found = {
        "transductive": learned.transductive,
        "limited": cell.limit is not None,
        "ceiling": "gold" in cell.stack.needs,
        "control": any(part.method.control for part in cell.stack.parts),
    }
    return [mark for mark, present in found.items() if present]


def environment(cell: Cell) -> dict[str, Json]:
    """Say where and with what a run was made; never part of its key."""
    import torch
    import transformers

    device = cell.setting.model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "plumbline": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "platform": platform.platform(),
        "device": f"{device.type}: {name}" if name else device.type,
        "threads": torch.get_num_threads(),
        "batch_rows": cell.setting.batch_rows,
        "git": git_commit(),
        "command": " ".join(sys.argv[1:]),
        "protocol_file": cell.setting.protocol.file_hash,
        "unmeasured": scoring.unmeasured(cell),
    }


@cache
def git_commit() -> str:
    """Give the checkout's commit, with "+" where files differ from it; "" outside one."""
    here = Path(__file__).parent
    try:
        said = [
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return said[0] + ("+" if said[1] else "")
