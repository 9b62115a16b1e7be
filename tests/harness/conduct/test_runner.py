"""Cells from fit to scores on the world planted: what is stored, resumed, skipped, refused."""

import json
from pathlib import Path

import pytest

from harness.conduct import runner, store
from harness.conduct.protocol import load
from harness.conduct.setting import Setting
from harness.errors import PlumblineError


def bench(tiny, results, methods, setting=None, batch_rows=64, say=None, **words):
    """Run a command's worth of cells."""
    asked = runner.order(methods, tiny, **words)
    return runner.bench(
        asked,
        store.Store(results),
        say=say or (lambda line: None),
        device="cpu",
        batch_rows=batch_rows,
        tables=False,
        setting=setting,
    )


def runs(results, benchmark, stack):
    """Folders of the runs of one stack on one benchmark."""
    return sorted(p.parent for p in results.glob(f"runs/*/{benchmark}/{stack}/*/spec.json"))


def read(folder, name):
    """Lines of a record file."""
    return store.read_lines(folder / f"{name}.jsonl")


def tokens(folder):
    """Tokens through each model while answers were drawn, from the ledger."""
    total: dict[str, int] = {}
    for line in read(folder, "ledger"):
        if line["phase"] == "decode":
            for role, amount in line["tokens"].items():
                total[role] = total.get(role, 0) + amount
    return total


@pytest.fixture(scope="module")
def finished(tiny, spoken, tmp_path_factory):
    """Results of three rows on both benchmarks."""
    results = tmp_path_factory.mktemp("results")
    outcome = bench(tiny, results, f"best_of_n(n=3),{spoken}+best_of_n(n=3)")
    assert outcome.failures == []
    assert outcome.finished == 6
    return results


def test_the_reference_is_always_run_and_everything_is_stored(finished):
    """Each cell leaves the files that scoring and tables read, ``done`` among them."""
    for stack in ("unsteered", "best_of_n", "spoken+best_of_n"):
        (folder,) = runs(finished, "mt_bench", stack)
        names = {p.name for p in folder.iterdir()}
        assert {"spec.json", "environment.json", "prompts.jsonl", "responses.jsonl"} <= names
        assert {"ledger.jsonl", "notes.json", "done", "scores.gold.jsonl"} <= names
        assert ("pool.jsonl" in names) == ("best_of_n" in stack)
        spec = store.verify(folder)
        assert (
            spec["method"]
            == {
                "unsteered": "unsteered",
                "best_of_n": "best_of_n(n=3)",
                "spoken+best_of_n": "spoken+best_of_n(n=3)",
            }[stack]
        )
        assert spec["optimised"] is True
        assert spec["marks"] == []


def test_both_turns_are_asked_and_the_second_sees_the_first_answer(finished):
    """MT-Bench's two turns are answered one after the other, sixteen answers to eight prompts."""
    (folder,) = runs(finished, "mt_bench", "unsteered")
    keys = [(r["prompt"], r["turn"]) for r in read(folder, "responses")]
    assert sorted(turn for _, turn in keys) == [0] * 8 + [1] * 8
    assert len(read(folder, "scores.reward")) == 16


def test_the_pool_holds_every_candidate_with_the_truth(finished):
    """Best-of-3 keeps three candidates an answer, and the chosen one is the best scored."""
    (folder,) = runs(finished, "hh_rlhf", "best_of_n")
    pool = read(folder, "pool")
    answers = {r["prompt"]: r["text"] for r in read(folder, "responses")}
    assert len(pool) == 3 * len(answers)
    assert all("gold" in line for line in pool)
    for prompt, text in answers.items():
        own = [line for line in pool if line["prompt"] == prompt]
        assert max(own, key=lambda line: line["score"])["text"] == text


