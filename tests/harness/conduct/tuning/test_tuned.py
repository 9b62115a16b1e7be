"""What bench makes of a tuning: which rows use its fields, and what is said and stored."""

from pathlib import Path

from tuning_commands import bench, tune


def test_bench_uses_tuned_fields_and_says_so(tiny, tmp_path, pushed):
    """A row that names no field is run with the fields found, labelled and marked as tuned."""
    results = tmp_path / "r"
    tune(tiny, results, "best_of_n", count=3)
    said, specs = bench(tiny, results, f"best_of_n,{pushed}")
    (label,) = [name for name in specs if "tuned" in name]
    assert label == "best_of_n(n=32) [tuned, 3 trials]"
    assert specs[label]["tuning"]["trials"] == 3
    assert specs[label]["tuning"]["objective"] == "reward"
    assert specs[label]["stack"][0]["settings"] == {"n": 32}
    assert set(specs) == {"unsteered", label, "pushed"}
    (line,) = [line for line in said if "tuned fields" in line]
    assert "n=32" in line
    assert "3 trials on reward" in line


def test_fields_can_be_the_defaults_or_both(tiny, tmp_path):
    """FIELDS=default runs no tuned row, FIELDS=both one of each; a named field is left alone."""
    results = tmp_path / "r"
    tune(tiny, results, "best_of_n", count=3)
    _, specs = bench(tiny, results, "best_of_n", "default")
    assert set(specs) == {"unsteered", "best_of_n"}
    _, specs = bench(tiny, results, "best_of_n(n=8),best_of_n(n=3)")
    assert set(specs) == {"unsteered", "best_of_n", "best_of_n(n=3)"}
    _, specs = bench(tiny, results, "best_of_n", "both")
    assert set(specs) - {"unsteered", "best_of_n(n=3)"} == {
        "best_of_n",
        "best_of_n(n=32) [tuned, 3 trials]",
    }


def test_a_fit_made_while_tuning_is_not_repeated(tiny, tmp_path):
    """The tuned row reads the fit its trial made; the default row, which tries, has its own."""
    results = tmp_path / "r"
    outcome, _ = tune(tiny, results, "static_editing", count=3)
    assert not outcome.failures
    before = {p.parent for p in results.glob("fits/*/static_editing/*/done")}
    _, specs = bench(tiny, results, "static_editing")
    (tuned,) = [spec for label, spec in specs.items() if "tuned" in label]
    assert {p.parent for p in results.glob("fits/*/static_editing/*/done")} == before
    assert tuned["fits"][0] in {folder.name for folder in before}
    bench(tiny, results, "static_editing", "default")
    assert len(list(results.glob("fits/*/static_editing/*/done"))) == len(before) + 1


def test_fields_of_other_terms_are_not_used(tiny, tmp_path):
    """Tuned under another hash of the protocol: one line says they exist, the defaults are run."""
    results = tmp_path / "r"
    tune(tiny, results, "best_of_n", count=2)
    (tmp_path / "tiny.toml").write_text(Path(tiny).read_text().replace("count = 32", "count = 31"))
    said, specs = bench(str(tmp_path / "tiny.toml"), results, "best_of_n")
    assert "best_of_n" in specs
    (line,) = [line for line in said if "tuned" in line]
    assert line.startswith("best_of_n: tuned fields exist for other terms (tiny-")


def test_fields_found_by_other_code_are_not_used(tiny, tmp_path, pushed):
    """A method that was edited since is another method, and a line says so."""
    results = tmp_path / "r"
    tune(tiny, results, pushed, count=2)
    text = Path(pushed).read_text()
    Path(pushed).write_text(text.replace("+= self.strength", "+= 2 * self.strength"))
    said, specs = bench(tiny, results, pushed)
    assert "pushed" in specs
    assert any("its code has changed since" in line for line in said)
