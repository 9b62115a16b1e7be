"""AlpacaEval's own length-controlled win rate, by its own regression, where its data are here.

That regression is also fed verdicts on two gamed models, in a file of the data set
``tatsu-lab/alpaca_eval`` on the Hub (``df_gamed.csv``).  It is looked for in the Hub's cache and
never fetched; without it there is no official rate, only the adjustment of ``length_control``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import PlumblineError

REPOSITORY, FILE = "tatsu-lab/alpaca_eval", "df_gamed.csv"
FETCH = f"hf download {REPOSITORY} {FILE} --repo-type dataset"
ITEMS = 805


def gamed_verdicts() -> Path | None:
    """Find the verdicts on gamed models in the Hub's cache; None where they are not."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(REPOSITORY, FILE, repo_type="dataset")
    return Path(found) if isinstance(found, str) else None


def official_rate(
    preferences: Sequence[float | None],
    base: Sequence[str],
    outputs: Sequence[str],
    gamed: Path,
) -> tuple[float, float]:
    """Give the length-controlled rate and its standard error over items, in points.

    preferences, base, outputs  of all 805 items in their published order: upstream knows an
    item's difficulty by its place.

    Raises PlumblineError for another number of items, or where upstream's code fails.
    """
    if not len(preferences) == len(base) == len(outputs) == ITEMS:
        raise PlumblineError(
            f"the official length-controlled rate is of all {ITEMS} items; "
            f"here are {len(preferences)}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rates: dict[str, Any] = _upstream(preferences, base, outputs, gamed)
        except Exception as error:  # four libraries deep, and any of them may have changed
            raise PlumblineError(
                f"alpaca_eval's regression failed: {type(error).__name__}: {error}"
            ) from error
    return float(rates["length_controlled_winrate"]), float(rates["lc_standard_error"])


def _upstream(
    preferences: Sequence[float | None], base: Sequence[str], outputs: Sequence[str], gamed: Path
) -> Any:
    import pandas as pd
    import sklearn
    from alpaca_eval.metrics import glm_winrate

    table = pd.DataFrame(
        {
            "preference": [None if p is None else float(p) for p in preferences],
            "output_1": list(base),
            "output_2": list(outputs),
            "generator_1": "baseline",
            "generator_2": "model",
        }
    )
    table["preference"] = table["preference"].astype(float)
    fetch = glm_winrate.hf_hub_download
    glm_winrate.hf_hub_download = lambda **_: str(gamed)  # what is here is not asked of the Hub
    try:
        with sklearn.config_context():  # upstream changes its settings for the whole process
            return glm_winrate.get_length_controlled_winrate(
                table,
                save_weights_dir=None,
                is_add_glm_preference_inplace=False,
                is_warn_extreme_changes=False,
            )
    finally:
        glm_winrate.hf_hub_download = fetch
