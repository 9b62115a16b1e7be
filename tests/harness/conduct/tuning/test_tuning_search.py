"""Tuning on the world planted: counted evaluations, sealed truth, resuming, what bench uses."""

import json
from pathlib import Path

import pytest
from tuning_commands import bench, tune

from harness.conduct import runner, store
from harness.conduct.protocol import load
from harness.conduct.questions import training
from harness.conduct.setting import Setting
from harness.conduct.tuning import search as tuning
from harness.conduct.tuning.development import Sealed, development
from harness.conduct.tuning.evaluating import Evaluator
from harness.contracts.budget import Budget, BudgetSpent
from harness.errors import PlumblineError


def lines_of(folder):
    """Stored trials."""
    return store.read_lines(folder / "trials.jsonl")


# ------------------------------------------------------------- equal budgets


def test_every_method_spends_the_same_evaluations_and_the_defaults_are_first(
    tiny, tmp_path, pushed, fitted, monkeypatch
):
    """With the same trials every method answers the development prompts equally often."""
    asked: list[int] = []
    whole = Setting.decode

    def counting(self, jobs, *rest):
        asked.append(len(jobs))
        return whole(self, jobs, *rest)

    monkeypatch.setattr(Setting, "decode", counting)
    spent = {}
    for method in ("best_of_n", pushed, f"{pushed}+best_of_n"):
        asked.clear()
        outcome, _ = tune(tiny, tmp_path / "r", method)
        (folder,) = outcome.folders
        spent[method] = (len(asked), tuple({*asked}), len(lines_of(folder)))
        assert lines_of(folder)[0]["fields"] == [{} for _ in lines_of(folder)[0]["fields"]]
        assert len({json.dumps(line["fields"]) for line in lines_of(folder)}) == 4
    assert set(spent.values()) == {(4, (8,), 4)}


def test_a_method_cannot_exceed_its_evaluations(tiny, tmp_path, pushed):
    """The evaluator counts, and raises before one evaluation too many is made."""
    order = runner.order(pushed, tiny)
    setting = Setting(order.protocol, device="cpu")
    told = training(setting)
    sealed = Sealed(setting)
    budget = Budget(2)
    evaluate = Evaluator(
        sealed, development(sealed, told, None), told, store.Store(tmp_path), budget
    )
    first = evaluate(order.stacks[1], 0)
    assert evaluate(order.stacks[1], 0).reward == first.reward
    with pytest.raises(BudgetSpent, match="2 were allowed and 2 made"):
        evaluate(order.stacks[1], 0)
    assert budget.spent == 2


def test_a_fit_may_try_nothing_while_it_is_tuned(tiny, tmp_path, trying):
    """A method that chooses settings in its fit has no evaluations of its own on top."""
    polite, rude = trying("Polite", True), trying("Rude", True, "True")
    outcome, _ = tune(tiny, tmp_path / "r", polite, count=3)
    facts = [
        store.read_json(f)["facts"] for f in (tmp_path / "r").glob("fits/*/polite/*/facts.json")
    ]
    assert [f["made"] for f in facts] == [0, 0, 0]
    assert not outcome.failures
    outcome, lines = tune(tiny, tmp_path / "r", rude, count=3)
    assert "all 3 trials failed" in outcome.failures[0]
    assert "0 were allowed and 0 made" in outcome.failures[0]
    assert sum("trial" in line and "failed" in line for line in lines) == 4  # and the last line


def test_a_fit_that_tries_without_saying_so_is_refused(tiny, tmp_path, trying):
    """Outside of tuning too, answering development prompts while fitting must be declared."""
    asked = runner.order(trying("Silent", False, "True"), tiny, benchmarks="hh_rlhf")
    outcome = runner.bench(
        asked, store.Store(tmp_path / "r"), say=lambda line: None, device="cpu", tables=False
    )
    assert "declare tries = True" in outcome.failures[0]
    _, specs = bench(tiny, tmp_path / "r", trying("Said", True))
    assert "said" in specs


