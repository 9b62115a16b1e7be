"""AlignEZ whole: where it edits, per-query directions, batches, traits, and the planted model."""

import pytest
import torch

from benchmarks.planted.compiled import GAIN, LAYER, Compiled
from benchmarks.planted.language import Language, rendered
from benchmarks.planted.models import WIDTH
from harness.chat import Chat
from harness.conduct.check import Subject
from harness.contracts.method import Fitted, Kit
from harness.engine.decoding import Job, decode
from harness.engine.density import logprobs
from harness.engine.rows import Step
from harness.engine.sampling import Sampling
from harness.engine.steering import Site, Steering
from harness.errors import PlumblineError
from harness.records import Preference
from methods._alignez_states import states
from methods.alignez import AlignEZ

CHEAP = {"generation": "one_stage", "steps": 5, "restarts": 2, "neighbours": 2}
VARIANTS = {
    "v2": {},
    "v2-resid": {"site": "resid_post", "layers": (1,), "v2_direction": "toward"},
    "v1-svd": {"variant": "v1"},
    "v1-ccs": {"variant": "v1", "directions": "ccs", "layers": (0, 2)},
    "v1-knn": {"variant": "v1_knn"},
    "traits": {"traits": ("kind/rude", "safe/harmful"), "weights": (0.7, 0.3)},
}


def method(name, **more):
    """Make a variant that is cheap to fit."""
    return AlignEZ(**{**CHEAP, **VARIANTS[name], **more})


@pytest.fixture(scope="module")
def subject():
    """Give the contract's subject: a tiny model, questions, a lab that grants everything."""
    return Subject("alignez", AlignEZ)


@pytest.fixture(scope="module")
def learned(subject):
    """Give the fit of each variant."""
    return {name: subject.fitted(method(name)) for name in VARIANTS}


def answers(kit, jobs, steering=None, batch_rows=64):
    """Decode and give the tokens in the jobs' order."""
    done = {
        d.job: d.tokens
        for batch in decode(kit.model, jobs, steering, batch_rows=batch_rows)
        for d in batch
    }
    return [done[i] for i in range(len(jobs))]


def jobs_of(lab, budget=4, temperature=0.0):
    """Ask the contract's questions."""
    how = Sampling(temperature=temperature, max_new_tokens=budget)
    return [Job(p.id, p.chat, how) for p in lab.queries]


def bases(steering, chats):
    """Give what is prepared for some chats."""
    return steering.prepared(chats)


# ------------------------------------------------------------------ locality


@pytest.mark.parametrize("name", VARIANTS)
def test_10_only_the_drawing_position_is_edited(subject, learned, name):
    """10: at prefill every position but the last leaves the edit as it came."""
    lab = subject.lab()
    steering = method(name).steer(lab, learned[name])
    chats = [p.chat for p in lab.queries][:2]
    hidden = 3 * torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    drawn = torch.zeros(2, 5, dtype=torch.bool)
    drawn[:, -1] = True

    class Rows:
        given = bases(steering, chats)

        def of_prompt(self, name):
            """Give a row a prompt."""
            return self.given[name]

    step = Step(Rows(), torch.arange(5).repeat(2, 1), ~drawn | drawn, drawn & False, drawn, 0)
    moved = False
    for edit in steering.hidden:
        found = edit.edit(hidden, step)
        assert torch.equal(found[:, :-1], hidden[:, :-1])
        moved |= not torch.equal(found[:, -1], hidden[:, -1])
    assert moved


@pytest.mark.parametrize("name", VARIANTS)
def test_10_only_chosen_layers_are_touched_and_nothing_stays(subject, learned, name):
    """10: edits sit at the method's layers; after a run, even a broken one, none is left."""
    lab, made = subject.lab(), method(name)
    steering = made.steer(lab, learned[name])
    places = [edit.site for edit in steering.hidden]
    assert {site.place for site in places} == {"layer" if made.site == "resid_post" else "mlp"}
    told = learned[name].facts["traits"]
    if made.layers:
        assert [site.index for site in places] == list(made.layers)
    elif made.variant != "v2":
        assert {site.index for site in places} == {i for t in told.values() for i in t["layers"]}
    assert 0 < len(places) <= 3
    jobs = jobs_of(lab)
    before = answers(lab, jobs)

    def broken(logits, step):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answers(lab, jobs, steering + Steering(logits=(broken,)))
    assert answers(lab, jobs, steering) != before
    assert answers(lab, jobs) == before


