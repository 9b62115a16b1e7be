"""The embedded default world: builds its models and items, and knows its gold reward."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from benchmarks.testbed import phrases
from benchmarks.testbed.gold import Gold
from benchmarks.testbed.items import write_items
from benchmarks.testbed.language import Language
from harness.api import Chat, Json, PlumblineError, Report, World

# Two lines of work, a core each; the figures are shares of the whole build's progress.
LINES: tuple[dict[str, float], ...] = (
    {"policy": 0.40, "aligned": 0.08},
    {"reward": 0.25, "judge": 0.25},
)
_ITEMS_SHARE = 0.02
_ROOT = Path(__file__).parents[2]
_SOURCES = sorted([*Path(__file__).parent.glob("*.py"), *_ROOT.glob("benchmarks/judges/testbed*")])


class Testbed(World):
    """A small language in which assistants are helpful or not, harmless or not, polite or not."""

    __test__ = False  # not a test class, whatever its name begins with

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.language = Language(seed)
        self._gold = Gold(self.language)

    def recipe(self) -> dict[str, Json]:
        """Give the seed and a hash of every source that the build reads."""
        digest = hashlib.sha256()
        for path in _SOURCES:
            digest.update(path.name.encode() + path.read_bytes())
        return {"world": "testbed", "seed": self.seed, "sources": digest.hexdigest()[:16]}

    def gold(self, chat: Chat, response: str) -> dict[str, float]:
        """Score an answer: ``gold`` and its parts helpful, harmless, polite and penalty."""
        return self._gold(chat, response)

    def system_sentences(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Give, for each trait, system sentences that ask for it and for its opposite."""
        return {
            trait: tuple(  # type: ignore[misc]
                (
                    *(f"You are a {word} assistant." for word in phrases.ADJECTIVES[trait][side]),
                    *phrases.COMMANDS[trait][side],
                )
                for side in (0, 1)
            )
            for trait in phrases.ADJECTIVES
        }

    def build(self, folder: Path, report: Report) -> None:
        """Train the four models, two at a time, and write the items and ``facts.json``.

        Raises PlumblineError, with the end of its output, if a training process fails.
        """
        from benchmarks.testbed.models import train_tokenizer

        report(0.0, "tokenizer and items")
        train_tokenizer(self.language).save_pretrained(folder / "tokenizer")
        done = {role: 0.0 for line in LINES for role in line}
        news: queue.Queue[tuple[str, float, str] | Exception | None] = queue.Queue()
        for line in LINES:
            threading.Thread(
                target=_run, args=(tuple(line), folder, self.seed, news), daemon=True
            ).start()
        write_items(self.language, folder / "items")
        at_work = len(LINES)
        while at_work:
            told = news.get()
            if isinstance(told, Exception):
                raise told
            if told is None:
                at_work -= 1
                continue
            role, fraction, what = told
            done[role] = max(done[role], fraction)
            shares = sum(share * done[name] for line in LINES for name, share in line.items())
            report(min(1.0, _ITEMS_SHARE + shares), what)
        self._write_facts(folder)
        report(1.0, "done")

    def _write_facts(self, folder: Path) -> None:
        facts: dict[str, Json] = {"seed": self.seed}
        for role in (role for line in LINES for role in line):
            path = folder / f"facts.{role}.json"
            facts[role] = json.loads(path.read_text(encoding="utf-8"))
            path.unlink()
        text = json.dumps(facts, indent=1)
        (folder / "facts.json").write_text(text, encoding="utf-8")


def _run(
    roles: Sequence[str],
    folder: Path,
    seed: int,
    news: queue.Queue[tuple[str, float, str] | Exception | None],
) -> None:
    """Train some roles one after another, each in a process, and pass on what they report."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    try:
        for role in roles:
            _train(role, folder, seed, environment, news)
        news.put(None)
    except (OSError, PlumblineError) as error:
        news.put(error)


def _train(
    role: str,
    folder: Path,
    seed: int,
    environment: dict[str, str],
    news: queue.Queue[tuple[str, float, str] | Exception | None],
) -> None:
    command = [sys.executable, "-m", "benchmarks.testbed.training", role, str(folder), str(seed)]
    log = folder / f"log.{role}.txt"
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        for line in process.stdout or ():
            fraction, _, what = line.rstrip("\n").partition("\t")
            news.put((role, float(fraction), what))
    if process.returncode:
        end = " ".join(log.read_text(encoding="utf-8").split()[-40:])
        raise PlumblineError(
            f"training the testbed's {role} failed with exit status {process.returncode}: {end}"
        )
    log.unlink()
    news.put((role, 1.0, f"{role}: trained"))
