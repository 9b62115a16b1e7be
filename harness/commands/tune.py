"""The command ``tune``: the same number of trials for every method, all of them counted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import (
    BatchRows,
    Device,
    DryRun,
    Output,
    Terms,
    ended,
    said,
    say_forecast,
)


def tune(
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help="Methods and stacks by name, separated by commas, or `all`; each is given the "
            "same trials, prompts and objective.",
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials",
            "-n",
            help="Evaluations of each method, the defaults being the first; the protocol's "
            "`[tuning] trials` if left out, or 8.",
        ),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            help="`reward`, the granted one on development prompts, or `reward@kl<=4`: among "
            "settings at most 4 nats from the unsteered model.",
        ),
    ] = "reward",
    protocol: Terms = "testbed",
    prompts: Annotated[
        int | None,
        typer.Option("--prompts", help="Development prompts of each trial; 64 if there are."),
    ] = None,
    seed: Annotated[
        str, typer.Option("--seed", help="Seed of the search and of sampling; one number.")
    ] = "",
    batch_size: BatchRows = 64,
    device: Device = None,
    output_path: Output = Path("results"),
    dry_run: DryRun = False,
) -> None:
    """Choose every method's settings by the same number of trials, on the clock.

    Settings are spread over the space a method declares; the truth, the evaluation reward and
    the benchmarks' prompts are never read. A method that would try settings while it is fitted
    takes its usual one instead. Finished trials are kept: a tuning that was killed goes on.
    `bench` then uses the fields found. One line is printed per trial and per method; the path
    of the figure (score against budget) comes last, its CSV beside it.
    """
    from harness.conduct import runner
    from harness.conduct.forecast import trials as foreseen_trials
    from harness.conduct.store import Store
    from harness.conduct.tuning import objective as objectives
    from harness.conduct.tuning import search as tuning
    from harness.report import budget

    order = runner.order(method, protocol, seeds=seed or "0")
    plan = tuning.plan(order, objectives.parse(objective), trials, prompts)
    results = Store(output_path)
    if dry_run:
        found = foreseen_trials.foresee(
            plan, results, say=said, device=device, batch_rows=batch_size
        )
        return say_forecast(found)
    outcome = tuning.tune(plan, results, say=said, device=device, batch_rows=batch_size)
    written = budget.write(outcome.folders) if outcome.folders else []
    return ended(written[-1:], outcome.failures)
