"""The command line: read the words, call the runner or the tables, print one line per finding."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from harness.commands.curve import curve
from harness.commands.frontier import frontier
from harness.commands.interchange import export_run, import_files
from harness.commands.judge import judge
from harness.commands.matrix import matrix
from harness.commands.options import (
    BothSeeds,
    Device,
    DryRun,
    FitSeeds,
    Output,
    Terms,
    ended,
    foretold,
    said,
    seeds_of,
)
from harness.commands.sweep import sweep
from harness.commands.tax import tax
from harness.commands.tune import tune
from harness.errors import PlumblineError

app = typer.Typer(
    name="plumbline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Hold test-time alignment methods against each other on equal terms.\n\n"
    "Start with `python -m harness list`, then "
    "`python -m harness bench --method prompting,best_of_n`. The first run builds the testbed "
    "(a few minutes, once a machine); the path of the table is printed last.",
)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Let a user see one line and an exit code, never a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except PlumblineError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print(
                "\ninterrupted: finished work is kept; the same command goes on from there",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            from harness.conduct.logs import write_log

            log = write_log(kwargs.get("output_path") or Path("results"), error)
            print(
                f"error: {type(error).__name__}: {' '.join(str(error).split())} "
                f"(not foreseen; traceback in {log})",
                file=sys.stderr,
            )
            raise typer.Exit(1) from None

    return run


@app.command()
@guarded
def bench(
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help="Rows, separated by commas: `a`, `b(field=value,field=value)`, a stack `a+b` "
            "(fitted left to right), a file `path/to/mine.py`, or `all`. "
            "`unsteered` is always run too: it is what the others are compared with.",
        ),
    ],
    protocol: Terms = "testbed",
    bench: Annotated[
        str,
        typer.Option(
            "--bench",
            "--tasks",
            "-b",
            help="Benchmarks, separated by commas; all of the protocol's if left out.",
        ),
    ] = "",
    set: Annotated[
        str,
        typer.Option("--set", help="Fields for all rows: `best_of_n.n=16 prompting.shots=2`."),
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-L", help="Only the first so many prompts; the rows are marked."),
    ] = None,
    seed: Annotated[
        str, typer.Option("--seed", help="Sampling seeds, such as `0` or `0,1,2`.")
    ] = "",
    fit_seed: FitSeeds = "",
    seeds: BothSeeds = "",
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch_size",
            "--batch-size",
            help="Rows decoded together (halved by itself when memory runs out). "
            "Changes no answer.",
            min=1,
        ),
    ] = 64,
    fields: Annotated[
        str,
        typer.Option(
            "--fields",
            help="`tuned`: rows that name no field use what `tune` found under these terms, "
            "where it did, and a line says so; `default`: they never do; `both`: a row each.",
        ),
    ] = "tuned",
    tune_first: Annotated[
        str,
        typer.Option(
            "--tune_first",
            "--tune-first",
            help="Methods and stacks that `tune` is to choose fields for before, separated by "
            "commas: by the protocol's trials, on the granted reward.",
        ),
    ] = "",
    write: Annotated[
        bool,
        typer.Option(
            "--tables/--no-tables", help="Whether to write tables; `tables` does it later too."
        ),
    ] = True,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", min=1, help="With --dry-run: so many processes would share the work."
        ),
    ] = 1,
    device: Device = None,
    output_path: Output = Path("results"),
    dry_run: DryRun = False,
) -> None:
    """Run methods on benchmarks and write the tables.

    Whatever is finished is not done again; a run that was killed goes on where it was.
    One line is printed per cell: benchmark, method, headline ± 95 % interval, difference
    to `unsteered`, number of items, seconds. The path of the overall table comes last.
    """
    from harness.conduct import runner
    from harness.conduct.store import Store
    from harness.conduct.tuning import objective
    from harness.conduct.tuning import search as tuning
    from harness.conduct.tuning.tuned import fields_option

    which = fields_option(fields)
    sampling, fitting = seeds_of(seed, fit_seed, seeds)
    order = runner.order(
        method,
        protocol,
        benchmarks=bench,
        settings=set,
        seeds=sampling,
        fit_seeds=fitting,
        limit=limit,
    )
    first = None
    if tune_first:
        plain = runner.order(tune_first, protocol, seeds="0")
        first = tuning.plan(plain, objective.parse("reward"), None, None)
    if dry_run:
        return foretold(order, output_path, device, batch_size, which, after=first, jobs=jobs)
    results = Store(output_path)
    failures: list[str] = []
    if first:
        tuned = tuning.tune(first, results, say=said, device=device, batch_rows=batch_size)
        failures += tuned.failures
    outcome = runner.bench(
        order,
        results,
        say=said,
        device=device,
        batch_rows=batch_size,
        fields=which,
        tables=write,
    )
    return ended(outcome.tables, [*failures, *outcome.failures])


@app.command("list")
@guarded
def list_() -> None:
    """Show every method, benchmark, protocol, judge, metric and world, one line each."""
    from harness.conduct import plugins

    console = Console(highlight=False, soft_wrap=True)
    for title, found, use in (
        ("methods", plugins.methods(), "METHOD="),
        ("benchmarks", plugins.benchmarks(), "BENCH="),
        ("protocols", plugins.protocols(), "PROTOCOL="),
        ("judges", plugins.judges(), "JUDGE=, or [judging] of a protocol"),
        ("metrics", plugins.metrics(), "run wherever they can"),
        ("worlds", plugins.worlds(), "[model] world = of a protocol"),
    ):
        console.print(f"[bold]{title}[/bold] ({use.replace('[', chr(92) + '[')})")
        width = max((len(one.name) for one in found), default=0)
        for one in found:
            console.print(f"  {one.name:<{width}}  {one.about}", markup=False)


@app.command()
@guarded
def tables(
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="A protocol; all that have runs if left out.")
    ] = "",
    hash: Annotated[
        str, typer.Option("--hash", help="Which terms of that protocol; the newest if left out.")
    ] = "",
    output_path: Output = Path("results"),
) -> None:
    """Write the tables again from what is stored; nothing is generated or scored."""
    from harness.conduct.store import Store
    from harness.report.tables import write_tables

    names = [protocol] if protocol else Store(output_path).protocols()
    if not names:
        raise PlumblineError(
            f"no runs under {output_path / 'runs'}; `make bench METHOD=unsteered` makes some"
        )
    for name in names:
        said(str(write_tables(output_path, name, hash or None)[0]))


@app.command()
@guarded
def check(
    method: Annotated[
        str, typer.Option("--method", "-m", help="A method's name or the path of its file.")
    ],
) -> None:
    """Hold a method against the contract every method keeps, on a tiny random model."""
    from harness.conduct import plugins
    from harness.conduct.check import Subject
    from harness.conduct.check import check as clauses

    name, cls, _ = plugins.method_class(method)
    broken = 0
    for finding in clauses(Subject(name, cls)):
        broken += finding.problem is not None
        said(f"  {'ok  ' if finding.problem is None else 'FAIL'}  {finding.about}")
        if finding.problem is not None:
            said(f"        {finding.problem}")
    if broken:
        raise PlumblineError(f"{name} breaks {broken} clause{'s' * (broken > 1)} of the contract")
    said(f"{name} keeps the contract")


@app.command()
@guarded
def compare(
    a: Annotated[str, typer.Option("--a", "-a", help="A row's label, or the folder of a run.")],
    b: Annotated[str, typer.Option("--b", "-b", help="The row it is held against.")],
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="Whose rows the labels are.")
    ] = "testbed",
    hash: Annotated[
        str, typer.Option("--hash", help="Which terms of that protocol; the newest if left out.")
    ] = "",
    bench: Annotated[
        str,
        typer.Option("--bench", "--tasks", help="One benchmark; all that both ran if left out."),
    ] = "",
    output_path: Output = Path("results"),
) -> None:
    """Put two rows side by side: differences, flips with both answers, where they part most.

    One line is printed per benchmark; the path of the page comes last, the CSV beside it has
    every answer.
    """
    from harness.report import duel, side_by_side

    first, second = (duel.find(output_path, protocol, name, hash or None) for name in (a, b))
    found = duel.duels(first, second, bench)
    for one in found:
        said(side_by_side.sentence(one))
    said(str(side_by_side.write(found, output_path / "compare" / protocol)[-1]))


@app.command()
@guarded
def calibrate(
    judge: Annotated[str, typer.Option("--judge", "-j", help="A judge under [judging].")],
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="The protocol that says who answers for it.")
    ] = "testbed",
    sets: Annotated[
        str,
        typer.Option(
            "--sets",
            help="Label files or folders, separated by commas: LLMBar, HHH, HH-RLHF, MT-Bench's "
            "votes, or your own {question, answer_a, answer_b, label}. Left out: what lies in "
            "the cache's folder `labels`, and on a world its pairs, labelled by its truth.",
        ),
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", "-L", help="Pairs of each set; 0 for all.", min=0)
    ] = 200,
    repeats: Annotated[
        int, typer.Option("--repeats", help="Pairs asked twice, for self-consistency.", min=0)
    ] = 50,
    device: Annotated[
        str | None, typer.Option("--device", help="Where a local judge runs.")
    ] = None,
    output_path: Output = Path("results"),
) -> None:
    """Hold a judge against labels: agreement, kappa, flips, taste for length, consistency.

    One line is printed per set; the tables cite the file, whose path comes last.
    """
    from harness.conduct import calibrating, plugins
    from harness.conduct import protocol as protocols
    from harness.conduct.setting import Setting

    setting = Setting(protocols.load(plugins.protocol_file(protocol)), device=device)
    calibrating.judging_of(setting, judge)
    files = [name.strip() for name in sets.split(",") if name.strip()]
    found = calibrating.label_sets(setting, files, limit, said)
    path = calibrating.calibrate(judge, setting, found, output_path, repeats=repeats, say=said)
    said(str(path))


@app.command("new-method")
@guarded
def new_method(
    name: Annotated[str, typer.Option("--name", help="What METHOD= will say; a Python name.")],
    folder: Annotated[Path, typer.Option("--folder", help="The checkout.")] = Path(),
) -> None:
    """Write a small method that works, with its test, to be changed into yours."""
    from harness.conduct.scaffold import write

    for file in write(name, folder):
        said(str(file))
    said(f"now: make check METHOD={name}; make bench METHOD={name} LIMIT=32")


app.command()(guarded(judge))
app.command()(guarded(tax))
app.command()(guarded(sweep))
app.command()(guarded(frontier))
app.command()(guarded(curve))
app.command()(guarded(matrix))
app.command()(guarded(tune))
app.command("import")(guarded(import_files))
app.command("export")(guarded(export_run))


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