def test_kl_is_exact_for_edits_bounded_for_a_search_and_absent_for_both(finished):
    """What a row's KL column is follows from what it touches."""
    kinds = {
        stack: store.verify(runs(finished, "hh_rlhf", stack)[0])["kl"]
        for stack in ("unsteered", "best_of_n", "spoken+best_of_n")
    }
    assert kinds["unsteered"]["kind"] == "exact-per-step"
    assert kinds["best_of_n"]["kind"] == "bound"
    assert kinds["best_of_n"]["bound"] == pytest.approx(1.0986122886681098 - 2 / 3)
    assert kinds["spoken+best_of_n"]["kind"] == "none"
    (folder,) = runs(finished, "hh_rlhf", "unsteered")
    assert {s["value"] for s in read(folder, "scores.kl")} == {0.0}


def test_the_same_command_does_nothing_twice(tiny, finished):
    """A finished cell is left as it is, to the byte."""
    before = {p: p.read_bytes() for p in finished.rglob("*.json*")}
    outcome = bench(tiny, finished, "best_of_n(n=3)")
    assert outcome.finished == 4
    assert {p: p.read_bytes() for p in finished.rglob("*.json*")} == before


def test_batch_size_changes_no_record(tiny, finished, tmp_path):
    """One row at a time and many at once give the same answers, scores and token counts."""
    bench(tiny, tmp_path, "best_of_n(n=3)", batch_rows=1)
    for benchmark in ("hh_rlhf", "mt_bench"):
        for stack in ("unsteered", "best_of_n"):
            (one,), (many,) = runs(tmp_path, benchmark, stack), runs(finished, benchmark, stack)
            assert one.name == many.name
            assert tokens(one) == tokens(many)
            for name in ("responses", "scores.gold"):
                mine, theirs = (sorted(read(f, name), key=str) for f in (one, many))
                assert mine == theirs
            mine, theirs = (
                sorted((c["prompt"], c["turn"], c["candidate"], c["text"]) for c in read(f, "pool"))
                for f in (one, many)
            )
            assert mine == theirs


def test_a_deleted_score_file_is_scored_again_and_nothing_is_generated(tiny, finished):
    """Scoring works on stored answers alone."""
    (folder,) = runs(finished, "hh_rlhf", "best_of_n")
    before = (folder / "responses.jsonl").stat().st_mtime_ns
    scores = (folder / "scores.gold.jsonl").read_bytes()
    (folder / "scores.gold.jsonl").unlink()
    bench(tiny, finished, "best_of_n(n=3)", benchmarks="hh_rlhf")
    assert (folder / "scores.gold.jsonl").read_bytes() == scores
    assert (folder / "responses.jsonl").stat().st_mtime_ns == before


def test_scores_of_another_version_of_a_scorer_are_made_again(tiny, finished):
    """An edited metric does not leave its old numbers in the table."""
    (folder,) = runs(finished, "hh_rlhf", "best_of_n")
    right = (folder / "scores.gold.jsonl").read_text()
    (folder / "scores.gold.jsonl").write_text(right.replace('"value": ', '"value": 9'))
    sidecar = store.read_json(folder / "scorers.json")
    store.write_json(folder / "scorers.json", sidecar | {"gold": "an older version"})
    bench(tiny, finished, "best_of_n(n=3)", benchmarks="hh_rlhf")
    assert (folder / "scores.gold.jsonl").read_text() == right


def test_a_limited_run_is_another_run_and_marked(tiny, finished):
    """LIMIT keys a run of its own with the mark "limited"; one that cuts nothing does not."""
    bench(tiny, finished, "unsteered", benchmarks="hh_rlhf", limit=2)
    bench(tiny, finished, "unsteered", benchmarks="hh_rlhf", limit=1000)
    folders = runs(finished, "hh_rlhf", "unsteered")
    marks = sorted((store.verify(f)["marks"], len(read(f, "responses"))) for f in folders)
    assert marks == [([], 8), (["limited"], 2)]


