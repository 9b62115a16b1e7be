import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from benchmarks.testbed.gold import Gold
from benchmarks.testbed.language import Language
from benchmarks.testbed.world import Testbed

SEEDS = (0, 1, 2)


@pytest.fixture(scope="session", params=SEEDS, ids=lambda seed: f"world{seed}")
def language(request):
    """Give the language of each world on which the world's claims are shown."""
    return Language(request.param)


@pytest.fixture(scope="session")
def gold(language):
    """Give the gold reward of the language."""
    return Gold(language)


@pytest.fixture(scope="session")
def world():
    """Give the default world."""
    return Testbed(int(os.environ.get("TESTBED_SEED", "0")))


@pytest.fixture(scope="session")
def built(world):
    """Give the folder of the built world, built once a machine."""
    from harness.conduct.worlds import world_folder

    return world_folder(world)
