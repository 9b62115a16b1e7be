"""The contract every method keeps, as clauses that can be run on one.

``make check METHOD=path/to/mine.py`` runs them for an author outside; the test
suite runs them on every method inside.  They use a tiny random model, so they
say whether the plumbing is right, not whether the method is any good.
"""

from __future__ import annotations

import ast
import pickle
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import torch

from harness.chat import Chat
from harness.contracts.method import Fitted, Lab, Method
from harness.engine.decoding import Decoded, Job, decode
from harness.engine.model import Model
from harness.engine.sampling import Sampling
from harness.engine.steering import Search, Steering
from harness.engine.tiny import tiny_model, tiny_reward
from harness.errors import PlumblineError
from harness.records import Preference, Prompt

BUDGET = 12
QUESTIONS = (
    "How do I bake bread?",
    "Tell me about the sea.",
    "What?",
    "Which of these two long roads leads to the old town by the river?",
    "Can you help me?",
    "Why is the sky blue today and grey tomorrow?",
)


class Broken(AssertionError):
    """A clause does not hold; the message says what to do about it."""


def _hold(condition: bool, message: str) -> None:
    if not condition:
        raise Broken(message)


@dataclass(frozen=True)
class Subject:
    """The method under test, under the name of its file."""

    name: str
    cls: type[Method]

    def lab(self, seed: int = 0, left: Steering | None = None, **changes: Any) -> Lab:
        """Make a lab that grants everything."""
        return Lab(
            _model(),
            **{
                "pairs": _pairs(),
                "dev": _pairs()[:8],
                "queries": _prompts(),
                "seed": seed,
                "left": left,
                "reward": tiny_reward(),
                "models": {"aligned": tiny_model(seed=1)},
                "sampling": Sampling(max_new_tokens=BUDGET),
                **changes,
            },
        )

    def fitted(self, method: Method | None = None, left: Steering | None = None) -> Fitted:
        """Fit the method with default fields, or the one given."""
        return (method or self.cls()).fit(self.lab(left=left))

    def steering(self, method: Method | None = None, left: Steering | None = None) -> Steering:
        """Fit and steer."""
        method = method or self.cls()
        return method.steer(self.lab(), self.fitted(method, left))


@cache
def _model() -> Model:
    return tiny_model()


@cache
def _pairs() -> tuple[Preference, ...]:
    good = ("Of course, {}", "Certainly, {}", "Happy to help: {}")
    bad = ("No. {}", "Go away, {}", "Whatever, {}")
    return tuple(
        Preference(
            f"pair{i}",
            Chat.of(f"Question number {i}: {QUESTIONS[i % 6]}"),
            good[i % 3].format(f"here is answer {i}."),
            bad[i % 3].format(f"here is answer {i}."),
            cluster=f"cluster{i}",
        )
        for i in range(24)
    )


@cache
def _prompts() -> tuple[Prompt, ...]:
    return tuple(Prompt(f"q{i}", Chat.of(q), cluster=f"q{i}") for i, q in enumerate(QUESTIONS))


def _answers(
    steering: Steering | None, batch_rows: int = 64, temperature: float = 1.0
) -> list[tuple[int, ...]]:
    how = Sampling(temperature=temperature, max_new_tokens=BUDGET)
    jobs = [Job(p.id, p.chat, how) for p in _prompts()]
    done: dict[int, Decoded] = {}
    for batch in decode(_model(), jobs, steering, seed=3, batch_rows=batch_rows):
        done |= {d.job: d for d in batch}
    return [done[i].tokens for i in range(len(jobs))]


# ------------------------------------------------------------------ clauses


def builds_without_work(subject: Subject) -> None:
    """Building a method only stores its fields: frozen, hashable, and its repr builds it again."""
    before = torch.get_rng_state()
    method = subject.cls()
    _hold(is_dataclass(subject.cls), "the class is not a dataclass: add @dataclass(frozen=True)")
    _hold(bool(torch.equal(before, torch.get_rng_state())), "building draws random numbers")
    try:
        object.__getattribute__(method, "__hash__")()
    except TypeError as error:
        raise Broken(f"not hashable ({error}): use frozen=True and tuples for lists") from error
    again = eval(repr(method), {subject.cls.__name__: subject.cls})
    _hold(again == method, f"repr does not build the same method again: {method!r}")
    for field in fields(method):
        try:
            setattr(method, field.name, getattr(method, field.name))
        except AttributeError:
            continue
        raise Broken("fields can be changed after building: add frozen=True")