def test_a_space_smaller_than_the_budget_spends_the_rest_on_fresh_seeds(tiny, tmp_path, pushed):
    """When all settings were tried the better half is tried again, each time with other luck."""
    outcome, lines = tune(tiny, tmp_path / "r", pushed, count=9)
    (folder,) = outcome.folders
    made = lines_of(folder)
    assert len(made) == 9
    assert [t["setting"] for t in made[:5]] == [0, 1, 2, 3, 4]
    assert {t["seed"] for t in made[:5]} == {0}
    better = sorted(made[:5], key=lambda t: -t["reward"])[:3]
    assert {t["setting"] for t in made[5:8]} <= {t["setting"] for t in better} | {
        t["setting"] for t in made[:5]
    }
    pairs = [(t["setting"], t["seed"]) for t in made]
    assert len(set(pairs)) == 9
    found = store.read_json(folder / "tuned.json")
    assert (found["settings"], found["evaluations"]) == (5, 9)
    means = {
        s: sum(t["reward"] for t in made if t["setting"] == s)
        / sum(t["setting"] == s for t in made)
        for s in range(5)
    }
    assert found["best"]["reward"] == pytest.approx(max(means.values()))
    assert any("1 combinations that the method refuses" in line for line in lines)


def test_a_setting_that_fails_has_spent_its_trial(tiny, tmp_path, pushed):
    """A setting that cannot be run counts like any other and is never chosen."""
    file = tmp_path / "brittle.py"
    file.write_text(
        Path(pushed)
        .read_text()
        .replace("Pushed", "Brittle")
        .replace(
            '        """Add the strength',
            "        if self.strength == 1.0:\n            raise ValueError('no')\n"
            '        """Add the strength',
        )
    )
    outcome, lines = tune(tiny, tmp_path / "r", str(file), count=5)
    (folder,) = outcome.folders
    found = store.read_json(folder / "tuned.json")
    assert (found["evaluations"], found["failed"]) == (5, 2)
    assert found["scores"].count(None) == 2
    assert found["fields"][0].get("strength") != 1.0
    assert sum("failed: ValueError: no" in line for line in lines) == 2


# ------------------------------------------------------------- what is sealed


def test_gold_and_test_prompts_are_never_read(tiny, tmp_path, pushed, curious, monkeypatch):
    """With truth, evaluation reward and benchmarks' prompts raising, tuning goes through."""
    from benchmarks.planted.world import World
    from harness.conduct import questions

    def closed(*args, **kwargs):
        raise AssertionError("read while settings are tuned")

    def then_closed(setting):
        told = training(setting)  # reads questions once, to leave them out of the pairs
        monkeypatch.setattr(questions, "load_items", closed)
        monkeypatch.setattr(questions, "ask", closed)
        monkeypatch.setattr(runner, "ask", closed)
        return told

    monkeypatch.setattr(tuning, "training", then_closed)
    monkeypatch.setattr(World, "gold", closed)
    monkeypatch.setattr(World, "exact", closed)
    whole = Setting.evaluation
    monkeypatch.setattr(Setting, "evaluation", property(closed))
    outcome, _ = tune(tiny, tmp_path / "r", f"best_of_n,{pushed},{pushed}+best_of_n,{curious}")
    monkeypatch.setattr(Setting, "evaluation", whole)
    assert outcome.failures == []
    assert len(outcome.folders) == 4
    assert all(not line["failed"] for f in outcome.folders for line in lines_of(f)), outcome


def test_the_sealed_setting_raises(tiny):
    """What is closed while tuning says so: truth, evaluation reward, benchmarks."""
    from harness.conduct.questions import ask

    whole = Setting(load(runner.plugins.protocol_file(tiny)), device="cpu")
    sealed = Sealed(whole)
    assert sealed.terms == whole.terms
    for name in ("gold", "evaluation", "instruments"):
        with pytest.raises(PlumblineError, match="is not read while settings are tuned"):
            getattr(sealed, name)
    with pytest.raises(KeyError):
        ask(sealed, "hh_rlhf")


def test_other_test_data_changes_nothing(tiny, tmp_path, pushed):
    """Trials are the same to the byte, seconds aside, whatever a protocol's benchmarks ask."""
    found = []
    for number, benchmarks in enumerate(("hh_rlhf", "mt_bench")):
        text = Path(tiny).read_text()
        for name in {"hh_rlhf", "mt_bench"} - {benchmarks}:
            text = text.replace(f'[data.{name}]\nworld = "{name}"\n', "")
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "tiny.toml").write_text(text)
        outcome, _ = tune(str(folder / "tiny.toml"), folder / "r", f"{pushed}+best_of_n")
        made = lines_of(outcome.folders[0])
        assert len(made) == 4
        found.append([{k: t[k] for k in ("fields", "seed", "reward", "kl")} for t in made])
    assert found[0] == found[1]


def test_a_transductive_method_reads_development_prompts_instead(tiny, tmp_path, curious):
    """Whoever reads the prompts it is asked gets the development prompts while it is tuned."""
    outcome, _ = tune(tiny, tmp_path / "r", curious, count=1)
    assert outcome.failures == []
    (facts,) = (tmp_path / "r").glob("fits/*/curious/*/facts.json")
    told = training(Setting(load(Path(tiny)), device="cpu"))
    developed = {pair.prompt.last_user for pair in told.dev}
    assert set(store.read_json(facts)["facts"]["read"]) == developed


