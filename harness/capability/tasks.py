"""Find the tasks of a command: those shipped here, those of a folder, those of lm-eval.

Reading the index of all of lm-eval's fourteen thousand tasks takes half a minute, so a name
is first looked up in the text of their files, and one task is read from its own folder.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.conduct.plugins import package_folder
from harness.errors import PlumblineError

_NAMED = re.compile(
    r"""^\s*(?:-\s*)?["']?(task|group|tag)["']?\s*:\s*["']?([^"'#\[\]{}&*\n]+?)["']?\s*(?:\#.*)?$""",
    re.MULTILINE,
)
PACKAGED = ("json", "csv", "text", "parquet", "arrow")  # readers of files that are at hand
LOGGERS = ("lm_eval", "huggingface_hub", "datasets")


@dataclass(frozen=True)
class Asked:
    """A name as it was asked for: one task, or a group with all its tasks.

    loaded  what ``lm_eval.evaluator.evaluate`` takes.
    """

    name: str
    loaded: Mapping[str, Any]

    @property
    def tasks(self) -> dict[str, Any]:
        """Give the tasks themselves, by name."""
        return dict(self.loaded["tasks"])

    @property
    def scores_likelihoods(self) -> bool:
        """Say whether some task asks how likely a text is."""
        return any(task.OUTPUT_TYPE != "generate_until" for task in self.tasks.values())

    @property
    def chat(self) -> bool:
        """Say whether every task's own file asks for the chat template (``metadata: chat``)."""
        found = [getattr(task.config, "metadata", None) or {} for task in self.tasks.values()]
        return all(bool(one.get("chat")) for one in found)


def find_tasks(names: str, include: Path | None = None) -> list[Asked]:
    """Load tasks by name, by group, or by the path of a YAML file.

    include  a folder of task files, looked into first.
    Raises PlumblineError for a name nobody knows, and for data that cannot be had.
    """
    wanted = list(dict.fromkeys(n.strip() for n in names.split(",") if n.strip()))
    if not wanted:
        raise PlumblineError(
            f"TASKS names no task; shipped here are {', '.join(sorted(_named(shipped())))}"
        )
    if include is not None and not include.is_dir():
        raise PlumblineError(f"the folder of tasks {include} does not exist")
    mine = [shipped(), *([include] if include else [])]
    near = {name for folder in mine for name in _named(folder)}
    return [_load(name, mine, near) for name in wanted]


def shipped() -> Path:
    """Give the folder of the project's own tasks."""
    return package_folder("benchmarks") / "capability"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' logs and bars, which no user asked for, off the terminal."""
    import datasets
    from lm_eval.api import task as building

    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    bar, building.tqdm = building.tqdm, partial(building.tqdm, disable=True)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        building.tqdm = bar
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()


# ---------------------------------------------------------------- inside


def _load(name: str, mine: list[Path], near: set[str]) -> Asked:
    import lm_eval
    from lm_eval.tasks import TaskManager

    theirs = Path(lm_eval.__file__).parent / "tasks"
    with quiet():
        if name.endswith((".yaml", ".yml")):
            if not Path(name).is_file():
                raise PlumblineError(f"task file {name} does not exist")
            manager = TaskManager(include_path=mine, include_defaults=False)
        elif name in near:
            manager = TaskManager(include_path=mine, include_defaults=False)
        else:
            manager = _theirs(name, theirs, mine, near)
        try:
            loaded = manager.load([name])
        except Exception as error:
            raise _unreadable(name, manager, error) from error
    label = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    return Asked(label, loaded)


def _theirs(name: str, theirs: Path, mine: list[Path], near: set[str]) -> Any:
    """Index as little of lm-eval's own tasks as the name needs."""
    from lm_eval.tasks import TaskManager

    texts = {file: file.read_text("utf-8") for file in theirs.rglob("*.yaml")}
    kinds = {found: kind for text in texts.values() for kind, found in _NAMED.findall(text)}
    if name not in kinds and not any(name in text for text in texts.values()):
        raise _unknown(name, {*kinds, *near}, near)
    if kinds.get(name) == "task":
        home = next(f for f, text in texts.items() if ("task", name) in _NAMED.findall(text))
        folder = theirs / home.relative_to(theirs).parts[0]
        manager = TaskManager(include_path=[*mine, folder], include_defaults=False)
        if name in manager.all_tasks:
            return manager
    manager = TaskManager(include_path=mine)
    if name not in manager.all_tasks:
        raise _unknown(name, manager.all_tasks, near)
    return manager


def _unknown(name: str, known: Iterable[str], near: set[str]) -> PlumblineError:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=4, cutoff=0.6)
    hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
    return PlumblineError(
        f"unknown task {name!r}.{hint} Known: {', '.join(sorted(near))}, all tasks and groups of "
        "lm-eval, a YAML file's path, and the files of INCLUDE="
    )


def _unreadable(name: str, manager: Any, error: Exception) -> PlumblineError:
    import huggingface_hub.constants as hub

    entry = manager.task_index.get(name)
    source = (entry.cfg or {}).get("dataset_path") if entry else None
    why = " ".join(f"{type(error).__name__}: {error}".split())
    remote = isinstance(error, OSError) or "cache" in why or "Hub" in why
    if not remote or source in PACKAGED:
        return PlumblineError(f"task {name} cannot be loaded ({why[:300]})")
    where = f"its data ({source})" if source else "its data"
    offline = "HF_HUB_OFFLINE is set" if hub.HF_HUB_OFFLINE else "the Hub must be within reach"
    return PlumblineError(
        f"task {name}: {where} cannot be loaded: {why[:200]}. It comes from the Hugging Face Hub, "
        f"and {offline}; offline there are {', '.join(sorted(_named(shipped())))}"
    )


def _named(folder: Path) -> set[str]:
    """Name the tasks and groups of a folder's files."""
    texts = (file.read_text("utf-8") for file in sorted(folder.rglob("*.yaml")))
    return {found for text in texts for _, found in _NAMED.findall(text)}
