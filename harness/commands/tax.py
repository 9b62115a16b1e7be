"""The command ``tax``: what methods cost in abilities they were not meant to change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Device, Fields, Output, ended, said
from harness.errors import PlumblineError


def tax(
    method: Annotated[
        str,
        typer.Option("--method", "-m", help="Rows, as `bench` takes them; `unsteered` is added."),
    ],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            "-t",
            help="lm-eval tasks or groups, separated by commas, or paths of YAML files. Offline: "
            "`testbed_tools`, `testbed_steps`, `testbed_dialogues`.",
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option("--protocol", "-p", help="The terms rows are fitted under: a name or a file."),
    ] = "testbed",
    include_path: Annotated[
        Path | None,
        typer.Option("--include_path", "--include-path", help="A folder of further task files."),
    ] = None,
    bench: Annotated[
        str,
        typer.Option(
            "--bench",
            "-b",
            help="Whose prompts a transductive method reads; the protocol's first if left out.",
        ),
    ] = "",
    set: Fields = "",
    num_fewshot: Annotated[
        int | None,
        typer.Option("--num_fewshot", "--num-fewshot", help="Examples before each item."),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--plain",
            help="Render contexts in the model's chat template, or leave them as plain text; "
            "if left out, as the task's own file says (`metadata: chat: true`), else plain.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-L", help="Only the first so many items.")
    ] = None,
    seed: Annotated[
        str, typer.Option("--seed", help="Seed of whatever a task samples; one number.")
    ] = "",
    batch_size: Annotated[
        int, typer.Option("--batch_size", "--batch-size", help="Texts computed together.", min=1)
    ] = 64,
    device: Device = None,
    output_path: Output = Path("results"),
) -> None:
    """Evaluate methods on lm-eval tasks: capability change against unsteered.

    Methods are fitted as `bench` fits them. Log-likelihood, rolling and generation tasks; a
    method that searches among candidates has no density and skips the first two, with the
    reason. A method's words come before a context as the task's own system text would.
    One line is printed per row and task; the path of the table comes last.
    """
    from harness.capability.taxing import Manner
    from harness.capability.taxing import tax as run
    from harness.conduct import runner
    from harness.conduct.store import Store

    order = runner.order(method, protocol, benchmarks=bench, settings=set, seeds=seed, limit=limit)
    if len(order.seeds) > 1 and seed:
        raise PlumblineError(f"SEED is {seed!r}; this command takes one number")
    outcome = run(
        order,
        tasks,
        Store(output_path),
        say=said,
        manner=Manner(limit, num_fewshot, chat),
        include=include_path,
        device=device,
        batch_rows=batch_size,
    )
    ended(outcome.tables, outcome.failures)
