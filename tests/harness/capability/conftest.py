"""A tiny model as our wrapper and as lm-eval's own, and requests as lm-eval makes them."""

import logging
from pathlib import Path

import pytest

from harness.capability.language_model import SteeredLM
from harness.engine.model import Model
from harness.engine.tiny import tiny_model

STORIES = Path(__file__).parents[4] / "shared" / "weights" / "stories260K"


@pytest.fixture(autouse=True)
def quiet():
    """Keep lm-eval's logging out of the tests."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


@pytest.fixture
def tiny():
    """A random model with a byte tokenizer."""
    return tiny_model()


@pytest.fixture(params=["tiny", "stories260K"])
def model(request):
    """A random model, and a trained one where its weights are at hand."""
    if request.param == "tiny":
        return tiny_model()
    if not STORIES.is_dir():
        pytest.skip("the weights of stories260K are not here")
    return Model.load(str(STORIES), template="human-assistant", device="cpu")


@pytest.fixture
def theirs():
    """Make lm-eval's own model of the same network."""
    from lm_eval.models.huggingface import HFLM

    def make(model, batch_size=1):
        return HFLM(
            pretrained=model.net, tokenizer=model.tokenizer, batch_size=batch_size, device="cpu"
        )

    return make


@pytest.fixture
def ours():
    """Make our wrapper of a network."""

    def make(model, steering=None, **how):
        return SteeredLM(model, steering, **how)

    return make


@pytest.fixture
def requests():
    """Make requests of lm-eval's kind out of their arguments."""
    from lm_eval.api.instance import Instance

    def make(kind, arguments):
        return [
            Instance(kind, {}, args, 0, metadata=("toy", number, 1))
            for number, args in enumerate(arguments)
        ]

    return make