# ------------------------------------------------------------- stored, resumed


def test_a_tuning_that_was_killed_goes_on_and_ends_the_same(tiny, tmp_path, pushed):
    """Finished trials stay as they are; the rest is as if nothing had happened."""
    straight, _ = tune(tiny, tmp_path / "straight", pushed, count=6)
    seen = []

    def dying(line):
        seen.append(line)
        if "trial 2 of 6" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(tiny, tmp_path / "r", pushed, count=6, say=dying)
    (file,) = (tmp_path / "r").glob("tuned/*/pushed/*/trials.jsonl")
    before = file.read_text()
    assert before.count("\n") == 2
    assert not (file.parent / "tuned.json").exists()
    with file.open("a") as torn:
        torn.write('{"setting": 2, "fie')
    outcome, lines = tune(tiny, tmp_path / "r", pushed, count=6)
    assert file.read_text().startswith(before)
    assert sum(" of 6 " in line for line in lines) == 4

    def kept(folder):
        return [(t["fields"], t["seed"], t["reward"]) for t in lines_of(folder)]

    assert kept(outcome.folders[0]) == kept(straight.folders[0])
    mine, other = (store.read_json(o.folders[0] / "tuned.json") for o in (outcome, straight))
    assert {**mine, "ledger": 0} == {**other, "ledger": 0}
    assert mine["ledger"]["tokens"] == other["ledger"]["tokens"]


def test_the_same_command_does_nothing_twice(tiny, tmp_path, pushed, monkeypatch):
    """A finished tuning is left as it is, to the byte, and nothing is decoded."""
    first, _ = tune(tiny, tmp_path / "r", pushed)
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*.json*")}
    monkeypatch.setattr(Evaluator, "__call__", None)
    again, _ = tune(tiny, tmp_path / "r", pushed)
    assert again.folders == first.folders
    assert {p: p.read_bytes() for p in (tmp_path / "r").rglob("*.json*")} == before


def test_what_tuning_cost_is_counted(tiny, tmp_path, fitted):
    """Tokens, seconds and labels of every trial are stored; a fit is paid for once, whole."""
    text = (
        Path(fitted)
        .read_text()
        .replace(
            "    strength: float = 1.0\n",
            "    strength: float = 1.0\n    search_space: ClassVar = {'strength': (1.0, 2.0)}\n",
        )
    )
    Path(fitted).write_text(text)
    outcome, _ = tune(tiny, tmp_path / "r", fitted, count=4)
    made = lines_of(outcome.folders[0])
    assert [t["labels"] for t in made] == [32] * 4
    assert ["fit" in t["ledger"]["seconds"] for t in made] == [True, True, False, False]
    assert all(t["tokens"] > 0 and t["seconds"] > 0 for t in made)
    total = store.read_json(outcome.folders[0] / "tuned.json")
    assert total["labels"] == 32
    assert sum(total["ledger"]["tokens"].values()) == sum(t["tokens"] for t in made)
    assert {"policy", "reward"} <= set(total["ledger"]["tokens"])


# ------------------------------------------------------------- the KL cap


def test_a_cap_keeps_settings_that_go_too_far_from_being_chosen(tiny, tmp_path, pushed):
    """The best is sought among settings whose measured KL is within the cap."""
    outcome, _ = tune(tiny, tmp_path / "r", pushed, count=5, objective="reward@kl<=1")
    (folder,) = outcome.folders
    made = lines_of(folder)
    assert made[0]["kl"] == 0.0
    assert max(t["kl"] for t in made) > 1
    inside = [t for t in made if t["kl"] <= 1]
    found = store.read_json(folder / "tuned.json")
    assert found["best"]["reward"] == max(t["reward"] for t in inside)
    assert found["best"]["kl"] <= 1
    assert found["scores"].count(None) == len(made) - len(inside)


def test_the_bound_of_a_search_stands_for_its_kl(tiny, tmp_path):
    """Best-of-N's known bound is what the cap is held against."""
    outcome, _ = tune(tiny, tmp_path / "r", "best_of_n", count=5, objective="reward@kl<=1.3")
    made = lines_of(outcome.folders[0])
    assert made[0]["kl"] == pytest.approx(2.0794415 - 7 / 8)
    assert store.read_json(outcome.folders[0] / "tuned.json")["best"]["kl"] <= 1.3


