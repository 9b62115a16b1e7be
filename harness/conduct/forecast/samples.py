"""What drawing frontiers would cost: many unsteered answers to every prompt; none is drawn."""

from __future__ import annotations

from dataclasses import replace

from harness.conduct import store
from harness.conduct.base_answers import BLOCK, SEED, enough
from harness.conduct.forecast.forecasting import Forecast, Forecaster, Say
from harness.conduct.forecast.planned import Planned, asked, parts_of
from harness.conduct.runner import REFERENCE, Order
from harness.conduct.running import skip_reason
from harness.conduct.setting import Setting
from harness.conduct.stacks import stacks
from harness.report.rates import ANSWER, Guess, Rate


def foresee(
    order: Order,
    results: store.Store,
    samples: int,
    *,
    say: Say = print,
    device: str | None = None,
    batch_rows: int = 64,
) -> Forecast:
    """Predict the answers that frontiers are estimated from: a block costs what a search does.

    samples  answers to a prompt, rounded up to whole blocks.
    """
    enough(samples)
    setting = Setting(order.protocol, device=device, batch_rows=batch_rows)
    (block,) = stacks(f"best_of_n(n={BLOCK})")
    alike: tuple[str, ...] = (REFERENCE,)
    share = 1.0
    if skip_reason(setting, block) is None:
        alike, share = parts_of(block), 1 / BLOCK
    source = Forecaster(setting, replace(order, stacks=(order.stacks[0], block)), results, say)
    blocks = -(-samples // BLOCK)
    lines = []
    for name in order.benchmarks:
        prompts = asked(setting, name)
        ids = None if prompts is None else {prompt.id for prompt in prompts[: order.limit]}
        count = None if ids is None else len(ids) * blocks * BLOCK
        done = _stored(results, setting, name, ids or set(), blocks) * BLOCK
        row = f"{REFERENCE}, {blocks * BLOCK} answers to a prompt"
        one = Planned(ANSWER, name, row, alike, SEED, None, count, done, share=share)
        lines.append(one)
    guesses = tuple(_drawn(source.rates.answer(line.benchmark, line.parts)) for line in lines)
    return Forecast(tuple(lines), guesses, tuple(source.notes), source.pace, source.busy)


def _drawn(guess: Guess) -> Guess:
    """Take what answering costs, rewards included: no judge is asked about a base answer."""
    if guess.rate is None:
        return guess
    tokens = {k: v for k, v in guess.rate.tokens.items() if k.startswith("decode.")}
    return replace(guess, rate=Rate({"decode": guess.rate.seconds.get("decode", 0.0)}, tokens))


def _stored(
    results: store.Store, setting: Setting, benchmark: str, ids: set[str], blocks: int
) -> int:
    """Count the blocks of these prompts that lie there, by the newest drawing."""
    files = results.frontier(setting.terms, benchmark, {}).parent.glob("*/answers.jsonl")
    newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
    lines = store.read_lines(newest) if newest else []
    return len(
        {(n["prompt"], n["block"]) for n in lines if n["prompt"] in ids and n["block"] < blocks}
    )
