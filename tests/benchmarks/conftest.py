from pathlib import Path

import pytest

REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def real():
    """Give the path of a published data file kept beside the checkout, or skip."""

    def find(name: str) -> Path:
        path = REAL / name
        if not path.exists():
            pytest.skip(f"no real data beside the checkout ({name})")
        return path

    return find
