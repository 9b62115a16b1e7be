"""THE LOOP: batched, cached decoding over the Hugging Face ``forward``.

What holds here, and is tested:

1.  Everything row-aligned lives in ``Rows`` and moves through ``select``.
    Forking is ``select`` with repeats, pruning ``select`` with survivors.
2.  Best-of-N, block search and plain sampling are one loop: width 1, or blocks
    as long as the budget, or neither.  Rows are equally old, but where a search
    draws a row's last segment again (``segments``).
3.  Noise is data.  Row (seed, prompt, turn, candidate) owns a stream of
    uniforms; a token is the inverse CDF at the t-th.  It is gathered anew by
    (prompt, candidate, position) after every fork, never copied.  Candidate 0
    of best-of-N is the plain sample.
4.  Edits see only real work: padding and finished rows are ``real == False``.
5.  Order: prompt edits, template, weights on, prepare, then per step: forward
    with hidden edits, logits edits, temperature and filters, draw, stop, select.
6.  Hidden edits run under ``no_grad``, not ``inference_mode``: a method may open
    ``enable_grad`` on a detached copy.
7.  Stopping is one rule for all (``stopping``), and the reason is stored.
8.  Batch size counts rows (prompts x width); prompts are sorted by length; rows
    that finish leave the batch.  Out of memory halves the batch and tries again.
9.  Tokens and forwards are counted inside ``Model.forward``.
10. ``density.logprobs`` teacher-forces through the same hooks.

What it does not do: beam search, speculative decoding, multimodal input,
refilling a batch with new prompts while others are in flight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext

import torch
from torch import Tensor

from harness.engine.ahead import Ahead
from harness.engine.jobs import (
    Candidate,
    Decoded,
    Job,
    batches,
    candidate_sampling,
    encode_jobs,
    halved,
    out_of_memory,
    pooled,
)
from harness.engine.model import Model, left_padded
from harness.engine.rows import STOPS, Rows, Step, arange_like, numbered, repeated
from harness.engine.sampling import Luck, Sampling, draw, filtered
from harness.engine.segments import begun, judged
from harness.engine.sites import Told, edited, recorded
from harness.engine.steering import Site, Steering, best_of_each
from harness.engine.stopping import ended, stop_strings
from harness.errors import PlumblineError

__all__ = ["Candidate", "Decoded", "Job", "decode", "encode_jobs"]

LEAVE_AT = 8  # finished rows leave the batch once they are a LEAVE_AT-th of it


def decode(
    model: Model,
    jobs: Sequence[Job],
    steering: Steering | None = None,
    *,
    seed: int = 0,
    batch_rows: int = 64,
    search_sampling: Sampling | None = None,
) -> Iterator[list[Decoded]]:
    """Answer every job; yield finished batches as they come, longest prompts first.

    batch_rows       rows (prompts x candidates) decoded together.
    search_sampling  how a search draws its candidates; by default as the job
                     says, or at temperature 1 where the job says greedy.

    Raises PlumblineError for a prompt that leaves no room for the budget, for
    logits that are NaN or infinite, and where not even one prompt fits in memory.
    """
    steering = steering or Steering()
    if not jobs:
        return
    encoded = encode_jobs(model, jobs, steering)
    waiting = batches(jobs, encoded, steering, batch_rows)
    while waiting:
        batch = waiting.pop(0)
        wave = _Wave(model, jobs, encoded, batch, steering, seed, search_sampling)
        try:
            # Only while a wave runs: the caller meets the model as it was between two.
            with steering.weights() if steering.weights else nullcontext():
                done = wave.run()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            done = None
        if done is None:
            del wave
            waiting = [half for b in (batch, *waiting) for half in halved(jobs, b, batch)]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        yield done


class _Wave:
    """One batch from prefill to the last answer."""

    def __init__(
        self,
        model: Model,
        jobs: Sequence[Job],
        encoded: Sequence[list[int]],
        batch: Sequence[int],
        steering: Steering,
        seed: int,
        search_sampling: Sampling | None,
    ) -> None:
        self.model = model
        self.batch = batch
        self.jobs = [jobs[i] for i in batch]
        self.prompts = [encoded[i] for i in batch]
        self.steering = steering
        self.search = steering.search
        self.width = self.search.width if self.search else 1
        self.sampling = candidate_sampling(self.jobs[0].sampling, self.search, search_sampling)
        self.budget = self.sampling.max_new_tokens
        keys = [(seed, job.id, job.turn) for job in self.jobs]
        self.segments = self.search.segments if self.search else None
        self.luck = Luck(keys, self.width, self.budget, steering.noise, model.device)
        self.ends = torch.tensor(model.ends, device=model.device)
        strings = (*model.template.stop, *steering.stop)
        self.strings = stop_strings(model.tokenizer, strings, model.vocabulary)
        self.spent = torch.zeros(len(batch), dtype=torch.long, device=model.device)
        self.told = Told()
        self.shown: Tensor | None = None
        self.shown_for: Rows | None = None
        self.hidden: Tensor | None = None
        ahead = steering.lookahead
        self.ahead = Ahead(model, ahead, self.told) if ahead else None
        # Whether a token is read before a choice among candidates, which then meets its state.
        self.reads = bool(ahead) or bool(self.search and self.search.reads)
        self.done = 0  # finished rows still in the batch
        self.parked: list[Rows] = []  # finished rows that have left it

    # ------------------------------------------------------------ the waves

    @torch.no_grad()
    def run(self) -> list[Decoded]:
        """Prefill once, fork to the candidates, draw until every row has ended, choose."""
        # Before the hooks are in place: what is prepared may read the model as it is.
        given = self.steering.prepared([job.chat for job in self.jobs], self.model.device)
        with ExitStack() as stack:
            stack.enter_context(edited(self.model.net, self.steering.hidden, self.told))
            if self.steering.logits or self.search or self.ahead:
                stack.enter_context(recorded(self.model.net, [Site.final()], self._keep_hidden))
            rows = self._fork(self._prefill(given))
            while True:
                rows = self._draw(rows)
                if self.reads:
                    self._forward(rows)
                rows = self._select(rows)
                rows = self._leave(rows)
                if not len(rows):
                    return self._answers()
                if not self.reads:
                    self._forward(rows)

    def _prefill(self, given: Mapping[str, Tensor]) -> Rows:
        """Read the prompts, one row each."""
        model = self.model
        ids, mask, positions = left_padded(self.prompts, model.device)
        chats = [job.chat for job in self.jobs]
        count = len(chats)
        zeros = torch.zeros(count, dtype=torch.long, device=model.device)
        rows = Rows(
            chats=chats,
            origin=arange_like(zeros),
            slot=zeros,
            ids=torch.zeros((count, self.budget), dtype=torch.long, device=model.device),
            stop=zeros.clone(),
            length=zeros.clone(),
            prompt_ids=ids,
            prompt_mask=mask,
            decode_text=self._text,
            noise=self.luck.stream,
            cache=model.new_cache(),
            given=given,
        )
        self.lengths = mask.sum(-1)
        self.padded = not bool(mask.all())
        self.spent += self.lengths
        draws = torch.zeros_like(mask)
        draws[:, -1] = True
        self.told.step = Step(rows, positions, mask, torch.zeros_like(mask), draws, 0)
        rows.logits = model.forward(
            ids,
            mask=mask.long() if self.padded else None,
            positions=positions,
            tokens=int(self.lengths.sum()),
            cache=rows.cache,
        )[:, -1]
        rows.hidden = self.hidden
        return rows

    def _fork(self, rows: Rows) -> Rows:
        """Make the candidates of each prompt, all on one prefill."""
        if self.width > 1:
            index = arange_like(rows.origin).repeat_interleave(self.width)
            rows = rows.select(
                index, torch.arange(self.width, device=index.device).repeat(len(rows))
            )
        self._tell(rows, response=False)
        return begun(rows, self.model.masks_4d) if self.segments else rows

    def _forward(self, rows: Rows) -> None:
        """Push the tokens just drawn through the model."""
        if self.width > 1 or self.reads:
            each = self.ahead.candidates.shape[1] if self.ahead else 1
            self.spent.index_add_(0, rows.origin, each * self._real(rows).long())
        positions = self._tell(rows, response=True)
        if self.ahead is not None:
            self.ahead.keep(rows, rows.latest().flatten())
            return
        if rows.ages is not None and rows.cache is not None:
            rows.cache.put(rows.prompt_mask.shape[1] + rows.ages - 1)
        rows.logits = self.model.forward(
            rows.latest(),
            mask=self._mask(rows),
            positions=positions,
            tokens=len(rows) - (0 if self.reads else self.done),
            cache=rows.cache,
        )[:, -1]
        rows.hidden = self.hidden

    def _real(self, rows: Rows) -> Tensor:
        """Say which rows' tokens are worth reading; what has ended leaves before the next one."""
        return torch.ones_like(rows.finished) if self.reads else ~rows.finished

    def _tell(self, rows: Rows, *, response: bool) -> Tensor:
        """Say what the coming pass (or the logits just made) is about; give its positions."""
        at = self.lengths.index_select(0, rows.origin) + (rows.age - 1)
        positions = at.unsqueeze(-1)
        if self.steering.hidden or self.steering.logits:
            ones = torch.ones_like(positions, dtype=torch.bool)
            real = self._real(rows).unsqueeze(-1)
            drawn = ones if response else ~ones
            self.told.step = Step(rows, positions, real, drawn, ones, rows.drawn)
        return positions

    # ------------------------------------------------------------- one step

    def _draw(self, rows: Rows) -> Rows:
        """Edit the logits, draw a token a row, and note which rows end with it."""
        logits, t = rows.logits, rows.age
        assert logits is not None
        if self.steering.logits:
            step, self.told.step = self.told.step, None  # what an edit reads itself is read bare
            assert step is not None
            logits = self.steering.edited_logits(logits, step)
        if self.ahead is not None:
            seen = self._shown(rows)[:, : rows.prompt_mask.shape[1] + t]
            at = self.lengths.index_select(0, rows.origin) + t
            logits = self.ahead.edited(logits, rows, seen, at)
        self._check(logits, rows)
        if self.sampling.temperature == 0:
            token = logits.argmax(-1)
        else:
            if self.sampling.temperature != 1:
                logits = logits / self.sampling.temperature
            logits = filtered(logits, self.sampling.top_k, self.sampling.top_p)
            token = draw(logits, self.luck.at(rows.origin, rows.slot, t))
        rows.put(token)
        self._stop(rows, token)
        return rows

    def _stop(self, rows: Rows, token: Tensor) -> None:
        """Note which rows have ended with this token, and why."""
        running = ~rows.finished
        why = torch.where(ended(token, self.ends), STOPS.index("eos"), 0)
        if self.strings.strings:
            said = self.strings.hit(rows.ids, rows.age).to(why.device)
            why = torch.where((why == 0) & said, STOPS.index("string"), why)
        if rows.drawn == self.budget:
            full = (why == 0) & (rows.age == self.budget)
            why = torch.where(full, STOPS.index("length"), why)
        new = running & (why > 0)
        ending = int(new.sum())
        if ending:
            rows.stop = torch.where(new, why, rows.stop)
            rows.length = torch.where(new, rows.age, rows.length)
            self.done += ending

    def _select(self, rows: Rows) -> Rows:
        """Let the search choose, where a selection is due."""
        search = self.search
        if search is not None and search.segments is not None:
            rows = judged(rows, search.segments, self._scores)
            self.done = int(rows.finished.sum())
            return rows
        if search is None or not search.selects_at(rows.drawn) or rows.drawn >= self.budget:
            return rows
        everyone = Rows.joined([rows.bare(), *self.parked])
        index = (search.select or self._keep_best)(self._scores(everyone), everyone)
        in_flight, chosen = self._rearranged(rows, everyone, index)
        self.parked = [chosen] if len(chosen) else []
        self.done = 0
        return in_flight

    def _rearranged(self, rows: Rows, everyone: Rows, index: Tensor) -> tuple[Rows, Rows]:
        """Split the chosen rows into those that go on, renumbered, and those that have ended."""
        over = everyone.finished.index_select(0, index)
        going, resting = index[~over], torch.unique(index[over])
        forks = self.search is None or self.search.forks
        slot = numbered(rows.origin[going]) if forks else rows.slot[going]
        self._all_answered(everyone.origin.index_select(0, index))
        if len(going) and (int(slot.max()) >= self.width or (not forks and repeated(going))):
            raise PlumblineError(
                f"a search kept more than its width of {self.width} candidates for one prompt"
            )
        return rows.select(going, slot), everyone.select(resting)

    def _leave(self, rows: Rows) -> Rows:
        """Take finished rows out of the batch, once there are enough of them to pay for it."""
        few = self.done < len(rows) and self.done * LEAVE_AT < len(rows)
        if not self.done or (few and not self.reads):
            return rows
        self.parked.append(rows.bare().select(rows.finished.nonzero().flatten()))
        self.done = 0
        return rows.select((~rows.finished).nonzero().flatten())

    # ------------------------------------------------------------ the answers

    def _answers(self) -> list[Decoded]:
        everyone = Rows.joined(self.parked)
        tokens = everyone.tokens()
        texts = everyone.texts()
        if self.search is None or self.segments:
            chosen, pools, scores = arange_like(everyone.origin), {}, None
        else:
            scores = self._scores(everyone)
            chosen = (self.search.choose or best_of_each)(scores, everyone)
            answered = everyone.origin.index_select(0, chosen).tolist()
            if sorted(answered) != list(range(len(self.jobs))):
                raise PlumblineError(
                    f"a search chose {len(chosen)} answers; it must choose one for each of "
                    f"{len(self.jobs)} prompts"
                )
            whole = self.search.blocks is None
            pools = pooled(everyone, tokens, texts, scores) if whole else {}
        spent, stops = self.spent.tolist(), everyone.stop.tolist()
        out = []
        for i in chosen.tolist():
            prompt = int(everyone.origin[i])
            counted = self.width > 1 or self.reads
            cost = spent[prompt] + (0 if counted else len(tokens[i]) - 1)
            out.append(
                Decoded(
                    job=self.batch[prompt],
                    text=texts[i],
                    tokens=tuple(tokens[i]),
                    stop=STOPS[stops[i]],
                    cost={self.model.role: cost},
                    pool=pools.get(prompt, ()),
                )
            )
        return sorted(out, key=lambda d: d.job)

    # --------------------------------------------------------------- helpers

    def _scores(self, rows: Rows) -> Tensor:
        assert self.search is not None
        scores = self.search.score(rows)
        if scores.shape != rows.origin.shape:
            raise PlumblineError(
                f"a search scored {tuple(scores.shape)}; it must give one number for each of "
                f"{len(rows)} rows"
            )
        bad = torch.isnan(scores).nonzero().flatten().tolist()
        if bad:
            job = self.jobs[int(rows.origin[bad[0]])]
            raise PlumblineError(f"prompt {job.id}: the search's score is NaN")
        return scores

    def _all_answered(self, origin: Tensor) -> None:
        """Refuse a choice that leaves a prompt without a candidate."""
        lost = set(range(len(self.jobs))) - set(origin.tolist())
        if lost:
            raise PlumblineError(
                f"prompt {self.jobs[min(lost)].id}: the search kept no candidate; "
                "it must keep one at least for every prompt"
            )

    def _keep_best(self, scores: Tensor, rows: Rows) -> Tensor:
        best = best_of_each(scores, rows)
        copies = torch.where(rows.finished.index_select(0, best), 1, self.width)
        return best.repeat_interleave(copies)

    def _check(self, logits: Tensor, rows: Rows) -> None:
        bad = ~torch.isfinite(logits.amax(-1)) & ~rows.finished
        if bool(bad.any()):
            i = int(bad.nonzero()[0])
            job = self.jobs[int(rows.origin[i])]
            raise PlumblineError(
                f"prompt {job.id}, turn {job.turn}: logits are NaN or infinite "
                f"after {rows.drawn} tokens"
            )

    def _keep_hidden(self, _: int, hidden: Tensor) -> None:
        self.hidden = hidden[:, -1]
        if self.ahead is not None:
            self.ahead.states = hidden

    def _mask(self, rows: Rows) -> Tensor | None:
        """Hide the prompts' padding from the coming pass, show everything drawn."""
        size = rows.prompt_mask.shape[1]
        if rows.ages is not None:
            shown = self._shown(rows)[:, : size + rows.drawn]
            own = arange_like(shown[0]) < size + rows.ages[:, None]
            return (shown & own)[:, None, None, :]
        if not self.padded:
            return None
        mask = self._shown(rows)[:, : size + rows.drawn]
        return mask[:, None, None, :] if self.model.masks_4d else mask.long()

    def _shown(self, rows: Rows) -> Tensor:
        """Give the columns that a row may see, those still to come included."""
        if self.shown is None or self.shown_for is not rows:
            prompt = rows.prompt_mask.index_select(0, rows.origin)
            drawn = prompt.new_ones((len(rows), self.budget))
            self.shown, self.shown_for = torch.cat([prompt, drawn], dim=1), rows
        return self.shown

    def _text(self, ids: Sequence[int]) -> str:
        return self.strings.cut(self.model.text(ids)).strip()
