"""A causal language model: load, render, encode, and one counted forward pass."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from harness.chat import Chat, Message, Template, plain_template
from harness.engine.cache import new_cache, uniform
from harness.errors import PlumblineError
from harness.ledger import Ledger, Metered
from harness.records import Json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(device: str | None) -> torch.device:
    """Give the named device, or the best there is."""
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(dtype: str) -> torch.dtype:
    """Give the named precision."""
    if dtype not in DTYPES:
        raise PlumblineError(f"unknown dtype {dtype!r}. Known: {', '.join(DTYPES)}")
    return DTYPES[dtype]


def load_pretrained(
    kind: Any, path: str, *, revision: str | None, trust_remote_code: bool, **options: Any
) -> Any:
    """Call ``from_pretrained`` and turn its many failures into one clear line."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = Path(path)
    where = f"{path}@{revision}" if revision else path
    if (folder.is_absolute() or path.startswith((".", "~"))) and not folder.expanduser().is_dir():
        raise PlumblineError(f"model folder {path} does not exist")
    source = str(folder.expanduser()) if folder.expanduser().is_dir() else path
    try:
        return kind.from_pretrained(
            source, revision=revision, trust_remote_code=trust_remote_code, **options
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        why = " ".join(str(error).split())
        if "trust_remote_code" in why or "custom code" in why:
            raise PlumblineError(
                f"{where} needs code from its own folder to run; set trust_remote_code = true in "
                "the protocol's section for this model if you trust it"
            ) from error
        if "safetensors" in why:
            raise PlumblineError(
                f"{where} has no safetensors weights; only safetensors are read"
            ) from error
        raise PlumblineError(f"cannot load {where}: {why[:300]}") from error


def load_network(
    kind: Any, path: str, *, revision: str | None, trust_remote_code: bool, dtype: str
) -> Any:
    """Load a network from safetensors; raises PlumblineError where weights are missing.

    The library fills what a checkpoint lacks with random numbers: a causal LM read
    as a reward model would give random rewards.
    """
    net, report = load_pretrained(
        kind,
        path,
        revision=revision,
        trust_remote_code=trust_remote_code,
        dtype=pick_dtype(dtype),
        use_safetensors=True,
        output_loading_info=True,
    )
    missing = sorted(report["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise PlumblineError(
            f"{path} holds no {type(net).__name__}: it has no weights for {missing[0]}{more}"
        )
    return net


def load_tokenizer(path: str, *, revision: str | None, trust_remote_code: bool) -> Any:
    """Load a tokenizer; raises PlumblineError for a folder without one."""
    from transformers import AutoTokenizer

    folder = Path(path).expanduser()
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")
    if folder.is_dir() and not any((folder / n).exists() for n in names):
        raise PlumblineError(
            f"model folder {path} has no tokenizer (looked for {', '.join(names)})"
        )
    return load_pretrained(
        AutoTokenizer, path, revision=revision, trust_remote_code=trust_remote_code
    )


def pick_template(name: str, tokenizer: Any, where: str) -> Template:
    """Give a template by name; "tokenizer" is the tokenizer's own.

    Raises PlumblineError where the tokenizer has none.
    """
    if name != "tokenizer":
        return plain_template(name)
    if not tokenizer.chat_template:
        raise PlumblineError(
            f"{where}: the protocol asks for the tokenizer's own chat template, and it has none; "
            "set template to human-assistant or vicuna"
        )

    def apply(chat: Chat) -> str:
        speaks = bool(chat.messages) and chat.messages[-1].role == "assistant"
        text: str = tokenizer.apply_chat_template(
            chat.to_dicts(), tokenize=False, add_generation_prompt=not speaks
        )
        return text

    def render(chat: Chat) -> str:
        from jinja2 import TemplateError

        try:
            text = apply(chat)
        except TemplateError as error:
            if chat.system is None:
                raise PlumblineError(
                    f"{where}: its chat template refuses a conversation of "
                    f"{', '.join(m.role for m in chat.messages) or 'no turns'}: {error}"
                ) from error
            return render(fold_system(chat))
        if chat.system is not None and chat.system.strip() not in text:
            return render(fold_system(chat))  # a template that drops the system turn unsaid
        return text

    return Template("tokenizer", render, bos=False)


def fold_system(chat: Chat) -> Chat:
    """Put the system sentence at the head of the first user turn."""
    rest = list(chat.messages[1:])
    first = next((i for i, m in enumerate(rest) if m.role == "user"), None)
    if first is None:
        return Chat((Message("user", chat.system or ""), *rest))
    rest[first] = Message("user", f"{chat.system}\n\n{rest[first].text}")
    return Chat(tuple(rest))


class Model(Metered):
    """A frozen causal LM with its tokenizer and its one chat template.

    role     the name its tokens are counted under.
    context  the longest sequence it can read, in tokens.
    ends     ids that end an answer.
    """

    def __init__(
        self, net: Any, tokenizer: Any, template: Template, *, name: str, role: str = "policy"
    ) -> None:
        self.net = net.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.template = template
        self.name = name
        self.role = role
        self.ledger = Ledger()
        self.device = next(net.parameters()).device
        self.context = _context(net.config)
        self.ends = _ends(net, tokenizer)
        self.vocabulary = int(net.config.get_text_config(decoder=True).vocab_size)
        self.masks_4d = uniform(net.config) and net.config._attn_implementation == "sdpa"

    @classmethod
    def load(
        cls,
        path: str,
        *,
        revision: str | None = None,
        template: str = "tokenizer",
        dtype: str = "float32",
        device: str | None = None,
        role: str = "policy",
        name: str | None = None,
        trust_remote_code: bool = False,
    ) -> Model:
        """Load a Hub model or a local folder in Hub format; safetensors only.

        name  what records call it; the path by default.

        Raises PlumblineError for a missing folder, tokenizer, chat template,
        safetensors file, or for a model that needs code of its own.
        """
        from transformers import AutoModelForCausalLM

        tokenizer = load_tokenizer(path, revision=revision, trust_remote_code=trust_remote_code)
        chosen = pick_template(template, tokenizer, path)
        net = load_network(
            AutoModelForCausalLM,
            path,
            revision=revision,
            trust_remote_code=trust_remote_code,
            dtype=dtype,
        )
        return cls(net.to(pick_device(device)), tokenizer, chosen, name=name or path, role=role)

    # ------------------------------------------------------------------ text

    def render(self, chat: Chat) -> str:
        """Give the text the model reads, up to where it is to speak."""
        verbatim = chat.verbatim_text
        return self.template.render(chat) if verbatim is None else verbatim

    def encode(self, chat: Chat) -> list[int]:
        """Give the token ids of a conversation, with exactly one beginning-of-sequence token."""
        special = self.template.bos or chat.verbatim_text is not None
        ids: list[int] = self.tokenizer(self.render(chat), add_special_tokens=special).input_ids
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        if special and len(ids) > 1 and ids[-1] == eos and eos != bos:
            ids = ids[:-1]  # some tokenizers close every text; an open prompt must stay open
        if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
            ids = ids[1:]
        return ids

    def encode_answer(self, chat: Chat, answer: str) -> list[int]:
        """Give the ids of an answer as they follow the conversation's own, end of turn left out."""
        if not answer:
            return []
        ids: list[int] = self.tokenizer(answer, add_special_tokens=False).input_ids
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Give the words of drawn tokens, special ones left out."""
        words: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return words

    def facts(self) -> dict[str, Json]:
        """Give what a record needs to say about the model."""
        probe = self.render(
            Chat.of("{user}", system="{system}").assistant("{answer}").user("{more}")
        )
        return {
            "name": self.name,
            "architecture": type(self.net).__name__,
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "dtype": str(self.net.dtype).removeprefix("torch."),
            "template": self.template.name,
            "template_hash": hashlib.blake2b(probe.encode(), digest_size=5).hexdigest(),
            "bos": "template" if not self.template.bos else "tokenizer",
            "context": self.context,
        }

    # --------------------------------------------------------------- forward

    def new_cache(self) -> Any:
        """Make an empty key-value cache for this model."""
        return new_cache(self.net.config)

    def forward(
        self,
        ids: Tensor,
        *,
        mask: Tensor | None,
        positions: Tensor,
        tokens: int,
        cache: Any = None,
        keep: int = 1,
    ) -> Tensor:
        """Run one counted pass.

        ids        [rows, n] tokens.
        mask       [rows, cached + n], True at real positions; or 4-D as the model
                   takes it; or None where nothing is padding.
        positions  [rows, n] position ids.
        tokens     how many of the rows * n positions are real work.
        keep       logits of the last ``keep`` positions are returned; 0 for all.

        Returns logits [rows, keep, vocabulary] in float32.
        """
        self.ledger.count(self.role, tokens)
        out = self.net(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=keep,
            return_dict=True,
        )
        logits: Tensor = out.logits
        return logits.float()


def _context(config: Any) -> int:
    text = config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        size = getattr(text, name, None)
        if isinstance(size, int) and size > 0:
            return size
    return 1 << 30


def _ends(net: Any, tokenizer: Any) -> tuple[int, ...]:
    ends: set[int] = set()
    generation = getattr(net, "generation_config", None)
    for found in (tokenizer.eos_token_id, getattr(generation, "eos_token_id", None)):
        if isinstance(found, int):
            ends.add(found)
        elif found is not None:
            ends.update(found)
    return tuple(sorted(ends))


def left_padded(
    sequences: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Stack sequences with padding on the left: ids, mask (True at real tokens), positions."""
    longest = max(len(s) for s in sequences)
    ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        if sequence:
            ids[row, -len(sequence) :] = torch.tensor(sequence)
            mask[row, -len(sequence) :] = True
    positions = (mask.long().cumsum(-1) - 1).clamp_(min=0)
    return ids.to(device), mask.to(device), positions.to(device)


def right_padded(
    sequences: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Stack sequences with padding on the right: ids, mask (True at real tokens), positions."""
    longest = max(len(s) for s in sequences)
    ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask[row, : len(sequence)] = True
    positions = torch.arange(longest).expand(len(sequences), longest)
    return ids.to(device), mask.to(device), positions.to(device)
