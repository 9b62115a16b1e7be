"""Low-rank adapters as plain tensors, and how they change a model's weights for a while.

    W <- W + s * B A        A [r, in], B [out, r]      LoRA, arXiv 2106.09685

Tensors carry the names that PEFT gives them in ``adapter_model.safetensors``, so that what a
fit stores is an adapter that PEFT reads; applying one needs no PEFT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.api import PlumblineError

_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class LowRank:
    """One module's change: ``up @ down``, already scaled.

    down  [r, in];  up  [out, r].
    """

    down: Tensor
    up: Tensor

    def weight(self, module: nn.Module) -> Tensor:
        """Give the module's weight with the change added, in the weight's own layout and dtype."""
        base = module.weight
        assert isinstance(base, Tensor)
        change = self.up.float() @ self.down.float()
        if not isinstance(module, nn.Linear):
            change = change.T  # GPT-2's Conv1D keeps [in, out]
        return (base.float() + change.to(base.device)).to(base.dtype)

    def output(self, x: Tensor) -> Tensor:
        """Give what the change adds to the module's output: x [..., in] -> [..., out]."""
        return (x.to(self.down.dtype) @ self.down.T @ self.up.T).to(x.dtype)


def adapters_of(
    tensors: Mapping[str, Tensor], scale: float, device: torch.device
) -> dict[str, LowRank]:
    """Read stored tensors: module path -> its change, times ``scale`` (alpha / r)."""
    found = {}
    for name, down in tensors.items():
        if not name.endswith(_DOWN):
            continue
        path = name.removesuffix(_DOWN)
        up = tensors[path + _UP]
        found[path.removeprefix(_PREFIX)] = LowRank(
            down.to(device).float(), scale * up.to(device).float()
        )
    return found


@contextmanager
def merged(net: nn.Module, adapters: Mapping[str, LowRank]) -> Iterator[None]:
    """Add the changes to the weights; the very same weights are back afterwards.

    Decoding costs what the base model costs; a second copy of the changed matrices is held.
    Raises PlumblineError for a model without the modules that were adapted.
    """
    before: list[tuple[Any, nn.Parameter]] = []
    try:
        for path, change in adapters.items():
            module = _module(net, path)
            before.append((module, module.weight))
            module.weight = nn.Parameter(change.weight(module), requires_grad=False)
        yield
    finally:
        for module, weight in before:
            module.weight = weight


@contextmanager
def beside(net: nn.Module, adapters: Mapping[str, LowRank]) -> Iterator[None]:
    """Add the changes to the modules' outputs: two thin products each, and no copy."""

    def added(change: LowRank) -> Any:
        return lambda _, args, output: output + change.output(args[0])

    hooks = []
    try:
        for path, change in adapters.items():
            hooks.append(_module(net, path).register_forward_hook(added(change)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _module(net: nn.Module, path: str) -> Any:
    try:
        return net.get_submodule(path)
    except AttributeError as error:
        raise PlumblineError(
            f"the adapters were fitted on another architecture: there is no {path} in "
            f"{type(net).__name__}"
        ) from error
