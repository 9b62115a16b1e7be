"""The commands ``import`` and ``export``: files of other tools, and runs written as such."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import PlumblineError, unknown

if TYPE_CHECKING:
    from harness.interchange.external import External, Terms
    from harness.interchange.reading import File
    from harness.interchange.stored import Stored

FORMATS = ("alpaca_eval", "fastchat", "lm_eval")

Output = Annotated[
    Path, typer.Option("--output_path", "--output-path", help="Results folder the runs go into.")
]


def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="AlpacaEval's model_outputs.json and annotations.json; FastChat's question.jsonl, "
            "model_answer and model_judgment files; lm-eval's samples and results. Plain or .gz; "
            "what each is, is seen from what is in it."
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            "-p",
            help="Put the runs beside this protocol's own, which must have some: its questions "
            "must be the ones that are answered. Left out, imported runs have tables of their own.",
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Option(
            "--name",
            help="What the row is called; `unsteered` makes it what others are compared with.",
        ),
    ] = "",
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="The baseline's model outputs, or MT-Bench's reference answers, where the other "
            "files do not hold them.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            "-r",
            help="Put annotations to the answers of this run instead of making a row: another "
            "judge's, or people's (annotator `human…`), by which win rates are then corrected. "
            "`export --format alpaca_eval` writes the answers they are about.",
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Accept questions without an answer; they are counted."),
    ] = False,
    output_path: Output = Path("results"),
) -> None:
    """Import answers and verdicts made elsewhere as runs of the same tables.

    One line is printed per run; the path of the table comes last. A run once imported can be
    judged like any other (`judge`), compared and exported.
    """
    from harness.conduct.store import Store
    from harness.interchange import external
    from harness.interchange.reading import read
    from harness.report.tables import write_tables

    if run is not None:
        _attach(run, files)
        return
    results = Store(output_path)
    results.check()
    under = external.terms(results, protocol or None)
    beside = read(reference) if reference else None
    found = _runs([read(path) for path in files], beside, under, name)
    if name and len(found) > 1 and len({one.benchmark for one in found}) == 1:
        raise PlumblineError(f"--name is for one model; these files are of {len(found)}")
    for one in found:
        row = external.renamed(one, name) if name else one
        folder = external.write(results, row, under, partial=partial)
        scored = ", ".join(f"{len(scores)} {column}" for column, scores in row.scores.items())
        print(
            f"{row.benchmark}  {row.model}  {len(row.answers)} answers; "
            f"{scored or 'no scores yet'}; {folder}",
            flush=True,
        )
        notes = row.notes + Counter({external.UNANSWERED: len(row.unanswered)})
        for reason, count in notes.items():
            print(f"{row.benchmark}  {row.model}  {count} {reason}", flush=True)
    print(write_tables(output_path, under.protocol, under.hash)[0], flush=True)


def export_run(
    run: Annotated[Path, typer.Argument(help="A finished run's folder, or a row with one run.")],
    form: Annotated[
        str,
        typer.Option("--format", "-f", help="`alpaca_eval`, `fastchat` or `lm_eval`."),
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder the files are written into.")],
    name: Annotated[
        str, typer.Option("--name", help="What the model is called; the row's name if left out.")
    ] = "",
) -> None:
    """Write a run as files of another tool; prints the path of each.

    AlpacaEval: model_outputs.json, and annotations.json per judge of pairs. FastChat:
    question.jsonl, model_answer and model_judgment. lm-eval: results and samples, each scorer
    being a metric.
    """
    from harness.interchange.stored import read_run

    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    stored = read_run(run)
    write = {"alpaca_eval": _alpaca_eval, "fastchat": _fastchat, "lm_eval": _lm_eval}[form]
    for path in write(stored, to, name or stored.label):
        print(path, flush=True)


# ------------------------------------------------------------------- import


def _attach(run: Path, files: list[Path]) -> None:
    """Put annotations to a run's answers."""
    from harness.conduct.store import Store
    from harness.interchange.labels import attach
    from harness.interchange.reading import read
    from harness.interchange.stored import read_run
    from harness.report.tables import write_tables

    stored = read_run(run)
    for path in files:
        file = read(path)
        if file.kind != "annotations":
            raise PlumblineError(
                f"--run takes AlpacaEval's annotations; {file.name} is {file.kind}"
            )
        column, count = attach(stored, file)
        print(f"{stored.spec['benchmark']}  {stored.label}  {count} {column}", flush=True)
    results = Store.of(stored.folder)
    protocol, terms = str(stored.spec["protocol"]), str(stored.spec["protocol_hash"])
    print(write_tables(results.root, protocol, terms)[0], flush=True)