def fit_is_deterministic(subject: Subject) -> None:
    """Fitting twice with one seed gives equal tensors and facts, and leaves global noise alone."""
    before = torch.get_rng_state()
    first, second = subject.fitted(), subject.fitted()
    _hold(bool(torch.equal(before, torch.get_rng_state())), "fit draws from torch's global noise")
    _hold(first.facts == second.facts, f"facts differ: {first.facts} and {second.facts}")
    _same_tensors(first.tensors, second.tensors, "two fits with one seed")


def fitted_survives_storage(subject: Subject) -> None:
    """What was fitted is plain tensors and JSON, and comes back from disk bit for bit."""
    import json

    from safetensors.torch import load, save

    fitted = subject.fitted()
    try:
        facts = json.loads(json.dumps(dict(fitted.facts)))
    except TypeError as error:
        raise Broken(f"facts are not JSON: {error}") from error
    tensors = load(save({k: v.contiguous() for k, v in fitted.tensors.items()}))
    _same_tensors(fitted.tensors, tensors, "storing and loading")
    steering = subject.cls().steer(subject.lab(), Fitted(tensors, facts))
    fresh = _answers(subject.steering())
    _hold(_answers(steering) == fresh, "answers differ after the fit was stored and loaded")


def steer_is_deterministic(subject: Subject) -> None:
    """Steering twice touches the same parts and gives the same answers, and draws no noise."""
    method, fitted = subject.cls(), subject.fitted()
    before = torch.get_rng_state()
    first, second = (method.steer(subject.lab(), fitted) for _ in range(2))
    _hold(isinstance(first, Steering), "steer must return a Steering")
    _hold(first.touches == second.touches, "steer touches different parts each time")
    answers = _answers(first)
    _hold(answers == _answers(second), "two steerings of one fit answer differently")
    _hold(bool(torch.equal(before, torch.get_rng_state())), "a run draws torch's global noise")
    if not first.touches:
        _hold(answers == _answers(None), "an empty steering must answer as the base model")