def test_seeds_are_runs_of_their_own(tiny, tmp_path):
    """SEED=0,1 gives two runs with different answers."""
    bench(tiny, tmp_path, "unsteered", benchmarks="hh_rlhf", seeds="0,1")
    first, second = runs(tmp_path, "hh_rlhf", "unsteered")
    assert {store.verify(f)["seed"] for f in (first, second)} == {0, 1}
    texts = [
        sorted((r["prompt"], r["text"]) for r in read(f, "responses")) for f in (first, second)
    ]
    assert texts[0] != texts[1]


# ---------------------------------------------------------------- fits


def test_a_fit_is_stored_once_and_shared_by_benchmarks(tiny, tmp_path, fitted):
    """One fit serves both benchmarks, and a second command reads it instead of fitting."""
    results = tmp_path / "results"
    outcome = bench(tiny, results, fitted)
    assert outcome.failures == []
    (fit,) = results.glob("fits/*/counted/*")
    assert store.read_json(fit / "facts.json") == {"facts": {"pairs": 32}, "transductive": False}
    for benchmark in ("hh_rlhf", "mt_bench"):
        (folder,) = runs(results, benchmark, "counted")
        assert store.verify(folder)["fits"] == [fit.name]
    written = (fit / "fitted.safetensors").stat().st_mtime_ns
    bench(tiny, results, f"{fitted}+best_of_n(n=2)", benchmarks="hh_rlhf")
    assert (fit / "fitted.safetensors").stat().st_mtime_ns == written
    assert not (fit / "scratch").exists()


def test_what_a_fit_doubts_and_tried_is_noted_in_its_runs(tiny, tmp_path, fitted):
    """A fit's warnings, and how many settings it tried itself, stand in the notes of every run."""
    text = Path(fitted).read_text()
    facts = '{"warnings": ["V knows nothing"], "trials": [{}, {}, {}], "chosen_by": "reward"}'
    doubtful = Path(fitted).with_name("doubtful.py")
    doubtful.write_text(text.replace('{"pairs": len(lab.pairs)}', facts))
    bench(tiny, tmp_path, str(doubtful), benchmarks="hh_rlhf", limit=2)
    (run,) = runs(tmp_path, "hh_rlhf", "doubtful")
    notes = store.read_json(run / "notes.json")
    assert notes["doubtful: V knows nothing"] == 1
    assert notes["settings doubtful tried while it was fitted, by granted reward"] == 2


def test_fields_left_neighbours_and_code_key_a_fit(tiny, tmp_path, fitted):
    """Another strength, another left neighbour or an edited file is another fit."""
    results = tmp_path / "results"
    for methods in (fitted, f"{fitted}(strength=2)", f"another_seed+{fitted}"):
        bench(tiny, results, methods, benchmarks="hh_rlhf", limit=1)
    assert len(list(results.glob("fits/*/counted/*"))) == 2
    assert len(list(results.glob("fits/*/another_seed+counted/*"))) == 1
    text = Path(fitted).read_text()
    edited = Path(fitted).with_name("again") / "counted.py"
    edited.parent.mkdir()
    edited.write_text(text.replace("0.1 * noise", "0.2 * noise"))
    bench(tiny, results, str(edited), benchmarks="hh_rlhf", limit=1)
    assert len(list(results.glob("fits/*/counted/*"))) == 3


def test_seeds_of_a_command_are_crossed(tiny, tmp_path, fitted):
    """Every fit is sampled under every seed; what learns nothing has a run a sampling seed."""
    methods = f"another_seed,{fitted}"
    bench(tiny, tmp_path, methods, benchmarks="hh_rlhf", limit=8, seeds="0,1", fit_seeds="3,4,3")
    pairs = [
        (store.verify(f)["seed"], *store.verify(f)["fit_seeds"])
        for f in runs(tmp_path, "hh_rlhf", "counted")
    ]
    assert sorted(pairs) == [(0, 3), (0, 4), (1, 3), (1, 4)]
    assert len(runs(tmp_path, "hh_rlhf", "another_seed")) == 2
    assert len(list(tmp_path.glob("fits/*/counted/*"))) == 2


