"""How likely a steered model finds a text, and how far it has moved from the base model.

Teacher forcing runs through the same hooks and the same logits edits as
decoding.  Where a search chooses among candidates there is no density to
compute, only an upper bound on the divergence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from harness.engine.ahead import Ahead
from harness.engine.forced import NoDensity, forced_rows
from harness.engine.jobs import Job, encode_jobs
from harness.engine.model import Model, left_padded, right_padded
from harness.engine.rows import Rows, Step, arange_like
from harness.engine.sites import Told, edited, recorded
from harness.engine.steering import Search, Site, Steering
from harness.errors import PlumblineError

__all__ = ["NoDensity", "likeliest", "logprobs", "search_bound", "sequence_kl"]

LOGIT_BUDGET = 1 << 26  # logits held at once, elements (256 MB in float32)
WHOLE_BUDGET = 1 << 28  # the same where a caller wants those of whole texts


def logprobs(
    model: Model,
    jobs: Sequence[Job],
    tokens: Sequence[Sequence[int]],
    steering: Steering | None = None,
    *,
    batch_rows: int = 64,
) -> list[Tensor]:
    """Log-probability of each response token under the steered model at temperature 1.

    tokens  one response per job, as drawn (the end token included if it was drawn).

    Returns one [tokens] float32 tensor per job.  Raises NoDensity for a search.
    """
    out: dict[int, Tensor] = {}
    for batch, logits in forced(model, jobs, tokens, steering or Steering(), batch_rows):
        for row, number in enumerate(batch):
            ids = torch.tensor(tokens[number], dtype=torch.long, device=logits.device)
            mine = logits[row, logits.shape[1] - len(ids) :].log_softmax(-1)
            out[number] = mine.gather(-1, ids.unsqueeze(-1)).squeeze(-1).cpu()
    return [out.get(i, torch.zeros(0)) for i in range(len(jobs))]


def likeliest(
    model: Model,
    jobs: Sequence[Job],
    tokens: Sequence[Sequence[int]],
    count: int,
    *,
    batch_rows: int = 64,
) -> list[list[list[tuple[int, float]]]]:
    """Give the ``count`` likeliest tokens where each response token was drawn.

    Returns, per job and token, (id, log-probability at temperature 1), likeliest first.
    """
    out: dict[int, list[list[tuple[int, float]]]] = {}
    for batch, logits in forced(model, jobs, tokens, Steering(), batch_rows):
        for row, number in enumerate(batch):
            mine = logits[row, logits.shape[1] - len(tokens[number]) :].log_softmax(-1)
            top = mine.topk(min(count, mine.shape[-1]), dim=-1)
            values, ids = top.values.tolist(), top.indices.tolist()
            out[number] = [list(zip(i, v, strict=True)) for i, v in zip(ids, values, strict=True)]
    return [out.get(i, []) for i in range(len(jobs))]


def sequence_kl(
    model: Model,
    jobs: Sequence[Job],
    tokens: Sequence[Sequence[int]],
    steering: Steering,
    *,
    batch_rows: int = 64,
) -> list[float]:
    """Sum over each response of the exact per-step KL(steered || base), in nats.

    Along the steered model's own temperature-1 samples this is an unbiased
    estimate of the sequence KL.  Both distributions are unfiltered and at
    temperature 1; the base model reads the conversation without prompt edits.

    Raises NoDensity for a search.
    """
    if steering.search is not None:
        raise NoDensity("a search among candidates has no density; see search_bound")
    if not steering.touches - {"stop", "noise"}:
        return [0.0] * len(jobs)
    out = dict.fromkeys(range(len(jobs)), 0.0)
    steered = forced(model, jobs, tokens, steering, batch_rows)
    for batch, logits in steered:
        mine = [jobs[i] for i in batch]
        theirs = [tokens[i] for i in batch]
        for rows, base in forced(model, mine, theirs, Steering(), len(batch)):
            for row, number in enumerate(rows):
                length = len(theirs[number])
                p = logits[number, logits.shape[1] - length :].log_softmax(-1)
                q = base[row, base.shape[1] - length :].log_softmax(-1)
                step = torch.where(p.isfinite(), p.exp() * (p - q), torch.zeros_like(p))
                out[batch[number]] = float(step.double().sum())
    return [out[i] for i in range(len(jobs))]


def search_bound(search: Search, tokens: int) -> float | None:
    """Upper bound, in nats, of KL(chosen || base) for a response of this many tokens.

    One choice among N whole responses: log N - (N - 1)/N (Beirami et al. 2024,
    arXiv 2401.01879).  A choice per block adds one such term per block, by the
    chain rule.  A rule of its own that returns one of N independent draws, as one that
    rejects without forking does: log N.
    None where the search re-forks by a rule of its own, or draws segments again.
    """
    if search.segments is not None:
        return None
    n = search.width
    best = math.log(n) - (n - 1) / n
    if search.blocks is None:
        return best if search.choose is None else math.log(n)
    if not search.forks:
        return math.log(n)
    if search.select is not None or search.choose is not None:
        return None
    if isinstance(search.blocks, int):
        return best * math.ceil(max(tokens, 1) / search.blocks)
    return best * (1 + sum(mark < tokens for mark in search.blocks))


def forced(
    model: Model,
    jobs: Sequence[Job],
    tokens: Sequence[Sequence[int]],
    steering: Steering,
    batch_rows: int,
    *,
    whole: bool = False,
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (job numbers, logits [rows, longest response, vocabulary]), right-aligned.

    whole  pad on the right and compute the logits of every position, prompts included, as
           lm-evaluation-harness does: at equal batches the numbers are then equal to the
           bit, for the memory of whole texts.  A batch too large for that is read as others.

    Longest texts first; equally long ones in the order given.  Weights are changed only
    while a batch is computed, so that a caller may run the base model between two batches.
    Raises NoDensity for a search.
    """
    if steering.search is not None:
        raise NoDensity("a search among candidates has no density; see search_bound")
    encoded = encode_jobs(model, jobs, steering)
    order = sorted(
        (i for i in range(len(jobs)) if len(tokens[i])),
        key=lambda i: -(len(encoded[i]) + len(tokens[i])),
    )
    while order:
        longest = max(len(tokens[i]) for i in order[:batch_rows])
        size = max(1, min(batch_rows, LOGIT_BUDGET // (longest * model.vocabulary)))
        batch, order = order[:size], order[size:]
        with torch.no_grad(), steering.weights() if steering.weights else nullcontext():
            width = len(encoded[batch[0]]) + len(tokens[batch[0]])
            fits = len(batch) * width * model.vocabulary <= WHOLE_BUDGET
            logits = _force(model, jobs, encoded, tokens, batch, steering, whole and fits)
        yield batch, logits


def _force(
    model: Model,
    jobs: Sequence[Job],
    encoded: Sequence[list[int]],
    tokens: Sequence[Sequence[int]],
    batch: list[int],
    steering: Steering,
    whole: bool,
) -> Tensor:
    texts = [encoded[i] + list(tokens[i])[:-1] for i in batch]
    ids, mask, positions = (right_padded if whole else left_padded)(texts, model.device)
    lengths = torch.tensor([len(tokens[i]) for i in batch], device=model.device)
    longest, size = int(lengths.max()), ids.shape[1]
    end = mask.sum(-1, keepdim=True) if whole else torch.full_like(lengths[:, None], size)
    # Column c (from the end of its text: end - 1 - c) holds a drawn token, or draws one.
    from_end = end - 1 - torch.arange(size, device=model.device)
    response = (from_end < lengths[:, None] - 1) & mask
    draws = (from_end < lengths[:, None]) & mask
    # The columns of the logits that are given back: the last ``longest`` of each text.
    kept_at = (end - longest + torch.arange(longest, device=model.device)).clamp(min=0)
    rows = forced_rows(
        model,
        [jobs[i].chat for i in batch],
        [encoded[i] for i in batch],
        [tokens[i] for i in batch],
        steering,
    )
    told = Told()
    told.step = Step(rows, positions, mask, response, draws, 0)
    kept: list[Tensor] = []
    cache = model.new_cache() if steering.lookahead else None
    look = (
        recorded(model.net, [Site.final()], lambda _, h: kept.append(h))
        if steering.logits
        else nullcontext()
    )
    with edited(model.net, steering.hidden, told), look:
        logits = model.forward(
            ids,
            # What is padded on the right comes after the text, where nothing looks at it.
            mask=None if whole or bool(mask.all()) else mask.long(),
            positions=positions,
            tokens=int(mask.sum()),
            cache=cache,
            keep=0 if whole else longest,
        )
    index = arange_like(lengths)[:, None]
    logits = logits[index, kept_at] if whole else logits
    if steering.logits:
        at = positions[index, kept_at]
        _edit_logits(logits, kept[0][index, kept_at], rows, lengths, at, steering)
    if steering.lookahead:
        rows.cache = cache
        _look_ahead(model, logits, rows, mask, positions, kept_at, lengths, steering)
    bad = ~torch.isfinite(logits.amax(-1)) & draws[index, kept_at]
    if bool(bad.any()):
        job = jobs[batch[int(bad.nonzero()[0, 0])]]
        raise PlumblineError(f"prompt {job.id}, turn {job.turn}: logits are NaN or infinite")
    return logits


def _edit_logits(
    logits: Tensor,
    hidden: Tensor,
    rows: Rows,
    lengths: Tensor,
    positions: Tensor,
    steering: Steering,
) -> None:
    """Apply the logits edits position by position, as decoding would have.

    logits, hidden, positions  [rows, longest response, ...], right-aligned.
    """
    longest, answer = logits.shape[1], rows.ids
    now, index = rows, arange_like(lengths)
    for t in range(longest):
        stay = (lengths.index_select(0, index) > t).nonzero().flatten()
        now, index = now.select(stay), index.index_select(0, stay)
        now.drawn = t
        now.ids = answer.index_select(0, index)
        now.ids[:, t:] = 0  # an edit sees what was drawn, not what will be
        column = longest - lengths.index_select(0, index) + t
        now.logits = logits[index, column]
        now.hidden = hidden[index, column]
        at = positions[index, column].unsqueeze(-1)
        ones = torch.ones_like(at, dtype=torch.bool)
        step = Step(now, at, ones, ones if t else ~ones, ones, t)
        logits[index, column] = steering.edited_logits(now.logits, step)


def _look_ahead(
    model: Model,
    logits: Tensor,
    rows: Rows,
    mask: Tensor,
    positions: Tensor,
    kept_at: Tensor,
    lengths: Tensor,
    steering: Steering,
) -> None:
    """Score the candidates of every step as decoding would have, on the cached texts.

    mask, positions  [rows, columns] of the texts; the others as above.
    """
    assert steering.lookahead is not None
    assert rows.cache is not None
    told, longest = Told(), logits.shape[1]
    ahead = Ahead(model, steering.lookahead, told)
    row, columns = arange_like(lengths), arange_like(mask[0])

    def keep(_: int, states: Tensor) -> None:
        ahead.states = states

    with edited(model.net, steering.hidden, told), recorded(model.net, [Site.final()], keep):
        for t in range(longest):
            rows.stop, rows.drawn = (lengths <= t).long(), t
            at = (longest - lengths + t).clamp(max=longest - 1)
            last = kept_at[row, at]
            seen = mask & (columns <= last[:, None])
            found = ahead.edited(logits[row, at], rows, seen, positions[row, last] + 1)
            live = ~rows.finished
            logits[row[live], at[live]] = found[live]
            rows.cache.crop(mask.shape[1])
