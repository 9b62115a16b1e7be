"""A few prompts answered to see how fast this machine is; what they cost, and nothing stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.conduct.cell import Cell
from harness.conduct.questions import Questions, ask
from harness.conduct.running import equipped
from harness.conduct.setting import Setting
from harness.contracts.method import Fitted, Stack
from harness.ledger import Ledger
from harness.report.rates import ANSWER, Measured, Rate

PROMPTS = 64  # at most, spread over a benchmark
PATIENCE = 20.0  # seconds; no further batch is begun after them


@dataclass(frozen=True)
class Tried:
    """What came of it.

    measured  what decoding an answer costs, without the time the process waited for a processor.
    touches   what the row touches.
    busy      how many times as long it took with the waiting.
    """

    measured: Measured
    touches: frozenset[str]
    busy: float


def measure(setting: Setting, benchmark: str, stack: Stack, row: str) -> Tried:
    """Answer some prompts with a row that learns nothing."""
    from harness.engine.decoding import Job

    questions = _spread(ask(setting, benchmark), PROMPTS)
    cell = Cell(setting, questions, stack)
    kit, _ = equipped(setting, stack, cell.sampling)
    steering = stack.steer(kit, [Fitted() for _ in stack.parts])
    chats = [prompt.chat for prompt in questions.prompts]
    jobs = [
        Job(prompt.id, prompt.chat, questions.sampling[prompt.id])
        for prompt, seen in zip(questions.prompts, steering.prompted(chats), strict=True)
        if setting.room(seen, questions.sampling[prompt.id])
    ]
    brief = [replace(job, sampling=replace(job.sampling, max_new_tokens=2)) for job in jobs[:4]]
    for _ in setting.decode(brief, steering, 0, cell.search_sampling):
        pass  # the first pass of a process is slow
    ledger, answers = Ledger(), 0
    start, computed = time.perf_counter(), time.process_time()
    with setting.metered(ledger):
        for batch in setting.decode(jobs, steering, 0, cell.search_sampling):
            answers += len(batch)
            if time.perf_counter() - start > PATIENCE:
                break
    seconds = time.perf_counter() - start
    computed = min(seconds, time.process_time() - computed)
    tokens = {f"decode.{role}": n / answers for role, n in ledger.tokens.items()}
    rate = Rate({"decode": computed / answers}, tokens)
    measured = Measured(ANSWER, benchmark, row, rate, answers)
    return Tried(measured, steering.touches, seconds / computed)


def machine(device: str | None) -> str:
    """Name this machine as a run's environment does, as far as its speed goes."""
    import platform

    import torch

    from harness.engine.model import pick_device
    from harness.report.rate_sources import told

    chosen = pick_device(device)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else platform.processor()
    where = f"{chosen.type}: {name}" if name else chosen.type
    return told({"device": where, "threads": torch.get_num_threads()})


def _spread(questions: Questions, count: int) -> Questions:
    """Keep at most so many prompts, at even distances: long ones and short ones."""
    prompts: Sequence[object] = questions.prompts
    step = max(1, -(-len(prompts) // count))
    return replace(questions, prompts=questions.prompts[::step])