def test_several_fit_seeds_are_several_runs(tiny, tmp_path, fitted):
    """[seeds] fit runs a method that learns once per seed, and one that does not once."""
    file = tmp_path / "seeds.toml"
    file.write_text(Path(tiny).read_text() + "[seeds]\nfit = [0, 1, 2]\n")
    bench(str(file), tmp_path, fitted, benchmarks="hh_rlhf", limit=2)
    assert len(runs(tmp_path, "hh_rlhf", "counted")) == 3
    assert len(runs(tmp_path, "hh_rlhf", "unsteered")) == 1
    seeds = {tuple(store.verify(f)["fit_seeds"]) for f in runs(tmp_path, "hh_rlhf", "counted")}
    assert seeds == {(0,), (1,), (2,)}


def test_a_protocol_may_pair_its_seeds(tiny, tmp_path, fitted):
    """Not crossed, the first fit goes with the first sampling seed; a command's own are crossed."""
    file = tmp_path / "seeds.toml"
    text = "[seeds]\nsampling = [5, 6]\nfit = [0, 1]\ncrossed = false\n"
    file.write_text(Path(tiny).read_text() + text)

    def pairs():
        specs = [store.verify(f) for f in runs(tmp_path, "hh_rlhf", "counted")]
        return sorted((spec["seed"], *spec["fit_seeds"]) for spec in specs)

    bench(str(file), tmp_path, fitted, benchmarks="hh_rlhf", limit=2)
    assert pairs() == [(5, 0), (6, 1)]
    bench(str(file), tmp_path, fitted, benchmarks="hh_rlhf", limit=2, fit_seeds="0,1")
    assert pairs() == [(5, 0), (5, 1), (6, 0), (6, 1)]
    file.write_text(file.read_text().replace("fit = [0, 1]", "fit = [0]"))
    with pytest.raises(PlumblineError, match="2 sampling seeds and 1 fit seeds make no pairs"):
        runner.order(fitted, str(file))


def test_reading_the_test_prompts_is_marked_and_must_be_declared(tiny, tmp_path, fitted):
    """A declared reader of the queries is marked transductive; an undeclared one is refused."""
    text = (
        Path(fitted)
        .read_text()
        .replace("weight = torch.zeros(", "lab.queries\n        weight = torch.zeros(")
    )
    sly = tmp_path / "sly.py"
    sly.write_text(text)
    outcome = bench(tiny, tmp_path, str(sly), benchmarks="hh_rlhf", limit=2)
    assert "add 'queries' to its needs" in outcome.failures[0]
    frank = tmp_path / "frank.py"
    frank.write_text(text.replace('{"pairs"}', '{"pairs", "queries"}'))
    for _ in range(2):  # the mark survives the fit being read back
        assert bench(tiny, tmp_path, str(frank), benchmarks="hh_rlhf", limit=2).failures == []
        (folder,) = runs(tmp_path, "hh_rlhf", "frank")
        assert "transductive" in store.verify(folder)["marks"]


# ---------------------------------------------------------------- skips and marks


def test_what_the_protocol_does_not_grant_is_skipped_with_the_reason(tiny, tmp_path):
    """A method whose needs are not met leaves a reason, not a number."""
    said = []
    outcome = bench(tiny, tmp_path, "always_refuse", benchmarks="hh_rlhf", say=said.append)
    assert outcome.failures == []
    (note,) = tmp_path.glob("runs/*/hh_rlhf/always_refuse/skipped.json")
    line = json.loads(note.read_text())
    assert line["method"] == "always_refuse"
    assert "reads words" in line["reason"]
    assert any("skipped" in text for text in said)