def leaves_the_model_alone(subject: Subject) -> None:
    """After a run the model has no hooks, the same weights, and answers as before."""
    net = _model().net
    base = _answers(None)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    _answers(subject.steering())
    hooks = [n for n, m in net.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    _hold(not hooks, f"hooks were left on {hooks[:3]}")
    _same_tensors(weights, net.state_dict(), "a run")
    _hold(_answers(None) == base, "the base model answers differently after a run")


def batching_does_not_matter(subject: Subject) -> None:
    """A batch of six answers as six batches of one, sampled and greedy, whatever the padding."""
    steering = subject.steering()
    for temperature in (1.0, 0.0):
        together = _answers(steering, 64, temperature)
        alone = _answers(steering, 1, temperature)
        _hold(
            together == alone,
            "answers depend on what else is in the batch: does an edit look at padding "
            "(step.real is False there), or mix rows?",
        )


def neutral_is_unsteered(subject: Subject) -> None:
    """At its declared neutral fields the method is the base model, token for token."""
    if subject.cls.neutral is None:
        return
    method = subject.cls(**dict(subject.cls.neutral))
    _hold(
        _answers(subject.steering(method)) == _answers(None),
        f"with {dict(subject.cls.neutral)} the answers differ from the base model's",
    )


def composes_with_a_prompt(subject: Subject) -> None:
    """Right of a prompt edit the method is fitted on the prompted model, and both apply."""
    seen: list[int] = []

    def say(chats: Sequence[Chat]) -> Sequence[Chat]:
        seen.append(len(chats))
        return [chat.with_system("Be kind.") for chat in chats]

    left = Steering(prompt=(say,))
    try:
        steering = left + subject.steering(left=left)
    except PlumblineError:
        return  # a refusal with a reason is allowed
    seen.clear()
    answers = _answers(steering)
    _hold(bool(seen), "the left neighbour's prompt edit was lost")
    _hold(all(answers), "an answer is empty")


def asks_for_what_it_needs(subject: Subject) -> None:
    """The method reads the reward model and the test prompts only if ``needs`` says so."""
    needs = subject.cls.needs
    if not needs & {"reward", "gold"}:
        lab = subject.lab(reward=None)
        method = subject.cls()
        try:
            method.steer(lab, method.fit(lab))
        except PlumblineError as error:
            raise Broken(
                f"it fails without a reward model: declare needs={{'reward'}} ({error})"
            ) from error
    lab = subject.lab()
    subject.cls().fit(lab)
    _hold(
        not lab.transductive or "queries" in needs,
        "fit reads lab.queries: declare needs={'queries'}, so that tables can mark the row",
    )


def search_space_constructs(subject: Subject) -> None:
    """Every name in the search space is a field, and every value builds a method."""
    names = {f.name for f in fields(subject.cls)}
    for name, values in subject.cls.search_space.items():
        _hold(
            name in names, f"search_space names {name!r}, which is not a field of {sorted(names)}"
        )
        for value in values:
            try:
                subject.cls(**{name: value})
            except (PlumblineError, TypeError, ValueError) as error:
                raise Broken(
                    f"search_space value {name}={value!r} does not build: {error}"
                ) from error


def imports_only_what_it_may(subject: Subject) -> None:
    """The file imports the standard library, torch, harness.api and its own extras, lazily."""
    import inspect
    import sys

    source = textwrap.dedent(inspect.getsource(inspect.getmodule(subject.cls) or subject.cls))
    for node in ast.parse(source).body:
        for module in _imported(node):
            top = module.split(".")[0]
            fine = (
                top in sys.stdlib_module_names
                or top == "torch"
                or module == "harness.api"
                or module.startswith("methods._")
            )
            _hold(
                fine,
                f"the file imports {module!r} at the top: import from harness.api, and heavy "
                "extras inside the function that needs them",
            )


def survives_a_worker(subject: Subject) -> None:
    """A method can be sent to another process."""
    try:
        copy = pickle.loads(pickle.dumps(subject.cls()))
    except (pickle.PicklingError, AttributeError, ImportError):
        return  # a file outside the package cannot be found by name there; it is loaded by path
    _hold(copy == subject.cls(), "a pickled copy differs")


def one_choice_at_most(subject: Subject) -> None:
    """Two searches in one stack are refused with a clear reason."""
    steering = subject.steering()
    if steering.search is None:
        return
    try:
        steering + Steering(search=Search(width=2, score=lambda rows: rows.origin.double()))
    except PlumblineError:
        return
    raise Broken("a second search was accepted")


CLAUSES: tuple[Callable[[Subject], None], ...] = (
    builds_without_work,
    search_space_constructs,
    imports_only_what_it_may,
    fit_is_deterministic,
    fitted_survives_storage,
    steer_is_deterministic,
    asks_for_what_it_needs,
    batching_does_not_matter,
    neutral_is_unsteered,
    composes_with_a_prompt,
    leaves_the_model_alone,
    one_choice_at_most,
    survives_a_worker,
)


@dataclass(frozen=True)
class Finding:
    """What became of one clause: held, or why not."""

    clause: str
    about: str
    problem: str | None


def check(subject: Subject) -> Iterator[Finding]:
    """Run every clause; a clause that raises is a finding, not the end."""
    for clause in CLAUSES:
        about = (clause.__doc__ or "").strip().split("\n")[0]
        with _problem() as found:
            clause(subject)
        yield Finding(clause.__name__.replace("_", " "), about, found[0] if found else None)


@contextmanager
def _problem() -> Iterator[list[str]]:
    found: list[str] = []
    try:
        yield found
    except (Broken, PlumblineError) as error:
        found.append(str(error))
    except Exception as error:
        found.append(f"it raised {type(error).__name__}: {error}")


def _imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []


def _same_tensors(
    first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor], when: str
) -> None:
    _hold(set(first) == set(second), f"{when}: tensors named {set(first) ^ set(second)} differ")
    for name, tensor in first.items():
        same = tensor.dtype == second[name].dtype and torch.equal(tensor.cpu(), second[name].cpu())
        _hold(same, f"{when}: tensor {name!r} changed")