@pytest.mark.parametrize("name", ["v1-svd", "v2", "v1-knn"])
def test_10_reading_a_text_meets_the_edits_that_wrote_it(subject, learned, name):
    """10: with the cache or without, earlier edited positions stay edited: one policy for both."""
    lab = subject.lab()
    steering = method(name).steer(lab, learned[name])
    kept = {}

    def look(logits, step):
        for chat, row in zip(step.rows.asked(), logits.log_softmax(-1), strict=True):
            kept[chat, step.index] = row.clone()
        return logits

    jobs = jobs_of(lab, 5)
    tokens = answers(lab, jobs, steering + Steering(logits=(look,)))
    for job, ids, found in zip(
        jobs, tokens, logprobs(lab.model, jobs, tokens, steering), strict=True
    ):
        drawn = torch.stack([kept[job.chat, t][token] for t, token in enumerate(ids)])
        torch.testing.assert_close(found, drawn, atol=2e-4, rtol=1e-4)


# -------------------------------------------------------------------- batches


@pytest.mark.parametrize("name", VARIANTS)
def test_11_a_batch_is_edited_as_its_prompts_alone(subject, learned, name):
    """11: directions, layers and greedy tokens are the same in a padded batch and one by one."""
    lab = subject.lab()
    steering = method(name).steer(lab, learned[name])
    jobs = jobs_of(lab)
    assert answers(lab, jobs, steering) == answers(lab, jobs, steering, batch_rows=1)
    chats = [job.chat for job in jobs]
    together = bases(steering, chats)
    for i, chat in enumerate(chats):
        for key, alone in bases(steering, [chat]).items():
            torch.testing.assert_close(alone[0].abs(), together[key][i].abs(), atol=1e-4, rtol=0)


def test_11_padding_is_no_part_of_a_state(subject):
    """11: a short text's states are the same beside a long one."""
    lab = subject.lab()
    chats = [Chat.of("a"), Chat.of("a much longer question than that one")]
    sites = [Site.mlp(0), Site.layer(2)]
    together = states(lab, chats, [(65, 66), (67,)], sites)
    alone = states(lab, chats[:1], [(65, 66)], sites)
    torch.testing.assert_close(together[:, :1], alone, atol=1e-5, rtol=1e-5)
    assert together.shape == (2, 2, 32)


def test_directions_follow_their_query(subject, learned):
    """Two queries are edited in different ways, and a query's own in any company."""
    lab = subject.lab()
    for name in ("v2", "v1-knn"):
        given = bases(method(name).steer(lab, learned[name]), [p.chat for p in lab.queries])
        assert any(not torch.equal(t[0], t[i]) for t in given.values() for i in range(1, 6))


def test_in_a_stack_the_query_is_read_as_the_left_shows_it(subject, learned):
    """A neighbour's prompt edit changes the query's state, and so what is chosen for it."""
    lab = subject.lab()
    left = Steering(prompt=(lambda chats: [c.with_system("Go on!") for c in chats],))
    chats = [p.chat for p in lab.queries]
    plain = bases(method("v1-knn").steer(lab, learned["v1-knn"]), chats)
    shown = bases(method("v1-knn").steer(lab.after(left), learned["v1-knn"]), chats)
    assert any(not torch.equal(plain[key], shown[key]) for key in plain)


# --------------------------------------------------------------------- choices


def test_queries_are_test_prompts_or_held_out_ones(subject):
    """Only the transductive source reads the test prompts; the held-out one reads the pairs'."""
    for source, transductive in (("test", True), ("heldout", False)):
        lab = subject.lab()
        fitted = method("v2", queries=source, count=4).fit(lab)
        assert lab.transductive is transductive
        assert fitted.facts["queries"] == 4
    with pytest.raises(PlumblineError, match=r"queries=heldout: there are no training pairs"):
        method("v2", queries="heldout").fit(subject.lab(pairs=()))
    with pytest.raises(PlumblineError, match=r"queries=test: there are no test prompts"):
        method("v2").fit(subject.lab(queries=()))


def test_held_out_queries_ask_each_question_once(subject):
    """Pairs that share a conversation give one query."""
    pairs = [Preference(f"p{i}", Chat.of(f"What is {i // 2}?"), "a", "b") for i in range(8)]
    fitted = method("v2", queries="heldout").fit(subject.lab(pairs=pairs))
    assert fitted.facts["queries"] == 4


