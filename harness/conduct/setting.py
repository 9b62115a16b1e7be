"""Everything a protocol names, loaded once a process and handed to every cell.

Nothing is loaded before it is asked for: ``make list`` needs no model, a cell
that scores stored answers needs no policy.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.chat import PLAIN_TEMPLATES, Chat
from harness.conduct import plugins, worlds
from harness.conduct.protocol import Protocol
from harness.conduct.store import digest
from harness.conduct.terms import Judging, Reward, Weights, expanded
from harness.errors import PlumblineError, unknown
from harness.ledger import Ledger
from harness.records import Json

if TYPE_CHECKING:
    from harness.contracts.backends import ChatBackend
    from harness.contracts.scorer import Instruments
    from harness.contracts.world import World
    from harness.engine.decoding import Decoded, Job
    from harness.engine.encoder import Encoder
    from harness.engine.model import Model
    from harness.engine.reward import RewardModel
    from harness.engine.sampling import Sampling
    from harness.engine.steering import Steering
    from harness.judging.endpoint import Endpoint
    from harness.judging.openai_backend import OpenAIBackend

WARM_UP = 16  # tokens of an answer after which a batch is no slower than later ones
SMALL = 1 << 22  # files up to this size are fingerprinted by content, larger ones by size


class Setting:
    """A protocol with its world built and its models loaded on demand.

    device      where models go; None picks the best there is.
    batch_rows  rows decoded together; it changes no answer.
    """

    def __init__(
        self, protocol: Protocol, *, device: str | None = None, batch_rows: int = 64
    ) -> None:
        self.protocol = protocol
        self.device = device
        self.batch_rows = batch_rows
        self._rewards: dict[str, RewardModel] = {}
        self._judges: dict[str, Model] = {}
        self._endpoints: dict[str, OpenAIBackend] = {}
        self._warm = False
        self.roles = Roles(self._role, protocol.sections.models)

    # ---------------------------------------------------------------- the world

    @cached_property
    def world(self) -> World | None:
        """The protocol's world, not necessarily built yet."""
        model = self.protocol.sections.model
        return None if model.world is None else plugins.world(model.world, model.world_seed)

    @cached_property
    def folder(self) -> Path | None:
        """Folder of the built world; builds it the first time on a machine."""
        return None if self.world is None else worlds.world_folder(self.world)

    @property
    def gold(self) -> Callable[[Chat, str], dict[str, float]] | None:
        """The world's planted truth."""
        return None if self.world is None else self.world.gold

    @cached_property
    def terms(self) -> str:
        """Name the folder of everything done under these terms: ``<protocol>-<hash>``."""
        return f"{self.protocol.name}-{self.terms_hash}"

    @cached_property
    def terms_hash(self) -> str:
        """Hash of the protocol and of what its names stand for on this machine."""
        sections = self.protocol.sections
        named: list[tuple[str, Weights | None]] = [
            ("model", sections.model),
            *((f"models.{role}", weights) for role, weights in sections.models.items()),
            ("granted", sections.rewards.granted),
            ("evaluation", sections.rewards.evaluation),
        ]
        identities: dict[str, Json] = {
            place: identity(weights) for place, weights in named if weights is not None
        }
        if self.world is not None:
            identities["world"] = digest(self.world.recipe())
        return self.protocol.terms_hash(identities)

    # --------------------------------------------------------------- the models

    @cached_property
    def model(self) -> Model:
        """The policy."""
        from harness.engine.model import Model

        section = self.protocol.sections.model
        named = section if section.world is None else Weights(world="policy")
        return Model.load(
            self.place(named),
            revision=section.revision,
            template=section.template,
            dtype=section.dtype,
            device=self.device,
            name=self.called(named),
            trust_remote_code=section.trust_remote_code,
        )

    @property
    def granted(self) -> RewardModel | None:
        """The reward model methods may use."""
        section = self.protocol.sections.rewards.granted
        return None if section is None else self._reward(section)

    @property
    def evaluation(self) -> RewardModel | None:
        """The reward model answers are measured by."""
        section = self.protocol.sections.rewards.evaluation
        return None if section is None else self._reward(section)

    @property
    def optimised(self) -> bool:
        """True where methods are granted the very reward they are measured by."""
        rewards = self.protocol.sections.rewards
        return rewards.granted is not None and rewards.granted == rewards.evaluation

    def place(self, weights: Weights) -> str:
        """Give the folder or Hub name a section stands for."""
        if weights.world is None:
            return expanded_path(weights)
        assert self.folder is not None
        folder = self.folder / weights.world
        if not folder.is_dir():
            there = [p.parent.name for p in self.folder.glob("*/config.json")]
            raise unknown("model of the world", weights.world, there)
        return str(folder)

    def called(self, weights: Weights) -> str | None:
        """Name a world's model in records, wherever the world is built; None for others."""
        return f"{self.protocol.sections.model.world}/{weights.world}" if weights.world else None

    def backend(self, judging: Judging) -> ChatBackend:
        """Find what answers a judge's prompts; judges of one model share it."""
        from harness.contracts.local_backend import LocalBackend
        from harness.engine.model import Model

        weights = judging.weights()
        if weights is None:
            return self._endpoint(judging)
        key = weights.model_dump_json()
        if key not in self._judges:
            self._judges[key] = Model.load(
                self.place(weights),
                revision=weights.revision,
                template=weights.template,
                dtype=weights.dtype,
                device=self.device,
                role="judge",
                name=self.called(weights),
            )
        name = judging.role if judging.backend == "world" else Path(judging.path or "").name
        return LocalBackend(self._judges[key], batch_rows=self.batch_rows, name=name)

    def _endpoint(self, judging: Judging) -> ChatBackend:
        from harness.judging.openai_backend import OpenAIBackend, Patience, Prices

        key = judging.model_dump_json()
        if key not in self._endpoints:
            prices = None
            if judging.price_in is not None and judging.price_out is not None:
                prices = Prices(judging.price_in, judging.price_out)
            self._endpoints[key] = OpenAIBackend(
                judging.model or "",
                endpoint_of(judging),
                concurrency=judging.concurrency,
                patience=Patience(judging.timeout, judging.tries),
                prices=prices,
            )
        return self._endpoints[key]

    @cached_property
    def instruments(self) -> Instruments:
        """What scorers may use; judges are added per benchmark."""
        from harness.contracts.scorer import Instruments

        encoder = self._encoder()
        return Instruments(
            reward=self.evaluation,
            optimised=None if self.optimised else self.granted,
            gold=self.gold,
            embed=encoder,
            encoder=encoder.name if encoder else "",
        )

    # ---------------------------------------------------------------- the engine

    def decode(
        self,
        jobs: Sequence[Job],
        steering: Steering,
        seed: int,
        search_sampling: Sampling | None = None,
    ) -> Iterator[list[Decoded]]:
        """Answer jobs with the policy; see ``engine.decoding.decode``."""
        from harness.engine.decoding import decode

        return decode(
            self.model,
            jobs,
            steering,
            seed=seed,
            batch_rows=self.batch_rows,
            search_sampling=search_sampling,
        )

    def warm_up(self, chats: Sequence[Chat]) -> None:
        """Answer a batch with a few tokens, once a process, on nobody's account.

        The first batch of a process is slow by itself (memory is fetched, kernels are made);
        it would be put down to the row that comes first, which is the reference.
        """
        if self._warm:
            return
        from harness.engine.decoding import Job
        from harness.engine.sampling import Sampling
        from harness.engine.steering import Steering

        self._warm = True
        few = Sampling(max_new_tokens=WARM_UP)
        jobs = [Job(f"warm-up/{i}", chat, few) for i, chat in enumerate(chats[: self.batch_rows])]
        for _ in self.decode([job for job in jobs if self.room(job.chat, few)], Steering(), 0):
            pass

    def kl(
        self, jobs: Sequence[Job], tokens: Sequence[Sequence[int]], steering: Steering
    ) -> list[float]:
        """Give each response's exact per-step KL; see ``engine.density.sequence_kl``."""
        from harness.engine.density import sequence_kl

        return sequence_kl(self.model, jobs, tokens, steering, batch_rows=self.batch_rows)

    def room(self, chat: Chat, sampling: Sampling) -> bool:
        """Say whether a conversation and its answer fit the policy's context."""
        return len(self.model.encode(chat)) + sampling.max_new_tokens <= self.model.context

    @contextmanager
    def metered(self, ledger: Ledger) -> Iterator[Ledger]:
        """Count on ``ledger`` whatever any model loaded so far spends inside the block."""
        with ExitStack() as stack:
            models: list[Model | RewardModel | OpenAIBackend]
            models = [vars(self)["model"]] if "model" in vars(self) else []
            models += [*self.roles.values(), *self._rewards.values()]
            models += [*self._judges.values(), *self._endpoints.values()]
            for one in models:
                stack.enter_context(one.metered(ledger))
            yield ledger

    def _reward(self, section: Reward) -> RewardModel:
        from harness.engine.reward import RewardModel

        key = section.model_dump_json()
        if key not in self._rewards:
            self._rewards[key] = RewardModel.load(
                self.place(section),
                revision=section.revision,
                template=section.template,
                dtype=section.dtype,
                device=self.device,
                name=self.called(section),
                max_length=section.max_length,
            )
        return self._rewards[key]

    def _role(self, role: str) -> Model:
        from harness.engine.model import Model

        weights = self.protocol.sections.models[role]
        return Model.load(
            self.place(weights),
            revision=weights.revision,
            template=weights.template,
            dtype=weights.dtype,
            device=self.device,
            role=role,
            name=self.called(weights),
        )

    def _encoder(self) -> Encoder | None:
        section = self.protocol.sections.coherence
        if section.encoder is None:
            return None
        from harness.engine.encoder import Encoder

        if section.encoder == "policy":
            net = self.model.net.base_model  # the same weights, without the head
            return Encoder(net, self.model.tokenizer, name="policy (mean)", pooling="mean")
        return Encoder.load(
            expanded(section.encoder), revision=section.revision, device=self.device
        )


