"""How long tables and figures take from a finished store: ``rendering.py results [protocol]``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from harness.conduct.store import Store
from harness.report.tables import write_tables

AT_MOST = 20.0  # seconds of the processor


def main() -> None:
    """Write the tables of every protocol twice: as it is found, then with every run kept."""
    if len(sys.argv) < 2 or not Store(Path(sys.argv[1])).protocols():
        print("tables: no results folder with runs was named; none rendered")
        return
    results = Path(sys.argv[1])
    for protocol in sys.argv[2:] or Store(results).protocols():
        for time_of in ("first", "again"):
            start, wall = time.process_time(), time.perf_counter()
            written = write_tables(results, protocol)
            spent, wall = time.process_time() - start, time.perf_counter() - wall
            verdict = "ok" if spent <= AT_MOST else "ABOVE AIM"
            print(
                f"tables of {protocol}, {time_of}: {len(written)} files, {spent:5.1f} s of the "
                f"processor, {wall:5.1f} s  (aim <= {AT_MOST:.0f})  {verdict}"
            )
    heavy = sorted({"torch", "pandas", "transformers"} & set(sys.modules))
    print(f"heavy packages loaded: {', '.join(heavy) or 'none'}")


if __name__ == "__main__":
    main()
