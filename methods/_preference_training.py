"""Train adapters on preference pairs: TRL's losses and loop, PEFT's adapters, our token ids.

TRL and PEFT are imported when training starts, never before.  The trained network is a copy of
the policy's modules around the policy's own weights, so nothing is held twice and nothing of
the policy has to be put back, whatever happens on the way.

    sigmoid        -log s(b [h(y+) - h(y-)])                           DPO, arXiv 2305.18290
    sigmoid_norm   the same with h(y)/|y|                              LN-DPO, arXiv 2407.15229
    ipo            (h(y+)/|y+| - h(y-)/|y-| - 1/(2b))^2                IPO, arXiv 2310.12036
    robust         sigmoid, unbiased where labels flip at a rate e     arXiv 2403.00409
    kto            1 - s(+-b [h(y) - z])                               KTO, arXiv 2402.01306
    bco            -log s(b h(y+) - d) - log s(-(b h(y-) - d))         BCO, arXiv 2404.04656

with h(y) = log p(y|x) - log p0(y|x), s the logistic function, z the mean of h over answers to
other prompts (no less than 0), d the running mean of all b h seen so far.  BCO's is ours: TRL
keeps a form of it without d.
"""

from __future__ import annotations

import copy
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.utils.data import Sampler

from harness.api import Lab, PlumblineError, progress
from methods._preference_rows import Row

Loss = Literal["sigmoid", "sigmoid_norm", "kto", "ipo", "robust", "bco"]
LARGE = 1_000_000_000  # parameters above which activations are computed twice to save memory


