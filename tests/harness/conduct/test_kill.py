"""Killed without warning, many times, a command finishes with the records of one never killed."""

import os
import random
import signal
import time

import pytest

from harness.conduct import runner, store
from harness.conduct.protocol import load
from harness.conduct.setting import Setting

KILLS = 24
METHODS = "best_of_n(n=2),{fitted}"

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def command(setting, asked, results):
    """Run the command in this process, one prompt to a batch, so that there is much to lose."""
    outcome = runner.bench(
        asked, store.Store(results), say=lambda line: None, tables=False, setting=setting
    )
    return len(outcome.failures)


def child(setting, asked, results):
    """Fork a process that runs the command; give its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        import torch

        torch.set_num_threads(1)  # a forked child has none of its parent's threads
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = command(setting, asked, results)
    finally:
        os._exit(code)


def records(results):
    """Everything stored, by file, without what a clock or a machine puts there."""
    found = {}
    for path in sorted(results.rglob("*.jsonl")):
        lines = store.read_lines(path)
        where = str(path.relative_to(results))
        if path.name == "ledger.jsonl":
            total: dict[tuple[str, str], int] = {}
            for line in lines:
                if line["phase"] in ("decode", "fit"):
                    for role, amount in line["tokens"].items():
                        key = (line["phase"], role)
                        total[key] = total.get(key, 0) + amount
            found[where] = total
        else:
            found[where] = sorted(map(store.canonical, lines))
    for path in sorted(results.rglob("fitted.safetensors")):
        found[str(path.relative_to(results))] = path.read_bytes()
    return found


def finished_answers(results):
    """How many answers are committed, over all runs."""
    count = 0
    for path in results.rglob("ledger.jsonl"):
        lines = [line for line in store.read_lines(path) if "responses" in line]
        count += lines[-1]["responses"] if lines else 0
    return count


def test_random_kills_lose_at_most_the_batch_in_flight(tiny, tmp_path, fitted):
    """After each of many kills all committed answers are there; at the end nothing differs."""
    setting = Setting(load(runner.plugins.protocol_file(tiny)), device="cpu", batch_rows=1)
    asked = runner.order(METHODS.format(fitted=fitted), tiny)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    start = time.monotonic()
    assert command(setting, asked, whole) == 0
    once = min(time.monotonic() - start, 4.0)  # a machine that paused must not stretch the test

    rng, before, kills, rounds = random.Random(0), 0, 0, 0
    while kills < KILLS:
        process = child(setting, asked, broken)
        time.sleep(rng.uniform(0.01, once / 8))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):  # it finished first: hold it to account and begin anew
            assert records(broken) == records(whole)
            rounds += 1
            broken, before = tmp_path / f"broken{rounds}", 0
            continue
        kills += 1
        now = finished_answers(broken)
        assert now >= before
        before = now
    assert command(setting, asked, broken) == 0
    assert records(broken) == records(whole)


def test_two_processes_do_the_work_once(tiny, tmp_path, fitted):
    """Two commands at once share the folders, and no record is written twice."""
    setting = Setting(load(runner.plugins.protocol_file(tiny)), device="cpu", batch_rows=4)
    asked = runner.order(f"{fitted}", tiny)
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    assert command(setting, asked, whole) == 0
    processes = [child(setting, asked, shared) for _ in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in processes]
    assert codes == [0, 0]
    assert records(shared) == records(whole)
