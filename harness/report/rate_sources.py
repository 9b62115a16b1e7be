"""Where rates are from: the ledgers of finished runs and fits, and tables made of them.

A table lies beside its protocol as ``<protocol>.rates.csv``.  It is written from a results folder:
``python -m harness.report.rate_sources results testbed-<hash> testbed.rates.csv``.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.conduct import store
from harness.ledger import Ledger
from harness.records import Json
from harness.report.markup import to_csv
from harness.report.rates import ANSWER, FIT, Measured, Rate, Rates, added


def read_runs(terms: Path, machine: str = "") -> Rates:
    """Read the rates of every finished run and fit under some terms.

    terms    results/runs/<protocol>-<hash>.
    machine  what the seconds must have been measured on; "" for any.
    """
    spent: dict[tuple[str, str, str], list[tuple[Rate, int, str]]] = {}
    seen: dict[str, tuple[str, int]] = {}  # fit -> machine, answers of the run that used it
    for spec_file in sorted(terms.glob("*/*/*/spec.json")):
        folder = spec_file.parent
        environment = folder / "environment.json"
        if not store.is_done(folder) or not environment.exists():
            continue
        spec, made = store.read_json(spec_file), told(store.read_json(environment))
        answers = len(store.read_lines(folder / "responses.jsonl"))
        if not answers or machine not in ("", made):
            continue
        for fit in spec.get("fits") or ():
            if fit:
                seen.setdefault(fit, (made, answers))
        key = (ANSWER, str(spec["benchmark"]), label(spec["stack"]))
        spent.setdefault(key, []).append((_spent(folder), answers, made))
    for spec_file in sorted(_fits(terms).glob("*/*/spec.json")):
        folder = spec_file.parent
        if folder.name not in seen or not store.is_done(folder):
            continue
        spec, (made, answers) = store.read_json(spec_file), seen[folder.name]
        benchmark = str(spec["queries"][0]) if spec.get("queries") else ""
        key = (FIT, benchmark, label([*spec["left"], spec["method"]]))
        reads = answers if benchmark else 1  # of a fit that reads prompts, what one of them costs
        spent.setdefault(key, []).append((_spent(folder), reads, made))
    lines = []
    for (kind, benchmark, row), found in spent.items():
        total, count = Rate(), sum(n for _, n, _ in found)
        for rate, _, _ in found:
            total = added(total, rate)
        lines.append(Measured(kind, benchmark, row, total.times(1 / count), count, found[-1][2]))
    return Rates(lines)


def _fits(terms: Path) -> Path:
    return terms.parent.parent / "fits" / terms.name


def _spent(folder: Path) -> Rate:
    total, tokens = Ledger(), dict[str, float]()
    for line in store.read_lines(folder / "ledger.jsonl"):
        ledger = Ledger.from_json(line)
        phase = str(line.get("phase", "decode"))
        for role, count in ledger.tokens.items():
            tokens[f"{phase}.{role}"] = tokens.get(f"{phase}.{role}", 0.0) + count
        total += ledger
    return Rate(total.seconds, tokens)


def told(environment: Mapping[str, Json]) -> str:
    """Name a machine as far as its speed goes."""
    return f"{environment.get('device')}, {environment.get('threads')} threads"


def label(stack: Sequence[Mapping[str, Json]]) -> str:
    """Give a row's label from what a spec says of its parts, their fields by name."""
    written = []
    for part in stack:
        fields = sorted((part.get("changed") or {}).items())
        changed = ",".join(f"{name}={_python(value)}" for name, value in fields)
        written.append(f"{part['name']}({changed})" if changed else str(part["name"]))
    return "+".join(written)


def _python(value: Json) -> object:
    """Turn the lists of JSON back into the tuples of a label."""
    return tuple(map(_python, value)) if isinstance(value, list) else value


def to_table(rates: Rates) -> str:
    """Write rates as CSV."""
    lines = sorted(rates.lines.values(), key=lambda m: (m.kind, m.benchmark, m.row))
    return to_csv(
        [
            {"kind": m.kind, "benchmark": m.benchmark, "row": m.row, "count": m.count}
            | {"machine": m.machine}
            | {f"seconds_{k}": v for k, v in m.rate.seconds.items()}
            | {f"tokens_{k}": v for k, v in m.rate.tokens.items()}
            for m in lines
        ]
    )


def from_table(path: Path) -> Rates:
    """Read rates back from CSV."""
    found = []
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            amounts = {
                what: {
                    name.removeprefix(f"{what}_"): float(text)
                    for name, text in line.items()
                    if name.startswith(f"{what}_") and text
                }
                for what in ("seconds", "tokens")
            }
            rate = Rate(amounts["seconds"], amounts["tokens"])
            found.append(
                Measured(
                    line["kind"], line["benchmark"], line["row"], rate, int(line["count"]),
                    line["machine"],
                )
            )  # fmt: skip
    return Rates(found)


def main(results: str, terms: str, table: str) -> None:
    """Write the rates of a results folder as a table that can lie beside a protocol."""
    rates = read_runs(Path(results) / "runs" / terms)
    store.write_text(Path(table), to_table(rates))


if __name__ == "__main__":
    main(*sys.argv[1:])
