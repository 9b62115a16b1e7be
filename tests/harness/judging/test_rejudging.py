"""`judge`: stored answers put to an endpoint, and the one line each mistake gets."""

import json
import shutil
from pathlib import Path

import pytest
from faulty_server import completion
from typer.testing import CliRunner

from harness.__main__ import app
from harness.conduct import runner, store

KEY = "sk-not-for-anyone"
PROTOCOL = """
[about]
text = "A protocol of the tests, on the synthetic world planted."
[model]
world = "planted"
reads_words = false
[data.hh_rlhf]
world = "hh_rlhf"
[sampling]
temperature = 1.0
max_new_tokens = 4
"""
JUDGE = "testbed_pairwise"


def verdict(handler, body, count):
    """Prefer the first answer; the price of a question is the server's."""
    handler.send(200, completion("The better answer is A because it is more helpful."))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Give a results folder with two runs, made once."""
    patch = pytest.MonkeyPatch()
    place = tmp_path_factory.mktemp("ran")
    patch.setenv("PLUMBLINE_CACHE", str(place / "cache"))
    (place / "tiny.toml").write_text(PROTOCOL)
    outcome = runner.bench(
        runner.order("another_seed", str(place / "tiny.toml"), limit=12),
        store.Store(place / "results"),
        say=lambda line: None,
        device="cpu",
    )
    assert outcome.failures == []
    yield place
    patch.undo()


@pytest.fixture
def judge(ran, tmp_path, monkeypatch):
    """Give a function that calls the command on a copy of the results."""
    results = tmp_path / "results"
    shutil.copytree(ran / "results", results)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PLUMBLINE_JUDGE_API_KEY", KEY)
    monkeypatch.setenv("PLUMBLINE_CACHE", str(ran / "cache"))

    def call(*words, who=f"{JUDGE}@openai/org/model-1"):
        given = ["judge", "--judge", who, "--output_path", results]
        given += ["--protocol", ran / "tiny.toml", *words]
        done = CliRunner().invoke(app, [str(word) for word in given])
        for path in results.rglob("*"):
            assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
        assert KEY not in done.output
        return done.exit_code, done.stdout.splitlines(), done.stderr.strip()

    call.results = results
    return call


def one_run(results, stack="another_seed"):
    """Give the folder of the one run of a row."""
    (spec,) = results.glob(f"runs/*/hh_rlhf/{stack}/*/spec.json")
    return spec.parent


def column(results, stack="another_seed"):
    """Give what the endpoint made of a row."""
    return store.scores(one_run(results, stack), f"win_rate@{JUDGE}@org-model-1")


def test_stored_answers_get_verdicts_and_nothing_is_generated(judge, server):
    """Every answer is judged, outcomes and dollars are said, the table stands in the last line."""
    there = server(decide=verdict)
    before = (one_run(judge.results) / "responses.jsonl").read_bytes()
    code, out, err = judge("--url", there.url, "--prices", "1000,0")
    assert (code, err) == (0, "")
    scores = column(judge.results)
    asked = [s for s in scores.values() if s.text.startswith("The better")]
    assert len(scores) == len(store.responses(one_run(judge.results)))
    assert {(s.value, s.parts["inconsistent"]) for s in asked} == {(0.5, 1.0)}
    assert {s.outcome for s in column(judge.results, "unsteered").values()} == {"tie"}
    assert (one_run(judge.results) / "responses.jsonl").read_bytes() == before
    questions = {question for question, _, _ in there.requests}
    assert len(questions) == len(there.requests)
    cost = len(there.requests) * 10 * 1000 / 1e6
    assert f"{len(there.requests)} questions asked, 0 known already" in out[-2]
    assert f"${cost:.4f}" in out[-2]
    assert "answered by judge-1-2026" in out[-2]
    assert f"{len(asked)} ok" in out[-2]
    table = Path(out[-1])
    assert table.is_file()
    assert "org-model-1" in (table.parent / "hh_rlhf.csv").read_text()
    page = (table.parent / "hh_rlhf.md").read_text()
    assert f"judge dollars, at the prices given: another_seed ${cost:.4f}" in page.replace("\\", "")
    assert there.requests[0][2]["authorization"] == f"Bearer {KEY}"


def test_the_same_command_asks_nobody_and_a_lost_score_file_costs_nothing(judge, server):
    """Verdicts stand; where their file is gone they are read from what was replied."""
    there = server(decide=verdict)
    assert judge("--url", there.url)[0] == 0
    first, count = column(judge.results), len(there.requests)
    assert judge("--url", there.url)[0] == 0
    (one_run(judge.results) / f"scores.win_rate@{JUDGE}@org-model-1.jsonl").unlink()
    code, out, _ = judge("--url", there.url, "--run", one_run(judge.results))
    assert code == 0
    assert len(there.requests) == count
    assert column(judge.results) == first
    assert "0 questions asked" in out[-2]


def test_what_got_no_answer_is_put_again(judge, server):
    """Failed questions are counted, and the next command asks those and no others."""
    broken = True

    def half(handler, body, count):
        if broken and len(body["messages"][-1]["content"]) % 2:
            handler.send(400, {"error": {"message": "odd"}})
        else:
            verdict(handler, body, count)

    there = server(decide=half)
    code, out, _ = judge("--url", there.url)
    failed = [s for s in column(judge.results).values() if s.outcome == "failed"]
    assert code == 0
    assert failed
    assert f"{len(failed)} failed" in out[-2]
    assert all(s.value is None for s in failed)
    broken = False
    there.requests.clear()
    code, out, _ = judge("--url", there.url)
    assert {s.outcome for s in column(judge.results).values()} <= {"ok", "tie"}
    assert all(len(question) % 2 for question, _, _ in there.requests)
    assert "failed" not in out[-2]


def test_a_protocol_that_names_the_endpoint_gives_the_same_column(judge, ran, server, tmp_path):
    """JUDGE= alone takes who answers, the price and the URL from [judging]."""
    there = server(decide=verdict)
    file = tmp_path / "tiny.toml"
    file.write_text(
        PROTOCOL + f'[judging.{JUDGE}]\nbackend = "openai"\nmodel = "org/model-1"\n'
        f'url = "{there.url}/chat/completions"\nprice_in = 1000\nprice_out = 0\n'
    )
    code, out, _ = judge("--protocol", file, who=JUDGE)
    assert code == 0
    assert column(judge.results)
    assert "$" in out[-2]
    outcome = runner.bench(  # and a bench under it finds everything judged
        runner.order("another_seed", str(file), limit=12),
        store.Store(judge.results),
        say=lambda line: None,
        device="cpu",
    )
    assert outcome.failures == []
    assert f"{len(there.requests)} questions asked" in out[-2]


def test_against_the_sets_own_answers(judge, server):
    """AGAINST=reference judges unsteered too."""
    there = server(decide=verdict)
    code, _, err = judge("--url", there.url, "--against", "reference")
    assert (code, err) == (0, "")
    texts = [s.text for s in column(judge.results, "unsteered").values()]
    assert any(text.startswith("The better") for text in texts)


@pytest.mark.parametrize(
    ("words", "who", "says"),
    [
        ((), "nobody@openai/m", "unknown judge 'nobody'"),
        ((), JUDGE, f"judge '{JUDGE}' is not under [judging]"),
        ((), f"{JUDGE}@openai", "after @ comes openai/<model>"),
        ((), f"{JUDGE}@vertex/m", "after @ comes openai/<model>"),
        (("--url", "localhost:8000"), None, "must be a URL such as http"),
        (("--url", "http://127.0.0.1:9/v1"), None, "judge org/model-1 at http://127.0.0.1:9/v1"),
        (("--run", "/nowhere"), None, "/nowhere is no folder with runs in it"),
        (("--prices", "cheap"), None, "PRICES is 'cheap'"),
        (("--against", "them"), None, "against: "),
        (("--concurrency", "0"), None, "concurrency"),
        (("--dtype", "float8"), None, "dtype: "),
        ((), f"{JUDGE}@local//nowhere", "model folder /nowhere does not exist"),
        ((), f"{JUDGE}@local/org/name", "org/name is on the Hub and has no revision"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(judge, words, who, says):
    """The exit code is not 0, one line says what was wrong, and no score appears."""
    before = sorted(one_run(judge.results).iterdir())
    code, _, err = judge(*words, **({"who": who} if who else {}))
    assert code != 0
    assert says in err
    assert "Traceback" not in err
    if "concurrency" not in says:  # typer draws its own box
        assert err.startswith("error: ")
        assert "\n" not in err
    assert [p for p in sorted(one_run(judge.results).iterdir()) if p.name.startswith("scores")] == [
        p for p in before if p.name.startswith("scores")
    ]


def test_openai_without_a_key_is_one_line(judge, monkeypatch):
    """Nothing is asked, and both variables are named."""
    monkeypatch.delenv("PLUMBLINE_JUDGE_API_KEY")
    code, _, err = judge()
    assert code == 1
    assert err.startswith("error: no key for https://api.openai.com/v1: set PLUMBLINE_JUDGE_API_K")


def test_a_bench_without_its_judges_key_stops_before_it_begins(judge, ran, tmp_path, monkeypatch):
    """The key is looked for before a model is loaded."""
    monkeypatch.delenv("PLUMBLINE_JUDGE_API_KEY")
    file = tmp_path / "tiny.toml"
    file.write_text(PROTOCOL + f'[judging.{JUDGE}]\nbackend = "openai"\nmodel = "m"\n')
    words = ["bench", "--method", "unsteered", "--protocol", file, "--output_path", tmp_path / "r"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1
    assert "no key for https://api.openai.com/v1" in done.stderr
    assert not (tmp_path / "r").exists()


def test_a_bench_whose_endpoint_is_gone_keeps_its_answers(judge, server, tmp_path):
    """The row fails with one line; once the endpoint is there the answers are only judged."""
    there = server(decide=verdict)
    results, file = tmp_path / "fresh", tmp_path / "tiny.toml"

    def bench(url):
        file.write_text(
            PROTOCOL + f'[judging.{JUDGE}]\nbackend = "openai"\nmodel = "m"\nurl = "{url}"\n'
        )
        words = ["bench", "--method", "another_seed", "--protocol", file, "--limit", 8,
                 "--output_path", results, "--device", "cpu"]  # fmt: skip
        done = CliRunner().invoke(app, [str(word) for word in words])
        return done.exit_code, done.stderr.strip().splitlines()

    code, errors = bench("http://127.0.0.1:9/v1")
    assert code == 1
    assert len(errors) == 1
    assert "another_seed: judge m at http://127.0.0.1:9/v1" in errors[0]
    written = (one_run(results) / "responses.jsonl").stat().st_mtime_ns
    assert bench(there.url) == (0, [])
    assert (one_run(results) / "responses.jsonl").stat().st_mtime_ns == written
    assert store.scores(one_run(results), f"win_rate@{JUDGE}@m")


def test_an_unknown_model_midway_keeps_finished_work(judge, server):
    """A 404 is one line; what was judged before stands, and is not asked again."""
    there = server(decide=verdict)
    assert judge("--url", there.url)[0] == 0
    finished = column(judge.results)
    error = {"message": "The model does not exist", "code": "model_not_found"}
    gone = server(decide=lambda handler, body, count: handler.send(404, {"error": error}))
    code, _, err = judge("--url", gone.url, who=f"{JUDGE}@openai/model-9")
    assert code == 1
    assert "404: The model does not exist; is there a model 'model-9'" in err
    assert len(gone.requests) == 1
    assert column(judge.results) == finished


def test_the_replies_file_holds_no_secret_of_the_url(judge, server):
    """A password in the URL is neither stored nor shown."""
    there = server(decide=verdict)
    url = there.url.replace("http://", "http://me:hunter2@")
    code, _, err = judge("--url", url)
    assert (code, err) == (0, "")
    (kept,) = judge.results.glob(f"verdicts/{JUDGE}/*.jsonl")
    header = json.loads(kept.read_text().splitlines()[0])
    assert header["identity"]["url"] == there.url
    for path in judge.results.rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path