def _runs(files: list[File], reference: File | None, under: Terms, name: str) -> list[External]:
    from harness.interchange import alpaca, lm_eval, mt_bench
    from harness.interchange.reading import FAMILY

    families = {FAMILY[file.kind] for file in files}
    if len(families) > 1:
        kinds = "; ".join(f"{file.name} is {file.kind}" for file in files)
        raise PlumblineError(f"these files are not of one tool: {kinds}")

    def of(*kinds: str) -> list[File]:
        return [file for file in files if file.kind in kinds]

    (family,) = families
    if family == "lm_eval":
        return lm_eval.external(of("samples"), of("results"), name or None)
    benchmark = {"alpaca_eval": alpaca.BENCHMARK, "fastchat": mt_bench.BENCHMARK}[family]
    asked = under.prompts.get(benchmark)
    if under.prompts and asked is None:
        raise unknown(f"benchmark with runs of protocol {under.protocol}", benchmark, under.prompts)
    if family == "alpaca_eval":
        return [alpaca.external(of("outputs"), of("annotations"), reference, asked)]
    judgments = of("single judgments", "pair judgments")
    return mt_bench.external(of("answers"), judgments, of("questions"), reference, asked)


# ------------------------------------------------------------------- export


def _alpaca_eval(run: Stored, to: Path, name: str) -> list[Path]:
    from harness.conduct import store
    from harness.interchange import alpaca

    written = [_json(to / "model_outputs.json", alpaca.model_outputs(run, name))]
    for column in run.scores:
        if column.startswith("win_rate@"):
            opponent, theirs = run.opponent(column)
            rows = alpaca.annotation_rows(run, column, name, theirs, opponent)
            judge = store.plain(column.partition("@")[2])
            written.append(_json(to / judge / "annotations.json", rows))
    return written


def _fastchat(run: Stored, to: Path, name: str) -> list[Path]:
    from harness.conduct import store
    from harness.interchange import mt_bench

    model = store.plain(name)
    written = [
        _lines(to / "question.jsonl", mt_bench.question_file(run)),
        _lines(to / "model_answer" / f"{model}.jsonl", mt_bench.model_answer(run, name)),
    ]
    for column in run.scores:
        kind, _, judge = column.partition("@")
        if kind not in ("grade", "win_rate"):
            continue
        single = kind == "grade"
        path = to / "model_judgment" / _judgment(mt_bench.by(column), single)
        if path in written:  # one model behind two judges
            path = path.with_name(_judgment(judge, single))
        opponent = "" if single else run.opponent(column)[0]
        rows = (
            mt_bench.single_judgments(run, column, name)
            if single
            else mt_bench.pair_judgments(run, column, name, opponent)
        )
        written.append(_lines(path, rows))
    return written


def _judgment(judge: str, single: bool) -> str:
    from harness.conduct import store

    return f"{store.plain(judge)}_{'single' if single else 'pair'}.jsonl"


def _lm_eval(run: Stored, to: Path, name: str) -> list[Path]:
    from datetime import UTC, datetime

    from harness.conduct import store
    from harness.interchange import lm_eval

    task = str(run.spec["benchmark"])
    done = datetime.fromtimestamp((run.folder / "done").stat().st_mtime, UTC)
    date = done.isoformat(timespec="microseconds").replace(":", "-").partition("+")[0]
    folder = to / store.plain(name)
    aggregated = lm_eval.results(run, task) | {"model_name": name}
    return [
        _json(folder / f"results_{date}.json", aggregated),
        _lines(folder / f"samples_{task}_{date}.jsonl", lm_eval.samples(run)),
    ]


def _json(path: Path, value: object) -> Path:
    import json

    from harness.conduct import store

    store.write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    return path


def _lines(path: Path, rows: list[dict[str, object]]) -> Path:
    import json

    from harness.conduct import store

    store.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