def test_traits_are_weighted_changes_of_the_same_state(subject):
    """With two traits the change is the weighted sum of what each makes of the unedited state."""
    luck = torch.Generator().manual_seed(2)
    one, other = (torch.linalg.qr(torch.randn(32, 3, generator=luck))[0].T for _ in range(2))
    kit, x = subject.lab(), torch.randn(1, 1, 32, generator=luck)
    named = ("kind/rude", "safe/harmful")

    def change(kept, **settings):
        tensors = {f"{i}.basis": b.repeat(3, 1, 1).contiguous() for i, b in enumerate(kept)}
        steering = AlignEZ(layers=(1,), query_filter="all", **settings).steer(kit, Fitted(tensors))

        class Rows:
            given = bases(steering, [Chat.of("a")])

            def of_prompt(self, name):
                """Give the only prompt's."""
                return self.given[name]

        ones = torch.ones(1, 1, dtype=torch.bool)
        step = Step(Rows(), torch.zeros(1, 1), ones, ones, ones, 1)
        return steering.hidden[0].edit(x, step) - x

    alone = change([one], traits=named[:1]), change([other], traits=named[1:])
    both = change([one, other], traits=named, weights=(0.7, 0.3), strength=2.0)
    torch.testing.assert_close(both, 1.4 * alone[0] + 0.6 * alone[1], atol=1e-5, rtol=1e-4)
    equal = change([one, other], traits=named)
    torch.testing.assert_close(equal, (alone[0] + alone[1]) / 2, atol=1e-5, rtol=1e-4)


def test_nearest_pairs_are_those_of_the_nearest_queries(subject):
    """With one neighbour a query's own pair gives both directions."""
    from methods._alignez_states import Measured
    from methods._alignez_v1 import nearest_poles

    luck = torch.Generator().manual_seed(3)
    near = Measured(*(torch.randn(2, 7, 32, generator=luck) for _ in range(3)))
    help, harm = nearest_poles(5 * near.query[1, 2:4], near, 1, 1)
    for i in (0, 1):
        for found, stored in ((help[i], near.good[1, 2 + i]), (harm[i], near.bad[1, 2 + i])):
            torch.testing.assert_close(
                found.abs(), torch.nn.functional.normalize(stored, dim=0).abs()
            )


def test_a_fit_says_where_it_stands(subject, learned):
    """Losses, verdicts, cosines and sizes are facts; what is wrong with them is a warning."""
    told = learned["v1-ccs"].facts["traits"]["general"]
    assert len(told["ccs loss"]) == len(told["ccs verdict"]) == 3
    assert told["layers"] == [0, 2]
    assert len(told["cosine of help and harm"]) == 3
    assert all(0 <= share <= 1 for both in told["share of energy in the mean"] for share in both)
    told = learned["v2"].facts["traits"]["general"]
    assert len(told["queries that edit a layer"]) == 3
    assert max(told["queries that edit a layer"]) > 0


# -------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"count": 0}, r"count is 0; it must be 1"),
        ({"per_query": 0}, r"per_query is 0"),
        ({"energy": 0.0}, r"energy is 0\.0; it must lie in \(0, 1\]"),
        ({"similar": 2.0}, r"similar is 2\.0; a cosine"),
        ({"rank": 0}, r"rank is 0"),
        ({"directions": "ccs"}, r"directions=ccs belongs to variant v1; variant is v2"),
        ({"traits": ()}, r"one trait at least"),
        ({"traits": ("humor", "humor")}, r"none twice"),
        ({"weights": (0.5, 0.5)}, r"weights has 2 numbers for 1 traits"),
    ],
)
def test_settings_without_sense_are_refused(settings, says):
    """A field out of its range is refused in a line that says what is accepted."""
    with pytest.raises(PlumblineError, match=says):
        AlignEZ(**settings)


def test_layers_out_of_range_are_refused(subject):
    """A layer that the model does not have is refused before anything is written."""
    with pytest.raises(PlumblineError, match=r"names layer 7; the model has 3"):
        method("v2", layers=(7,)).fit(subject.lab())


def test_states_without_a_direction_are_refused(subject, monkeypatch):
    """Pairs with equal states, states of zero and states that are not finite are each refused."""
    from methods import _alignez_states, alignez

    def told(value):
        def fake(kit, chats, answers, sites, at="last", *, steering=None):
            return value(torch.ones(len(sites), len(chats), 32), any(map(len, answers)))

        monkeypatch.setattr(_alignez_states, "states", fake)
        return lambda **more: alignez.AlignEZ(**CHEAP, **more).fit(subject.lab())

    with pytest.raises(PlumblineError, match=r"same state at every layer"):
        told(lambda ones, answer: ones)()
    with pytest.raises(PlumblineError, match=r"NaN or infinite"):
        told(lambda ones, answer: ones * float("nan"))()
    calls = iter(range(99))
    differ = told(lambda ones, answer: ones * (next(calls) % 3))  # good 0, bad 1, query 2
    with pytest.raises(PlumblineError, match=r"helpful states of layer 1 are all zero"):
        differ(variant="v1", layers=(1,))
    calls = iter(range(99))
    with pytest.raises(PlumblineError, match=r"at no layer do two pairs differ"):
        told(lambda ones, answer: ones * (1 + next(calls)))()


