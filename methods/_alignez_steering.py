"""What a fit of AlignEZ does while decoding: a change per trait and layer, summed and added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harness.api import Chat, HiddenEdit, Kit, Steering, Step, at_last
from methods._alignez_edits import Compat, Squash, Towards, projected, squashed
from methods._alignez_states import Measured, Where, place, states
from methods._alignez_v1 import nearest_poles
from methods._alignez_v2 import Choice

Change = Callable[[Tensor, Step], Tensor]  # states [rows, positions, width] -> change of them


def edits(where: Where, changes: Mapping[int, Sequence[Change]]) -> Steering:
    """Add each layer's changes, all taken at the state as it comes in, where a token is drawn."""

    def edit(mine: Sequence[Change]) -> Change:
        def add(hidden: Tensor, step: Step) -> Tensor:
            x = hidden.float()
            return (x + sum(change(x, step) for change in mine)).to(hidden.dtype)

        return add

    return Steering(
        hidden=tuple(
            HiddenEdit(place(where, layer), at_last(edit(changes[layer])))
            for layer in sorted(changes)
        )
    )


def asked(
    kit: Kit, where: Where, chats: Sequence[Chat], layers: Sequence[int]
) -> dict[int, Tensor]:
    """Give phi_l(q) of the unedited prompts: layer -> [prompts, width]."""
    sites = [place(where, layer) for layer in layers]
    # While prompts are prepared the left's weights are on already.
    left = replace(kit.left, weights=None)
    found = states(kit, chats, [()] * len(chats), sites, steering=left)
    return dict(zip(layers, found, strict=True))


def by_poles(
    kit: Kit,
    where: Where,
    learned: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float],
    compat: Compat,
) -> Steering:
    """v1: the same two projections for every prompt."""
    changes: dict[int, list[Change]] = {}
    for trait, weight in zip(learned, weights, strict=True):
        help, harm = (trait[name].to(kit.model.device) for name in ("help", "harm"))

        def change(layer: int, w: float = weight, a: Tensor = harm, b: Tensor = help) -> Change:
            return lambda x, _: w * projected(x, a[layer], b[layer], compat)

        for layer in trait["layers"].tolist():
            changes.setdefault(layer, []).append(change(layer))
    return edits(where, changes)


def by_nearest(
    kit: Kit,
    where: Where,
    learned: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float],
    neighbours: int,
    compat: Compat,
) -> Steering:
    """v1_knn: both directions anew for each prompt, from the pairs nearest to it."""
    near = [Measured(trait["good"], trait["bad"], trait["query"]) for trait in learned]
    layers = [trait["layers"].tolist() for trait in learned]
    changes: dict[int, list[Change]] = {}

    def change(name: str, weight: float) -> Change:
        def project(x: Tensor, step: Step) -> Tensor:
            help, harm = step.rows.of_prompt(name)[:, :, None].unbind(1)
            return weight * projected(x, harm, help, compat)

        return project

    for number, weight in enumerate(weights):
        for layer in layers[number]:
            changes.setdefault(layer, []).append(change(f"alignez.{number}.{layer}", weight))

    def prepare(chats: Sequence[Chat]) -> dict[str, Tensor]:
        query = asked(kit, where, chats, sorted(changes))
        return {
            f"alignez.{number}.{layer}": torch.stack(
                nearest_poles(query[layer], near[number], row, neighbours), 1
            ).to(kit.model.device)
            for number, mine in enumerate(layers)
            for row, layer in enumerate(mine)
        }

    return replace(edits(where, changes), prepare=(prepare,))


def by_subspaces(
    kit: Kit,
    where: Where,
    learned: Sequence[Mapping[str, Tensor]],
    weights: Sequence[float],
    choice: Choice,
    squash: Squash,
    towards: Towards,
) -> Steering:
    """v2: one shared basis a layer; directions and layers are chosen for each prompt."""
    bases = [trait["basis"] for trait in learned]
    count = len(bases[0])
    layers = [
        layer
        for layer in choice.fixed or range(count)
        if any(bool(basis[layer].any()) for basis in bases)
    ]
    together = {
        layer: torch.cat([basis[layer] for basis in bases]).to(kit.model.device) for layer in layers
    }

    def prepare(chats: Sequence[Chat]) -> dict[str, Tensor]:
        found = asked(kit, where, chats, range(count))
        query = torch.stack([found[layer] for layer in range(count)])
        used = [w * choice(basis, query) for basis, w in zip(bases, weights, strict=True)]
        whole = torch.cat(used, dim=-1).float().to(kit.model.device)
        return {f"alignez.{layer}": whole[:, layer] for layer in layers}

    def change(layer: int) -> Change:
        def along(x: Tensor, step: Step) -> Tensor:
            coefficients = step.rows.of_prompt(f"alignez.{layer}")[:, None]
            return squashed(x, together[layer], coefficients, squash, towards)

        return along

    return replace(edits(where, {layer: [change(layer)] for layer in layers}), prepare=(prepare,))
