"""The embedded default world: builds its models and items, and knows its gold reward."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.testbed import phrases
from benchmarks.testbed.gold import Gold
from benchmarks.testbed.items import write_items
from benchmarks.testbed.language import Language
from harness.api import Chat, Json, PlumblineError, Report, World

# Two lines of work, a core each; the figures are shares of the whole build's progress.
LINES: tuple[dict[str, float], ...] = (
    {"policy": 0.50, "aligned": 0.08},
    {"reward": 0.20, "judge": 0.20},
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
        training = _Training(folder, self.seed)
        try:
            training.start()
            write_items(self.language, folder / "items")
            for role, fraction, what in training.news():
                done[role] = max(done[role], fraction)
                shares = sum(share * done[name] for line in LINES for name, share in line.items())
                report(min(1.0, _ITEMS_SHARE + shares), what)
        finally:
            training.stop()
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


News = tuple[str, float, str]  # role, fraction done, what is being done


class _Training:
    """The training processes: the roles of a line one after another, the lines side by side."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self._told: queue.Queue[News | Exception | None] = queue.Queue()
        self._processes: list[subprocess.Popen[str]] = []
        self._stopped = False

    def start(self) -> None:
        """Set the lines to work."""
        for line in LINES:
            threading.Thread(target=self._work, args=(tuple(line),), daemon=True).start()

    def news(self) -> Iterator[News]:
        """Yield what the processes report until all have ended; raises what stopped one."""
        at_work = len(LINES)
        while at_work:
            told = self._told.get()
            if isinstance(told, Exception):
                raise told
            if told is None:
                at_work -= 1
            else:
                yield told

    def stop(self) -> None:
        """End whatever still runs, so that a failed or interrupted build leaves no process."""
        self._stopped = True
        for process in self._processes:
            if process.poll() is None:
                process.terminate()

    def _work(self, roles: Sequence[str]) -> None:
        try:
            for role in roles:
                if not self._stopped:
                    self._train(role)
            self._told.put(None)
        except (OSError, ValueError, PlumblineError) as error:
            self._told.put(error)

    def _train(self, role: str) -> None:
        command = (sys.executable, "-m", "benchmarks.testbed.training")
        log = self.folder / f"log.{role}.txt"
        with (
            log.open("w", encoding="utf-8") as errors,
            subprocess.Popen(
                [*command, role, str(self.folder), str(self.seed)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=_environment(),
            ) as process,
        ):
            self._processes.append(process)
            for line in process.stdout or ():
                fraction, _, what = line.rstrip("\n").partition("\t")
                self._told.put((role, float(fraction), what))
        if process.returncode:
            end = " ".join(log.read_text(encoding="utf-8").split()[-40:])
            raise PlumblineError(
                f"training the testbed's {role} failed with exit status {process.returncode}: {end}"
            )
        log.unlink()
        self._told.put((role, 1.0, f"{role}: trained"))


def _environment() -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        # Keep freed memory: training frees and takes the same blocks again at every step.
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
        "MALLOC_TOP_PAD_": str(1 << 28),
    }