def test_ceilings_and_controls_are_marked(tiny, tmp_path):
    """A row that uses the truth is a ceiling; a control says so itself."""
    bench(tiny, tmp_path, "oracle_best_of_n(n=3),copy_the_prompt", benchmarks="hh_rlhf", limit=4)
    (ceiling,) = runs(tmp_path, "hh_rlhf", "oracle_best_of_n")
    assert store.verify(ceiling)["marks"] == ["limited", "ceiling"]
    golds = {(line["prompt"]): [] for line in read(ceiling, "pool")}
    for line in read(ceiling, "pool"):
        assert line["score"] == line["gold"]
        golds[line["prompt"]].append(line["gold"])
    scores = {s["prompt"]: s["value"] for s in read(ceiling, "scores.gold")}
    assert scores == {prompt: max(values) for prompt, values in golds.items()}
    (control,) = runs(tmp_path, "hh_rlhf", "copy_the_prompt")
    assert store.verify(control)["marks"] == ["limited", "control"]


# ---------------------------------------------------------------- greedy rows


def test_kl_of_a_greedy_row_comes_from_samples_of_its_own(tiny, spoken, tmp_path):
    """Where answers are not plain samples, the first [kl] prompts are sampled for the KL."""
    file = tmp_path / "greedy.toml"
    text = Path(tiny).read_text().replace("temperature = 1.0", "temperature = 0.0")
    file.write_text(text + "[kl]\nprompts = 3\n")
    outcome = bench(str(file), tmp_path, spoken, benchmarks="hh_rlhf")
    assert outcome.failures == []
    (folder,) = runs(tmp_path, "hh_rlhf", "spoken")
    values = [s["value"] for s in read(folder, "scores.kl")]
    assert len(values) == 3
    assert all(v is not None and v >= 0 for v in values)
    assert "samples of their own" in store.verify(folder)["kl"]["reason"]


# ---------------------------------------------------------------- faults


def failing(tmp_path, body):
    """A method file whose steer does ``body``."""
    file = tmp_path / "faulty.py"
    file.write_text(
        '"""Faulty."""\nfrom dataclasses import dataclass\nimport torch\n'
        "from harness.api import Method, Steering, Search\n"
        "@dataclass(frozen=True)\nclass Faulty(Method):\n"
        f"    def steer(self, kit, fitted):\n        {body}\n"
    )
    return str(file)


def test_a_fault_in_a_plugin_is_one_line_with_a_log_and_the_others_go_on(tiny, tmp_path):
    """An exception in one method names it and its log; the next row is run."""
    body = "return Steering(logits=(lambda logits, step: 1 / 0,))"
    methods = f"{failing(tmp_path, body)},another_seed"
    outcome = bench(tiny, tmp_path, methods, benchmarks="hh_rlhf", limit=2)
    (line,) = outcome.failures
    assert line.startswith("hh_rlhf faulty: ZeroDivisionError")
    assert "\n" not in line
    log = Path(line.rpartition("traceback in ")[2].rstrip(")"))
    assert "1 / 0" in log.read_text()
    assert outcome.finished == 2


def test_not_a_number_names_prompt_and_method(tiny, tmp_path):
    """NaN logits are an error that says which prompt and which row."""
    body = "return Steering(logits=(lambda logits, step: logits * float('nan'),))"
    outcome = bench(tiny, tmp_path, failing(tmp_path, body), benchmarks="hh_rlhf", limit=2)
    (line,) = outcome.failures
    assert line.startswith("hh_rlhf faulty: ")
    assert "prompt" in line
    assert "nan" in line.lower()


def test_two_searches_are_refused_before_anything_runs(tiny, tmp_path):
    """A stack that cannot be is found before the reference is run."""
    with pytest.raises(PlumblineError, match=r"best_of_n\+oracle_best_of_n: two methods"):
        bench(tiny, tmp_path, "best_of_n+oracle_best_of_n")
    assert list(tmp_path.glob("runs/*")) == []


def test_a_results_folder_that_cannot_be_written_stops_everything(tiny, tmp_path):
    """The first write that fails ends the command with its one line."""
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(store.StoreError, match="cannot write"):
        bench(tiny, tmp_path, "unsteered")