def test_kl_asked_of_a_method_without_is_one_line(tiny, tmp_path, pushed):
    """A search over a steered model has no KL: the method fails in one line, the others go on."""
    outcome, _ = tune(
        tiny, tmp_path / "r", f"{pushed}+best_of_n,best_of_n", objective="reward@kl<=4"
    )
    assert len(outcome.folders) == 1
    (line,) = outcome.failures
    assert "has no KL: a search over an already steered model has no known bound" in line
    assert "OBJECTIVE=reward" in line


def test_no_setting_within_the_cap_leaves_the_defaults(tiny, tmp_path):
    """Where every setting goes too far nothing is chosen, and tuning and bench say so."""
    outcome, lines = tune(tiny, tmp_path / "r", "best_of_n", count=2, objective="reward@kl<=0.01")
    assert store.read_json(outcome.folders[0] / "tuned.json")["fields"] is None
    assert "no setting tried stays within the cap" in lines[-1]
    said, specs = bench(tiny, tmp_path / "r", "best_of_n")
    assert "best_of_n" in specs
    assert any("no setting tried stayed within reward@kl<=0.01" in line for line in said)


# ------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"count": 0}, "TRIALS is 0; it must be at least 1"),
        ({"count": -3}, "TRIALS is -3"),
        ({"prompts": 100}, "too small: it has 8 different prompts"),
        ({"prompts": 3}, "PROMPTS is 3; it must be at least 8"),
        ({"seeds": "0,1"}, "SEED names 2 seeds"),
        ({"methods": "best_of_n(n=4)"}, "names fields of its own"),
        ({"objective": "gold"}, "OBJECTIVE is 'gold'"),
        ({"objective": "reward@kl<=0"}, "OBJECTIVE is 'reward@kl<=0'"),
        ({"objective": "reward@kl<=many"}, "reward@kl<=4"),
    ],
)
def test_a_mistake_is_one_line(tiny, tmp_path, words, said):
    """Every mistake is found before a trial is made."""
    with pytest.raises(PlumblineError, match=said.replace("(", r"\(")):
        tune(tiny, tmp_path / "r", words.pop("methods", "best_of_n"), **words)
    assert not list((tmp_path / "r").glob("tuned/*"))


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        ('granted = { world = "reward" }\n', "grants no reward model"),
        ('dev = { world = "pairs.dev" }\n', "no development pairs to tune on"),
    ],
)
def test_a_protocol_that_grants_too_little_is_refused(tiny, tmp_path, cut, said):
    """Without a granted reward, or without development pairs, nothing can be tuned."""
    (tmp_path / "less.toml").write_text(Path(tiny).read_text().replace(cut, ""))
    with pytest.raises(PlumblineError, match=said):
        tune(str(tmp_path / "less.toml"), tmp_path / "r", "best_of_n")


def test_a_method_without_a_search_space_keeps_its_defaults(tiny, tmp_path, spoken):
    """Nothing is tried and a line says so; so of a method that is given the truth."""
    outcome, lines = tune(tiny, tmp_path / "r", f"{spoken},oracle_best_of_n,prompting,unsteered")
    assert (outcome.folders, outcome.failures) == ([], [])
    assert "spoken: no search space is declared; its defaults are used, no trials" in lines
    assert any(
        line.startswith("oracle_best_of_n: not tuned: it is given the truth") for line in lines
    )
    assert any(
        line.startswith("prompting: not tuned: the protocol does not grant") for line in lines
    )


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("{'strength': (0.0, 'much')}", "strength='much', which is not a number"),
        ("{'token': (1, 2.5)}", "token=2.5, which is not a whole number"),
        ("{'force': (1.0,)}", "unknown field in the search space of pushed 'force'"),
        ("{'strength': ()}", "pushed.strength has no values"),
        ("{'token': (1, -1)}", "which the method refuses: no such token"),
    ],
)
def test_a_search_space_its_fields_refuse_is_one_line(tiny, tmp_path, pushed, space, said):
    """A declared value of another type, or one the method refuses, fails before any trial."""
    text = Path(pushed).read_text()
    text = text.replace('{"strength": (0.0, 1.0, 20.0), "token": (1, 2)}', space).replace(
        "        if self.strength == 20.0",
        "        if self.token == -1:\n            raise PlumblineError('no such token')\n"
        "        if self.strength == 20.0",
    )
    Path(pushed).write_text(text)
    outcome, _ = tune(tiny, tmp_path / "r", f"{pushed},best_of_n", count=1)
    assert len(outcome.folders) == 1
    assert said in outcome.failures[0]
