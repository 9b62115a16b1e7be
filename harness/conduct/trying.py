"""A few prompts answered to see how fast this machine is; what they cost, and nothing stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from harness.conduct.cell import Cell
from harness.conduct.questions import Questions, ask
from harness.conduct.running import equipped
from harness.conduct.setting import Setting
from harness.contracts.method import Fitted, Stack
from harness.ledger import Ledger
from harness.report.rates import ANSWER, Measured, Rate

PROMPTS = 64  # at most, spread over a benchmark
PATIENCE = 20.0  # seconds; no further batch is begun after them


def measure(setting: Setting, benchmark: str, stack: Stack, row: str) -> tuple[Measured, set[str]]:
    """Answer some prompts with a row that learns nothing; give its rate and what it touches.

    Only decoding is in the rate.  The first batch is thrown away where it would warm up.
    """
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
    ledger, answers, start = Ledger(), 0, time.perf_counter()
    with setting.metered(ledger):
        for batch in setting.decode(jobs, steering, 0, cell.search_sampling):
            answers += len(batch)
            if time.perf_counter() - start > PATIENCE:
                break
    seconds = (time.perf_counter() - start) / answers
    tokens = {f"decode.{role}": n / answers for role, n in ledger.tokens.items()}
    rate = Rate({"decode": seconds}, tokens)
    return Measured(ANSWER, benchmark, row, rate, answers), set(steering.touches)


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