def test_a_full_disk_keeps_what_was_finished(tiny, tmp_path, monkeypatch):
    """When appending fails, every committed batch is still there, and the command goes on later."""
    setting = Setting(load(Path(tiny)), device="cpu", batch_rows=2)
    real, count = store.append, iter(range(10**6))

    def filling(path, lines):
        if path.name == "responses.jsonl" and next(count) == 2:
            raise store.StoreError(f"cannot write {path}: No space left on device")
        real(path, lines)

    monkeypatch.setattr(store, "append", filling)
    with pytest.raises(store.StoreError, match="No space left"):
        bench(tiny, tmp_path, "unsteered", setting, 2, benchmarks="hh_rlhf")
    (folder,) = runs(tmp_path, "hh_rlhf", "unsteered")
    assert len(read(folder, "responses")) == 4
    monkeypatch.undo()
    bench(tiny, tmp_path, "unsteered", setting, 2, benchmarks="hh_rlhf")
    assert len(read(folder, "responses")) == 8
    assert (folder / "done").exists()


def test_a_world_of_another_seed_is_another_table(tiny, tmp_path):
    """Runs under other terms go to a folder of their own."""
    other = tmp_path / "tiny.toml"
    other.write_text(Path(tiny).read_text().replace('"planted"', '"planted"\nworld_seed = 1'))
    for protocol in (tiny, str(other)):
        bench(protocol, tmp_path, "unsteered", benchmarks="hh_rlhf", limit=1)
    assert len(list(tmp_path.glob("runs/tiny-*"))) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"methods": "unsterd"}, "Did you mean 'unsteered'"),
        ({"protocol": "planetd"}, "Did you mean 'planted'"),
        ({"benchmarks": "hh_rlfh"}, "Did you mean 'hh_rlhf'"),
        ({"seeds": "0;1"}, "SEED is '0;1'"),
        ({"fit_seeds": "x"}, "FIT_SEED is 'x'"),
        ({"limit": 0}, "LIMIT is 0"),
        ({"settings": "unsteered.n=1"}, "unknown field of method unsteered"),
        ({"methods": "best_of_n", "settings": "best_of_n.n=zero"}, "a whole number"),
        ({"methods": "best_of_n", "settings": "best_of_n.n=0"}, "must be 1 or more"),
    ],
)
def test_mistakes_in_a_command_are_found_before_a_model_is_loaded(words, says):
    """Every misspelt or misfit word is one line with what was meant or what is accepted."""
    methods = words.pop("methods", "unsteered")
    protocol = words.pop("protocol", "planted")
    with pytest.raises(PlumblineError) as caught:
        runner.order(methods, protocol, **words)
    assert says in str(caught.value)


def test_an_unknown_judge_is_refused(tiny, tmp_path):
    """A judge that does not exist is named, with those that do."""
    file = tmp_path / "judged.toml"
    file.write_text(Path(tiny).read_text() + '[judging.testbed_pairwis]\nbackend = "world"\n')
    with pytest.raises(PlumblineError, match="Did you mean 'testbed_pairwise'"):
        runner.order("unsteered", str(file))


def test_a_world_that_lists_every_answer_gives_exact_columns(tiny, tmp_path):
    """With [kl] exact, each prompt has its exact reward, KL and gap, and the base's KL is 0."""
    file = tmp_path / "exact.toml"
    file.write_text(Path(tiny).read_text() + "[kl]\nexact = true\n")
    outcome = bench(str(file), tmp_path, "unsteered", benchmarks="hh_rlhf", limit=1)
    assert outcome.failures == []
    (folder,) = runs(tmp_path, "hh_rlhf", "unsteered")
    assert [s["value"] for s in read(folder, "scores.exact_kl")] == pytest.approx([0.0], abs=1e-9)
    assert len(read(folder, "scores.gap")) == len(read(folder, "scores.exact_reward")) == 1