# ------------------------------------------------------- the model set by hand

EXACT = 1e-6
KIND = Language.of(0).kind
PROMPT = Chat.of(f"{KIND} {KIND}")


@pytest.fixture(scope="module")
def compiled():
    """Give the model whose every state is known, and its formula."""
    from harness.engine.model import Model

    def load(folder):
        formula = Compiled(0)
        formula.save(folder)
        return Model.load(str(folder), device="cpu"), formula

    return load


def norm(h):
    """Scale to a root mean square of one, as the model does."""
    return h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def foretold(formula, ids, prompt, layer, change):
    """Predict log p(next) after every position, with ``change`` added where a token is drawn."""
    drawn = (torch.arange(len(ids)) >= prompt - 1)[:, None]
    h = formula.embedding[torch.tensor(ids)]
    h = h + change(h) * drawn if layer < LAYER else h
    mean = (norm(h) @ formula.source).cumsum(0) / torch.arange(1, len(ids) + 1)
    h = h + GAIN * mean[:, None] * formula.trait
    h = h + change(h) * drawn if layer >= LAYER else h
    return (norm(h) @ formula.head.T).log_softmax(-1)


def query_state(formula, layer):
    """Predict the state of the prompt's last token, unedited."""
    h = formula.embedding[torch.tensor(rendered(PROMPT))]
    mean = (norm(h) @ formula.source).mean()
    return h[-1] + (GAIN * mean * formula.trait if layer >= LAYER else 0)


def expected_change(name, formula, layer, one, other):
    """Write the edit of each variant anew, in float64."""

    def projections(x):
        harm, help = one, other
        left = x - (x @ harm)[:, None] / (harm @ harm) * harm
        return left + (left @ help)[:, None] / (help @ help) * help - x

    def loops(x, kept=None):
        q, out = query_state(formula, layer), x
        for theta in (one / one.norm(), other / other.norm()):
            if q @ theta <= 0:
                along = (out @ theta)[:, None]
                along = along.abs() if name == "toward" else along
                out = out + 1.5 * along.tanh() * theta
        return out - x

    return projections if name == "v1" else loops


@pytest.mark.parametrize("layer", [LAYER - 1, LAYER, LAYER + 1])
@pytest.mark.parametrize("name", ["v1", "v2", "toward"])
def test_every_edit_does_what_the_formula_foretells(compiled, tmp_path, name, layer):
    """On the compiled model the effect of each edit is the predicted one to 1e-6."""
    model, formula = compiled(tmp_path)
    # Orthogonal, and well to either side of the query, so that the filter has no tie.
    one = -2.0 * formula.trait + 0.5 * formula.source - 0.3 * formula.bulk
    other = 0.5 * formula.trait + 2.3 * formula.source + 0.5 * formula.bulk
    if name == "v1":
        zeros = torch.zeros(LAYER + 2, WIDTH)
        help, harm = zeros.clone(), zeros.clone()
        help[layer], harm[layer] = other.float(), one.float()
        tensors = {"0.help": help, "0.harm": harm, "0.layers": torch.tensor([layer])}
        made = AlignEZ(variant="v1", site="resid_post")
    else:
        basis = torch.stack([one / one.norm(), other / other.norm()]).float()
        tensors = {"0.basis": basis.repeat(LAYER + 2, 1, 1).contiguous()}
        made = AlignEZ(
            site="resid_post",
            layers=(layer,),
            strength=1.5,
            v2_direction="toward" if name == "toward" else "as_stated",
        )
    steering = made.steer(Kit(model), Fitted(tensors))
    prompt = model.encode(PROMPT)
    drawn = [3, 5, 4]
    job = Job("p", PROMPT, Sampling(max_new_tokens=4))
    (found,) = logprobs(model, [job], [drawn], steering)
    change = expected_change(name, formula, layer, one, other)
    table = foretold(formula, [*prompt, *drawn], len(prompt), layer, change)
    wanted = [float(table[len(prompt) - 1 + t, token]) for t, token in enumerate(drawn)]
    assert found.exp().tolist() == pytest.approx(
        [torch.tensor(w).exp().item() for w in wanted], abs=EXACT
    )
    (plain,) = logprobs(model, [job], [drawn], Steering())
    assert (plain - found).abs().max() > 1e-2
