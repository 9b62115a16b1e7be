"""Any method as an ``lm_eval`` language model: prompts, weights, states, logits, searches.

Log-likelihoods, rolling log-likelihoods and generation all go through the project's own
engine, with every edit in place.  Unsteered it is lm-eval's ``HFLM`` again: the same strings,
the same batches, in float32 the same log-likelihoods to the bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from harness.capability.answering import DEFAULT_LENGTH, cut, manner
from harness.capability.contexts import Contexts, Given, Reader
from harness.capability.likelihood import Request, likelihoods
from harness.chat import Chat
from harness.engine.decoding import decode
from harness.engine.jobs import Job
from harness.engine.model import Model
from harness.engine.sampling import Sampling
from harness.engine.steering import Steering
from harness.errors import PlumblineError
from harness.records import Json

IMPOSSIBLE = "continuations that are impossible (log-likelihood minus infinity)"
GREEDY_SEARCH = "greedy answers that a search chose among samples at temperature 1"
Pair = tuple[tuple[str, str], list[int], list[int]]


class SteeredLM(TemplateLM):  # type: ignore[misc]
    """A model and what is done to it, as lm-eval asks it.

    batch_size       texts read, or answers drawn, together.
    seed             of whatever a task samples; rows of one seed meet the same luck.
    search_sampling  how a search draws its candidates; see ``engine.decoding.decode``.
    chats            whether contexts are rendered in the model's chat template.
    advance          told of every so many requests done.

    ``notes`` counts what was odd, such as contexts cut from the left to fit the model.

    Raises PlumblineError for a tokenizer that names no end-of-text token.
    """

    def __init__(
        self,
        model: Model,
        steering: Steering | None = None,
        *,
        batch_size: int = 64,
        seed: int = 0,
        search_sampling: Sampling | None = None,
        chats: bool = False,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self.steering = steering or Steering()
        self.tokenizer = model.tokenizer
        if self.tokenizer.eos_token_id is None:
            raise PlumblineError(
                f"the tokenizer of {model.name} names no end-of-text token (eos_token), which "
                "lm-eval's requests need"
            )
        self.reader = Reader(model, chats=chats)
        self.max_length = resolve_max_length(model.net.config, model.tokenizer)
        self.batch_size = batch_size
        self.seed = seed
        self.search_sampling = search_sampling
        self.advance = advance or _unheard
        self.notes: Counter[str] = Counter()
        self.contexts = Contexts(model, self.steering, self.prefix_token_id)
        # Prompt edits are made here, where it is known what the context was rendered from.
        self.inner = Steering(**{**vars(self.steering), "prompt": ()})

    @property
    def device(self) -> Any:
        """Give where the model is."""
        return self.reader.device

    @property
    def eot_token_id(self) -> int:
        """Give the token that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Give the token that an unconditional text is read after."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def max_gen_toks(self) -> int:
        """Give the budget of an answer where the task names none."""
        return DEFAULT_LENGTH

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **ignored: Any
    ) -> list[int]:
        """Encode a text as it stands."""
        return self.contexts.encode(string, add_special_tokens)

    # --------------------------------------------------------------- templates

    @property
    def tokenizer_name(self) -> str:
        """Name what contexts are rendered with, for lm-eval's request cache."""
        return f"{self.reader.name}__{self.reader.template.name}".replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Give the template's name; it is the protocol's, not the task's."""
        return self.reader.template.name if chat_template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render turns in the protocol's template."""
        return self.contexts.render(chat_history, answer_opens=add_generation_prompt)

    # -------------------------------------------------------------- likelihoods

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Give (log-probability, is greedy) of each continuation after its context."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], **ignored: Any
    ) -> list[tuple[float, bool]]:
        contexts = self.contexts.given(
            [context for (context, _), _, _ in requests],
            [ids for _, ids, _ in requests],
            blanks=False,
        )
        return self._likelihoods(contexts, [scored for _, _, scored in requests])

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = True
    ) -> list[float]:
        """Give the log-probability of each whole text, in windows of the model's length.

        What a method puts before a conversation comes before every window, which is
        shorter by as much.
        """
        added = self.contexts.additions()
        owners: list[int] = []
        contexts: list[Given] = []
        scored: list[list[int]] = []
        for owner, (text,) in enumerate(request.args for request in requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - len(added),
                context_len=1,
            )
            for place, (before, after) in enumerate(map(make_disjoint_window, windows)):
                read = added + before if place else added or before
                said = Chat.of(self.reader.text(before) if place else "")
                contexts.append(Given(said.messages, tuple(read)))
                owners.append(owner)
                scored.append(after)
        totals = [0.0] * len(requests)
        # Batches of windows in the order of the texts, as HFLM makes them.
        for start in range(0, len(owners), self.batch_size):
            part = slice(start, start + self.batch_size)
            values = self._likelihoods(contexts[part], scored[part])
            for owner, (value, _) in zip(owners[part], values, strict=True):
                totals[owner] += value
        return totals

    def _likelihoods(
        self, contexts: Sequence[Given], scored: Sequence[Sequence[int]]
    ) -> list[tuple[float, bool]]:
        requests = []
        for number, (context, ids) in enumerate(zip(contexts, scored, strict=True)):
            if not 0 < len(ids) <= self.max_length:
                raise PlumblineError(
                    f"a continuation of {len(ids)} tokens cannot be scored; "
                    f"between 1 and the model's {self.max_length} can"
                )
            room = self.max_length + 1 - len(ids)
            requests.append(Request(f"text {number}", self._cut(context, room), tuple(ids)))
        found = likelihoods(
            self.reader,
            requests,
            self.inner,
            batch_rows=self.batch_size,
            advance=self.advance,
        )
        if none := sum(math.isinf(value) for value, _ in found):
            self.notes[IMPOSSIBLE] += none
        return found

    # ---------------------------------------------------------------- answers

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """Answer each context until a stop string, an end token or the budget."""
        texts = [request.args[0] for request in requests]
        contexts = self.contexts.given(texts, [self.tok_encode(t) for t in texts], blanks=True)
        groups: dict[tuple[str, ...], list[tuple[int, Job]]] = {}
        seen: Counter[Json] = Counter()
        for number, (request, context) in enumerate(zip(requests, contexts, strict=True)):
            how = manner(request.args[1])
            if self.inner.search and not how.sampling.temperature and not self.search_sampling:
                self.notes[GREEDY_SEARCH] += 1
            room = self.max_length - how.sampling.max_new_tokens
            if room < 1:
                raise PlumblineError(
                    f"an answer of {how.sampling.max_new_tokens} tokens leaves no room for a "
                    f"question in the model's {self.max_length}; set max_gen_toks lower"
                )
            name = f"{request.task_name}/{request.doc_id}/{request.idx}"
            job = Job(name, self._cut(context, room), how.sampling, turn=seen[name])
            seen[name] += 1  # a repeat is another draw
            groups.setdefault(how.until, []).append((number, job))
        out: dict[int, str] = {}
        for until, asked in groups.items():
            out |= self._answers(until, asked)
        return [out[i] for i in range(len(requests))]

    def _answers(self, until: tuple[str, ...], asked: list[tuple[int, Job]]) -> dict[int, str]:
        stops = (*self.inner.stop, *until)
        steering = Steering(**{**vars(self.inner), "stop": stops})
        batches = decode(
            self.reader,
            [job for _, job in asked],
            steering,
            seed=self.seed,
            batch_rows=self.batch_size,
            search_sampling=self.search_sampling,
        )
        out = {}
        stops = (*self.reader.template.stop, *stops, self.tokenizer.decode([self.eot_token_id]))
        for batch in batches:
            for found in batch:
                # From the tokens: a text of the engine's has lost the blanks at its ends.
                out[asked[found.job][0]] = cut(self.reader.text(found.tokens), stops)
            self.advance(len(batch))
        return out

    def _cut(self, context: Given, room: int) -> Given:
        """Keep the end of a context that does not fit; counted."""
        if len(context.ids) <= room:
            return context
        self.notes["contexts cut from the left to fit the model"] += 1
        return Given(context.messages, context.ids[-room:])


def _unheard(count: int) -> None:
    """Tell nobody."""
