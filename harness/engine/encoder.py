"""A sentence encoder: texts to unit vectors.

Three ways to make one vector of many states, chosen by the model unless named:

    mean    mean of the last states over real tokens (all-MiniLM-L6-v2; a causal LM's final
            states, which is how a world without an encoder uses its own model)
    pooler  the first token's state through the model's pooling layer (supervised SimCSE)
    cls     the first token's state as it is (unsupervised SimCSE)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from harness.engine.model import load_pretrained, load_tokenizer, pick_device, pick_dtype
from harness.errors import PlumblineError, unknown

Pooling = Literal["mean", "pooler", "cls"]


class Encoder:
    """Texts -> unit vectors; each distinct text is encoded once.

    name   as tables print it: path, revision and pooling.
    cut    how many distinct texts so far were longer than the model reads, and were cut.
    """

    def __init__(
        self,
        net: Any,
        tokenizer: Any,
        *,
        name: str,
        pooling: Pooling,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> None:
        self.net = net.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.pooling: Pooling = pooling
        self.batch_size = batch_size
        limits = (getattr(net.config, "max_position_embeddings", None), tokenizer.model_max_length)
        self.max_length = max_length or min(int(limit) for limit in limits if limit)
        self.cut = 0
        self.filler = tokenizer.pad_token_id or 0  # masked out, so any id does

    @classmethod
    def load(
        cls,
        path: str,
        *,
        revision: str | None = None,
        pooling: Pooling | None = None,
        dtype: str = "float32",
        device: str | None = None,
        batch_size: int = 32,
        max_length: int | None = None,
    ) -> Encoder:
        """Load a folder or a Hub name.

        max_length  tokens read of each text; the model's own limit if left out.

        Raises PlumblineError for a model that cannot be loaded or has no tokenizer.
        """
        from transformers import AutoModel

        if pooling is not None and pooling not in get_args(Pooling):
            raise unknown("pooling", pooling, get_args(Pooling))
        net = load_pretrained(
            AutoModel, path, revision=revision, trust_remote_code=False, dtype=pick_dtype(dtype)
        )
        tokenizer = load_tokenizer(path, revision=revision, trust_remote_code=False)
        how = pooling or usual_pooling(path)
        if how == "pooler" and getattr(net, "pooler", None) is None:
            raise PlumblineError(f"encoder {path} has no pooling layer; pooling may be mean or cls")
        at = f"@{revision[:7]}" if revision else ""
        return cls(
            net.to(pick_device(device)),
            tokenizer,
            name=f"{path.rstrip('/').rsplit('/', 1)[-1]}{at} ({how})",
            pooling=how,
            batch_size=batch_size,
            max_length=max_length,
        )

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """Encode texts in batches of like length: [texts, width], each row of norm 1."""
        distinct = list(dict.fromkeys(texts))
        ids: list[list[int]] = [self._ids(text) for text in distinct]
        order = sorted(range(len(distinct)), key=lambda i: len(ids[i]))
        vectors: dict[str, list[float]] = {}
        for start in range(0, len(order), self.batch_size):
            some = order[start : start + self.batch_size]
            rows = self._encode([ids[i] for i in some])
            vectors |= {distinct[i]: row for i, row in zip(some, rows.tolist(), strict=True)}
        return [vectors[text] for text in texts]

    def _ids(self, text: str) -> list[int]:
        whole = self.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        if len(whole) <= self.max_length:
            return list(whole)
        self.cut += 1
        kept = self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"]
        return list(kept)

    @torch.inference_mode()
    def _encode(self, ids: list[list[int]]) -> Tensor:
        rows = [torch.tensor(row or [self.filler]) for row in ids]
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        batch = pad_sequence(rows, batch_first=True, padding_value=self.filler)
        mask = mask.to(self.net.device)
        out = self.net(input_ids=batch.to(self.net.device), attention_mask=mask)
        if self.pooling == "pooler":
            vectors = out.pooler_output
        elif self.pooling == "cls":
            vectors = out.last_hidden_state[:, 0]
        else:
            states = out.last_hidden_state.float() * mask.unsqueeze(-1)
            vectors = states.sum(1) / mask.sum(1, keepdim=True)
        return normalize(vectors.float(), dim=-1).cpu()


def usual_pooling(path: str) -> Pooling:
    """Give the pooling a model was trained with: by its own file, or by SimCSE's names."""
    file = Path(path).expanduser() / "1_Pooling" / "config.json"
    if file.is_file():
        said = json.loads(file.read_text(encoding="utf-8"))
        return "cls" if said.get("pooling_mode_cls_token") else "mean"
    name = path.lower()
    if "simcse" in name:
        return "cls" if "unsup" in name else "pooler"
    return "mean"
