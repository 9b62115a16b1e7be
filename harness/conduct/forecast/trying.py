"""A few prompts answered to see how fast this machine is; what they cost, and nothing stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.conduct.cell import Cell
from harness.conduct.questions import ask
from harness.conduct.running import equipped
from harness.conduct.setting import Setting
from harness.contracts.method import Fitted, Stack
from harness.ledger import Ledger
from harness.report.rates import ANSWER, Measured, Rate

GROWTH = 4
PROMPTS = (4, 16, 64)  # answered in turn, spread over a benchmark, as long as that is quick
PATIENCE = 10.0  # seconds; no further batch is begun after them


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


def measure(
    setting: Setting, benchmark: str, stack: Stack, row: str, prompts: Sequence[int] = PROMPTS
) -> Tried:
    """Answer some prompts with a row that learns nothing: few first, more where it is quick.

    Few prompts make small batches, so a slow row is rated as slower than it is in a long run.

    prompts  how many are answered in turn.
    """
    from harness.engine.decoding import Job

    questions = ask(setting, benchmark)
    cell = Cell(setting, questions, stack)
    kit, _ = equipped(setting, stack, cell.sampling)
    steering = stack.steer(kit, [Fitted() for _ in stack.parts])

    def jobs(count: int) -> list[Job]:
        """Ask so many prompts at even distances: long ones and short ones."""
        some = questions.prompts[:: max(1, -(-len(questions.prompts) // count))]
        seen = steering.prompted([prompt.chat for prompt in some])
        sampling = [questions.sampling[prompt.id] for prompt in some]
        return [
            Job(prompt.id, prompt.chat, how)
            for prompt, chat, how in zip(some, seen, sampling, strict=True)
            if setting.room(chat, how)
        ]

    def spent(asked: Sequence[Job]) -> tuple[Ledger, int, float, float]:
        """Answer, until patience ends: the ledger, answers, seconds, and those computed in."""
        ledger, answers = Ledger(), 0
        start, computed = time.perf_counter(), time.process_time()
        with setting.metered(ledger):
            for batch in setting.decode(asked, steering, 0, cell.search_sampling):
                answers += len(batch)
                if time.perf_counter() - start > PATIENCE:
                    break
        seconds = time.perf_counter() - start
        return ledger, answers, seconds, min(seconds, time.process_time() - computed)

    setting.warm_up([prompt.chat for prompt in questions.prompts])
    for count in prompts:
        ledger, answers, seconds, computed = spent(jobs(count))
        if computed * GROWTH > PATIENCE:
            break
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
