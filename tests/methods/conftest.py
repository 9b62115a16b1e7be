"""The planted world's compiled model and labs on it, for methods that edit hidden states."""

import itertools

import pytest

QUESTIONS = tuple(" ".join(w) for n in (1, 2, 3) for w in itertools.product("abc", repeat=n))


@pytest.fixture(scope="session")
def compiled():
    """Give the formula of the compiled model of seed 0."""
    from benchmarks.planted.compiled import Compiled

    return Compiled(0)


@pytest.fixture(scope="session")
def planted(compiled, tmp_path_factory):
    """Load the compiled model: a Llama whose trait lies at a known place."""
    from harness.engine.model import Model

    folder = tmp_path_factory.mktemp("compiled")
    compiled.save(folder)
    return Model.load(str(folder), device="cpu")


@pytest.fixture(scope="session")
def kindness():
    """Give the truth about an answer: kind words less rude ones."""
    from benchmarks.planted.language import Language

    language = Language.of(0)
    return lambda chat, text: sum(map(language.worth, text.split()), 0.0)


class Judge:
    """A reward model that is any function of a conversation and an answer."""

    name = "judge"

    def __init__(self, function):
        self.function = function

    def score(self, chats, texts):
        """Score each answer."""
        return [self.function(chat, text) for chat, text in zip(chats, texts, strict=True)]


@pytest.fixture(scope="session")
def make_judge():
    """Give the function that makes a reward model of a function."""
    return Judge


@pytest.fixture(scope="session")
def make_pairs(kindness):
    """Give the function that makes labelled pairs of three words each; the kinder is preferred."""
    import random

    from harness.chat import Chat
    from harness.records import Preference

    def make(questions=QUESTIONS[:24], name="pair", each=1):
        rng, pairs = random.Random(name), []
        for q in questions * each:
            one = two = ""
            while kindness(None, one) == kindness(None, two):
                one, two = (" ".join(rng.choices("abc", k=3)) for _ in range(2))
            bad, good = sorted((one, two), key=lambda text: kindness(None, text))
            pairs.append(Preference(f"{name}{len(pairs)}", Chat.of(q), good, bad))
        return pairs

    return make


@pytest.fixture(scope="session")
def make_lab(planted, kindness, make_pairs):
    """Give the function that makes a lab on the compiled model that grants kindness."""
    from harness.contracts.method import Lab
    from harness.engine.sampling import Sampling

    def make(model=None, budget=4, **changes):
        given = {
            "pairs": make_pairs(),
            "dev": make_pairs(QUESTIONS[24:32], "dev"),
            "reward": Judge(kindness),
            "sampling": Sampling(max_new_tokens=budget),
            **changes,
        }
        return Lab(model or planted, **given)

    return make


@pytest.fixture(scope="session")
def enumerated(planted, kindness):
    """Give every answer to two prompts that no lab has seen, and its kindness."""
    from benchmarks.planted.enumerated import Enumerated
    from harness.chat import Chat
    from harness.records import Prompt

    asked = [Prompt(f"q{i}", Chat.of(q)) for i, q in enumerate(QUESTIONS[33:35])]
    return Enumerated(planted, asked, kindness, budget=3)


@pytest.fixture(scope="session")
def exact_gain(enumerated):
    """Give the function from a steering to its exact gain in E[kindness] over the base model."""
    from benchmarks.planted.tree import expected

    def gain(steering):
        total = 0.0
        for prompt, base, rewards in zip(
            enumerated.prompts, enumerated.base, enumerated.rewards, strict=True
        ):
            edited = enumerated.tree(prompt, steering)
            total += expected(edited.log_law(), rewards) - expected(base.log_law(), rewards)
        return total / len(enumerated.prompts)

    return gain
