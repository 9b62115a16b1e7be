"""AlignEZ's edits against the unsteered loop: whole runs, and what a prompt's own choice costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from decoding import jobs_of, random_model, run_ours, without_end
from measure import Comparison, compare

from harness.contracts.method import Fitted, Kit
from harness.engine.model import Model
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering
from methods.alignez import AlignEZ

WIDTH, DEPTH, ROWS, DIRECTIONS = 512, 16, 16, 64
AT_MOST = 1.1  # times the unsteered loop's time


def projections(model: Model) -> Steering:
    """v1 at half of the layers."""
    luck = torch.Generator().manual_seed(0)
    help, harm = torch.randn(2, DEPTH, WIDTH, generator=luck)
    layers = torch.arange(0, DEPTH, 2)
    fitted = Fitted({"0.help": help, "0.harm": harm, "0.layers": layers})
    return AlignEZ(variant="v1").steer(Kit(model), fitted)


def subspaces(model: Model) -> Steering:
    """v2: 64 directions a layer, 5 layers for each prompt."""
    luck = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(DEPTH, WIDTH, DIRECTIONS, generator=luck))[0]
    return AlignEZ().steer(Kit(model), Fitted({"0.basis": basis.mT.contiguous()}))


def decoding() -> Iterator[Comparison]:
    """Compare whole runs at batch 16: short prompts, so that what is timed is decoding."""
    model = without_end(random_model(WIDTH, DEPTH, 512, heads=8))
    jobs = jobs_of(model, ROWS, 8, Sampling(max_new_tokens=96))
    for name, steering in (("v1", projections(model)), ("v2", subspaces(model))):
        yield compare(
            f"AlignEZ {name} against unsteered",
            lambda steering=steering: run_ours(model, jobs, steering),
            lambda: run_ours(model, jobs),
            1 / AT_MOST,
            note=f"(at most x{AT_MOST:g} the time)",
        )


def main() -> None:
    """Print every comparison, with the threads it was made on."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; medians of 5")
    for comparison in decoding():
        print(comparison.line(), flush=True)


if __name__ == "__main__":
    main()
