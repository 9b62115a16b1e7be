"""All stacks of a few methods: which are formed, which are refused, and a run on ``planted``."""

import pytest

from harness.conduct import crossing, runner, store
from harness.conduct.setting import Setting
from harness.errors import PlumblineError

TOUCHES = {
    "prompting": frozenset({"prompt"}),
    "static_editing": frozenset({"hidden", "prepare"}),
    "dpo": frozenset({"weights"}),
    "aligned": frozenset({"weights"}),
    "best_of_n": frozenset({"search"}),
    "speculative_rejection": frozenset({"search"}),
}


def plan(methods, *, orders=False, touches=TOUCHES, protocol="testbed"):
    """Form all stacks of some methods under a protocol."""
    order = runner.order(methods, protocol)
    crossing.check(methods, order)
    return crossing.plan(order, Setting(order.protocol, device="cpu"), touches, orders=orders)


def test_a_stack_applies_prompt_then_model_then_drawing():
    """Pairs and the full stack stand in this order, however the methods were named."""
    found = plan("best_of_n,prompting,static_editing")
    assert list(found.stacks.values()) == [
        "prompting+static_editing",
        "prompting+best_of_n",
        "static_editing+best_of_n",
        "prompting+static_editing+best_of_n",
    ]
    assert [found.kind(part) for part in found.parts] == ["prompt", "model", "drawing"]
    labels = [stack.label for stack in found.order.stacks]
    assert labels[:4] == ["unsteered", "prompting", "static_editing", "best_of_n"]
    assert labels[4:] == list(found.stacks.values())


def test_what_cannot_be_added_is_refused_in_the_engines_words():
    """Two searches and two changes of the weights are left out, with the reason."""
    found = plan("dpo,aligned,best_of_n,speculative_rejection")
    assert {labels: why.split(";")[0] for labels, why in found.refused.items()} == {
        ("dpo", "aligned"): "two methods in the stack change the weights",
        ("best_of_n", "speculative_rejection"): (
            "two methods in the stack search among candidates"
        ),
    }
    assert len(found.stacks) == 4


def test_an_order_is_tried_where_something_can_come_of_it():
    """A fit sees its left; a prompt and a search that learn nothing commute."""
    found = plan("prompting,static_editing,best_of_n", orders=True)
    assert list(found.reversed.values()) == [
        "static_editing+prompting",
        "best_of_n+static_editing",
    ]
    assert not plan("prompting,static_editing").reversed


def test_two_of_one_kind_make_a_pair_and_no_triple():
    """A full stack takes one of each kind; every combination of kinds is formed."""
    found = plan("prompting,static_editing,best_of_n,speculative_rejection")
    triples = [labels for labels in found.stacks if len(labels) == 3]
    assert triples == [
        ("prompting", "static_editing", "best_of_n"),
        ("prompting", "static_editing", "speculative_rejection"),
    ]


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("prompting", "a matrix takes two methods or more; there is one"),
        ("prompting,prompting", "names a row twice"),
        ("prompting,best_of_n(n=4),best_of_n(n=4)", "names a row twice"),
        ("prompting+best_of_n,static_editing", "prompting+best_of_n is a stack already"),
        ("unsteered,prompting", "unsteered is what every stack starts from"),
    ],
)
def test_a_mistake_is_one_line(methods, said):
    """Each names what was wrong before anything is loaded."""
    with pytest.raises(PlumblineError, match=said.replace("+", r"\+").replace("(", r"\(")):
        plan(methods)


def test_on_planted_every_stack_is_run_once_and_reported(tiny, fitted, tmp_path):
    """Parts, pairs, refusals and files; a second call runs nothing."""
    methods = f"{fitted},best_of_n(n=2),best_of_n(n=3),prompting"
    order = runner.order(methods, tiny, limit=8, benchmarks="hh_rlhf")
    said = []
    results = store.Store(tmp_path)
    written, failures = crossing.run(order, results, say=said.append, device="cpu", orders=True)
    assert failures == []
    ran = sorted(p.name for p in tmp_path.glob("runs/*/hh_rlhf/*"))
    assert ran == sorted(
        ["unsteered", "counted", "best_of_n", "prompting",
         "counted+best_of_n", "best_of_n+counted"]
    )  # fmt: skip
    assert any(line.startswith("best_of_n(n=2)+best_of_n(n=3)  refused: two") for line in said)
    text = written[0].read_text()
    assert "Empty cells (2)" in text
    assert "prompting with anything: the protocol does not grant" in text
    assert "counted+best_of_n(n=2)" in text
    assert written[0].parent.name.startswith("tiny-")
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/**/done")}
    crossing.run(order, results, say=said.append, device="cpu", orders=True)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/**/done")} == stamps