@dataclass(frozen=True)
class Recipe:
    """How adapters are trained: AdamW, cosine after a warm-up of at most a tenth of the steps.

    beta        weight of the pull towards the base model.
    flips       the rate of flipped labels that ``robust`` allows for.
    batch       pairs a step, pushed ``together`` at a time.
    precompute  read the base model's log-probabilities once, before training.
    """

    loss: Loss
    beta: float
    flips: float
    learning_rate: float
    rank: int
    alpha: int
    epochs: int
    batch: int
    together: int
    precompute: bool
    seed: int

    def steps(self, pairs: int) -> int:
        """Count the steps that this many pairs make."""
        return self.epochs * -(-pairs // self.batch)


@dataclass(frozen=True)
class Trained:
    """What training leaves: adapters by PEFT's names, and the loss of every pass."""

    tensors: dict[str, Tensor]
    losses: list[float]
    steps: int


def train(lab: Lab, rows: Sequence[Row], recipe: Recipe, folder: Path) -> Trained:
    """Fit adapters to pairs.  ``folder`` is TRL's; nothing in it is needed afterwards.

    Raises PlumblineError where TRL or PEFT is missing, and where several GPUs are visible.
    """
    if torch.cuda.device_count() > 1 and lab.model.device.type == "cuda":
        raise PlumblineError(
            "TRL trains on one GPU a process and several are visible; "
            "hide the others (CUDA_VISIBLE_DEVICES=0)"
        )
    with _isolated(lab.model.device), _quiet():
        trainer = _trainer(lab, rows, recipe, folder)
        steps = recipe.steps(len(rows))
        with progress(f"{recipe.loss} on {len(rows)} pairs", steps) as advance:
            trainer.add_callback(_watcher(advance, trainer))
            trainer.train()
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(trainer.model)
    tensors = {name: t.detach().float().cpu().clone() for name, t in sorted(state.items())}
    return Trained(tensors, trainer.losses, trainer.state.global_step)


def _trainer(lab: Lab, rows: Sequence[Row], recipe: Recipe, folder: Path) -> Any:
    model = lab.model
    try:
        from datasets import Dataset
        from peft import LoraConfig
        from transformers.trainer_callback import PrinterCallback
        from trl import DPOConfig, KTOConfig
    except ImportError as error:
        raise PlumblineError(
            f"tuning needs TRL and PEFT, and one cannot be imported ({error}); pip install trl peft"
        ) from error
    kto = recipe.loss == "kto"
    common: dict[str, Any] = {
        "output_dir": str(folder),
        "beta": recipe.beta,
        "learning_rate": recipe.learning_rate,
        "num_train_epochs": recipe.epochs,
        # KTO's rows are single answers: as many texts a pass as with pairs.
        "per_device_train_batch_size": recipe.together * (2 if kto else 1),
        "gradient_accumulation_steps": max(1, recipe.batch // recipe.together),
        "lr_scheduler_type": "cosine",
        "warmup_steps": recipe.steps(len(rows)) // 10,
        "max_length": None,  # what is too long was left out, and counted
        "precompute_ref_log_probs": recipe.precompute,
        "seed": recipe.seed % 2**32,
        "bf16": model.net.dtype == torch.bfloat16,
        "fp16": False,
        "gradient_checkpointing": None,  # the older name of the next
        "activation_checkpointing": sum(p.numel() for p in model.net.parameters()) > LARGE,
        "use_cpu": model.device.type == "cpu",
        "dataloader_pin_memory": model.device.type == "cuda",
        "disable_tqdm": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
    }
    if kto:
        args = KTOConfig(loss_type="kto", train_sampling_strategy="sequential", **common)
    else:
        loss = "sigmoid" if recipe.loss == "bco" else recipe.loss
        args = DPOConfig(loss_type=loss, label_smoothing=recipe.flips, **common)
    trainer = _trainer_class(recipe.loss)(
        model=_counted(_own_modules(model.net), lab),
        args=args,
        train_dataset=Dataset.from_list(_answers(rows, recipe) if kto else _pairs(rows)),
        processing_class=copy.deepcopy(model.tokenizer),  # TRL may give it a padding token
        peft_config=LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _trainer_class(loss: Loss) -> Any:
    """Give TRL's trainer for a loss, told that its rows are token ids already."""
    from trl import DPOTrainer, KTOTrainer

    kind: Any = KTOTrainer if loss == "kto" else DPOTrainer

    class Given(kind):  # type: ignore[misc]
        """Takes rows as they are, and remembers the loss of every pass."""

        def __init__(self, **options: Any) -> None:
            self.losses: list[float] = []
            super().__init__(**options)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if loss == "kto":  # its rows stand in the order in which they are to be read
                return super()._get_train_sampler(train_dataset)
            rows = self.train_dataset if train_dataset is None else train_dataset
            a_step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
            sides = zip(rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"], strict=True)
            lengths = [len(x) + max(len(good), len(bad)) for x, good, bad in sides]
            return Steps(lengths, a_step, self.args.seed)

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            found = super().compute_loss(*args, **kwargs)
            self.losses.append(float(found.detach()))
            return found

    class Bco(Given):
        """BCO's loss over TRL's batches: one text a row, the preferred half first."""

        def __init__(self, **options: Any) -> None:
            self.shift = RunningMean()
            super().__init__(**options)

        def _compute_loss(self, net: Any, inputs: dict[str, Tensor], _: bool) -> Tensor:
            labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
            now = net(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                labels=labels,
                use_cache=False,
                fused_lm_head=True,
            ).log_probs.sum(-1)
            if self.precompute_ref_logps:
                base = torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
            else:
                base = torch.cat(self.compute_ref_log_probs(self.model, inputs))
            return bco_loss(now - base, self.beta, self.shift)

    return Bco if loss == "bco" else Given


class Steps(Sampler[int]):
    """Random steps, another order each epoch; a step's rows stand by length, so passes pad less.

    A step's gradient is its rows' mean, whatever their order.

    lengths  tokens of each row.
    size     rows a step.
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int) -> None:
        self.lengths = lengths
        self.size = size
        self.rng = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.randperm(len(self.lengths), generator=self.rng).tolist()
        for start in range(0, len(drawn), self.size):
            yield from sorted(drawn[start : start + self.size], key=lambda i: -self.lengths[i])


@dataclass
class RunningMean:
    """The mean of everything told so far."""

    total: float = 0.0
    count: int = 0

    def told(self, values: Tensor) -> float:
        """Take values in, and give the mean of all."""
        self.total += float(values.sum())
        self.count += values.numel()
        return self.total / self.count


def bco_loss(ratios: Tensor, beta: float, shift: RunningMean) -> Tensor:
    """Give BCO's loss of log-ratios h, the preferred answers' first: [2 pairs] -> scalar."""
    rewards = beta * ratios
    delta = shift.told(rewards.detach())
    good, bad = rewards.chunk(2)
    return -(logsigmoid(good - delta) + logsigmoid(delta - bad)).mean()


def _pairs(rows: Sequence[Row]) -> list[dict[str, list[int]]]:
    """Give TRL's rows, long ones first: the base model reads them as they stand."""
    ordered = sorted(rows, key=lambda r: -len(r.prompt) - max(len(r.chosen), len(r.rejected)))
    return [
        {"prompt_ids": r.prompt, "chosen_ids": r.chosen, "rejected_ids": r.rejected}
        for r in ordered
    ]


def _answers(rows: Sequence[Row], recipe: Recipe) -> list[dict[str, Any]]:
    """Split pairs for KTO: answers in a random order, each with one to another prompt beside it.

    The others of a pass are its own answers, moved on by one row.
    """
    found: list[dict[str, Any]] = [
        {"prompt_ids": r.prompt, "completion_ids": answer, "label": good}
        for r in rows
        for answer, good in ((r.chosen, True), (r.rejected, False))
    ]
    random.Random(f"answers {recipe.seed}").shuffle(found)
    size = 2 * recipe.together
    for start in range(0, len(found), size):
        batch = found[start : start + size]
        for row, other in zip(batch, [batch[-1], *batch[:-1]], strict=True):
            row["KL_completion_ids"] = other["completion_ids"]
    return found


def _own_modules(net: Any) -> Any:
    """Copy a network's modules around its own weights: what wraps the copy leaves it as it is."""
    shared = {id(t): t for t in (*net.parameters(), *net.buffers())}
    return copy.deepcopy(net, shared)


def _counted(net: Any, lab: Lab) -> Any:
    """Count every forward pass of the network where the policy's own are counted."""
    model = lab.model

    def count(_: Any, __: Any, given: dict[str, Any]) -> None:
        model.ledger.count(model.role, int(given["attention_mask"].sum()))

    net.base_model.register_forward_pre_hook(count, with_kwargs=True)
    return net


def _watcher(advance: Any, trainer: Any) -> Any:
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Moves the progress bar."""

        def on_step_end(self, *_: Any, **__: Any) -> None:
            advance(1, f"loss {trainer.losses[-1]:.3f}")

    return Watch()


@contextmanager
def _isolated(device: torch.device) -> Iterator[None]:
    """Give back the global noise that TRL seeds."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries: there is one bar, the harness's, and old names are their affair."""
    import datasets

    shown, before = datasets.is_progress_bar_enabled(), os.environ.get("TQDM_DISABLE")
    datasets.disable_progress_bars()
    os.environ["TQDM_DISABLE"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before
        if shown:
            datasets.enable_progress_bars()