class Roles(dict[str, "Model"]):
    """Further models by role, each loaded when it is first asked for."""

    def __init__(self, load: Callable[[str], Model], named: dict[str, Weights]) -> None:
        super().__init__()
        self._load = load
        self._named = named

    def __missing__(self, role: str) -> Model:
        if role not in self._named:
            raise unknown("model role (the protocol's [models])", role, self._named)
        self[role] = self._load(role)
        return self[role]


def endpoint_of(judging: Judging) -> Endpoint:
    """Find a judge's endpoint; raises PlumblineError where there is no key, or no URL."""
    from harness.judging.endpoint import endpoint

    return endpoint(os.environ, expanded(judging.url) if judging.url else None)


def expanded_path(weights: Weights) -> str:
    """Fill in environment variables; an unset one is named."""
    path = expanded(weights.path or "")
    if "$" in path:
        raise PlumblineError(
            f"path = {weights.path!r} names an environment variable that is not set"
        )
    return path


def identity(weights: Weights) -> dict[str, Json]:
    """Say what a section stands for on this machine: folder contents, template text."""
    found: dict[str, Json] = {}
    if weights.template in PLAIN_TEMPLATES:
        probe = Chat.of("{user}", system="{system}").assistant("{answer}").user("{more}")
        template = PLAIN_TEMPLATES[weights.template]
        found["template"] = digest([template.render(probe), template.stop])
    if weights.path is not None and weights.local:
        found["folder"] = fingerprint(Path(expanded_path(weights)))
    return found


def fingerprint(folder: Path) -> str:
    """Digest a model folder: small files by content, weights by name and size."""
    found = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = file.stat().st_size
        content = hashlib.blake2b(file.read_bytes()).hexdigest() if size <= SMALL else ""
        found.append([str(file.relative_to(folder)), size, content])
    return digest(found)
