"""The command ``judge``: stored answers put to any judge, nothing generated again."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer


def judge(
    judge: Annotated[
        str,
        typer.Option(
            "--judge",
            "-j",
            help="A judge of the protocol's [judging], or a judge and who answers for it: "
            "`hh_rlhf_pairwise@openai/gpt-4.1-mini`, `…@local/path/or/hub-name:revision`.",
        ),
    ],
    run: Annotated[
        str,
        typer.Option(
            "--run",
            "-r",
            help="A run's folder, or one above it (a row, a benchmark, a protocol of "
            "results/runs); all newest runs of the protocol if left out.",
        ),
    ] = "",
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="A protocol; the runs' own if left out.")
    ] = "",
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="The endpoint, `…/v1`; else PLUMBLINE_JUDGE_BASE_URL or OPENAI_BASE_URL. The key "
            "is read from PLUMBLINE_JUDGE_API_KEY or OPENAI_API_KEY.",
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="`unsteered`, or `reference`: the set's own.")
    ] = None,
    prices: Annotated[
        str, typer.Option("--prices", help="Dollars per million tokens in and out: `0.4,1.6`.")
    ] = "",
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Requests in flight.", min=1)
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max_tokens", "--max-tokens", help="For models that think first.", min=1),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Of a local judge: float32, bfloat16, float16.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", help="Of a local judge; else its tokenizer's own.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch_size", "--batch-size", help="Of a local judge.", min=1)
    ] = 64,
    device: Annotated[
        str | None, typer.Option("--device", help="Where a local judge runs.")
    ] = None,
    output_path: Annotated[
        Path, typer.Option("--output_path", "--output-path", help="Results folder.")
    ] = Path("results"),
) -> None:
    """Put stored answers to a judge; nothing is generated again.

    One line is printed per run, then what was asked and what it cost; the path of the
    table comes last. Replies are kept: the same command asks only what got no answer.
    """
    from harness.conduct import protocol as protocols
    from harness.conduct import rejudging
    from harness.conduct.setting import Setting
    from harness.report.tables import write_tables
    from harness.report.terms import choose_terms

    place = Path(run) if run else choose_terms(output_path, Path(protocol or "testbed").stem).folder
    folders = rejudging.runs_under(place)
    found = protocols.load(rejudging.protocol_of(folders, protocol))
    given = rejudging.overrides(
        prices, url=url, against=against, concurrency=concurrency, max_tokens=max_tokens,
        dtype=dtype, template=template,
    )  # fmt: skip
    name, how = rejudging.named(judge, found.sections.judging, given)
    setting = Setting(found, device=device, batch_rows=batch_size)
    print(
        rejudging.rejudge(
            setting, folders, name, how, say=functools.partial(print, flush=True)
        ).line,
        flush=True,
    )
    for root, terms in sorted({(f.parents[4], f.parents[2].name) for f in folders}):
        protocol, _, terms_hash = terms.rpartition("-")
        tables = write_tables(root, protocol, terms_hash)
    print(tables[0])
