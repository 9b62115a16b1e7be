"""Which results a table is made of: one protocol under one hash, never two."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import PlumblineError
from harness.report.frames import finished


@dataclass(frozen=True)
class Terms:
    """The runs of one protocol under one hash.

    folder    results/runs/<protocol>-<hash>.
    others    other hashes of the same protocol that also have finished runs.
    complete  whether every run begun under this hash was finished.
    """

    folder: Path
    protocol: str
    hash: str
    others: tuple[str, ...] = ()
    complete: bool = True

    @property
    def benchmarks(self) -> list[Path]:
        """Give the folders of the benchmarks, by name."""
        return sorted(path for path in self.folder.iterdir() if path.is_dir())


def choose_terms(results: Path, protocol: str, hash: str | None = None) -> Terms:
    """Find the hash asked for, or else the newest complete one, or else the newest.

    Raises PlumblineError where the protocol, or that hash, has no finished run.
    """
    pattern = re.compile(re.escape(protocol) + r"-([0-9a-f]{10})")
    runs = results / "runs"
    folders = {
        found[1]: path
        for path in (sorted(runs.iterdir()) if runs.is_dir() else [])
        if path.is_dir() and (found := pattern.fullmatch(path.name))
    }
    state = {name: _state(path) for name, path in folders.items()}
    known = [name for name, (written, _) in state.items() if written > 0]
    if not known:
        raise PlumblineError(
            f"no finished run of protocol {protocol!r} under {runs}; "
            f"`make bench METHOD=unsteered PROTOCOL={protocol}` makes one"
        )
    if hash is not None and hash not in known:
        raise PlumblineError(
            f"protocol {protocol!r} has no finished run under hash {hash!r}; "
            f"it has {', '.join(sorted(known))}"
        )
    chosen = hash or max(known, key=lambda name: (state[name][1], state[name][0], name))
    others = tuple(sorted(set(known) - {chosen}))
    return Terms(folders[chosen], protocol, chosen, others, state[chosen][1])


def _state(folder: Path) -> tuple[float, bool]:
    """Give when the newest run was finished, and whether all were."""
    times = [finished(spec.parent) for spec in folder.glob("*/*/*/spec.json")]
    return max(times, default=0.0), bool(times) and min(times) > 0
