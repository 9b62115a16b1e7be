"""Tiny models built from their configs and tokenizers built in memory: nothing is downloaded."""

import functools
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

ARCHITECTURES = (
    "llama",
    "mistral",
    "mistral-window",
    "qwen2",
    "qwen3",
    "gemma",
    "gpt2",
    "gpt_neox",
    "gpt_neox-serial",
    "falcon",
    "falcon-new",
    "falcon-alibi",
    "phi",
)
WIDTH, HEADS, LAYERS, CONTEXT = 32, 4, 3, 160
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
CORPUS = (
    "Once upon a time there was a little girl named Lily. She loved to play outside.",
    "\n\nHuman: What is the time?\n\nAssistant: It is late, and the sun is down.",
    "USER: hello there ASSISTANT: hello, how are you today? STOP here, and END there.",
)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def pytest_configure(config):
    """Keep every test to one core, so that figures and speed do not depend on the machine."""
    import torch

    torch.set_num_threads(1)


def tokenizer(kind="bytes", *, bos=True, template=TEMPLATE):
    """Build a tokenizer: "bytes" (GPT-2's kind), "pieces" (SentencePiece's kind) or "words"."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import BpeTrainer, WordLevelTrainer
    from transformers import PreTrainedTokenizerFast

    special = [AddedToken(s, special=True, normalized=False) for s in SPECIAL]
    if kind == "bytes":
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        trainer = BpeTrainer(
            vocab_size=320,
            special_tokens=special,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
    elif kind == "pieces":
        core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        core.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        core.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        trainer = BpeTrainer(
            vocab_size=360,
            special_tokens=[*special, *(AddedToken(f"<0x{b:02X}>") for b in range(256))],
            show_progress=False,
        )
    else:
        core = Tokenizer(models.WordLevel(unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = WordLevelTrainer(special_tokens=special, show_progress=False)
    core.train_from_iterator(CORPUS, trainer)
    if kind == "pieces":
        core = _bytes_as_ordinary_tokens(core)
    if bos:
        core.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        chat_template=template,
    )


def _bytes_as_ordinary_tokens(core):
    """Take the byte tokens out of the added ones: a trainer can only add them as special."""
    import json

    from tokenizers import Tokenizer

    told = json.loads(core.to_str())
    told["added_tokens"] = [t for t in told["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(told))


def config(architecture, vocabulary):
    """Give an architecture's config at the smallest size that still has every part."""
    import transformers as hf

    family, _, variant = architecture.partition("-")
    common = {
        "vocab_size": vocabulary,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "initializer_range": 0.25,
        "tie_word_embeddings": False,
    }
    if family == "gpt2":
        return hf.GPT2Config(
            n_embd=WIDTH, n_head=HEADS, n_layer=LAYERS, n_positions=CONTEXT, **common
        )
    common |= {
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": CONTEXT,
    }
    if family == "falcon":
        return hf.FalconConfig(
            new_decoder_architecture=variant == "new",
            num_kv_heads=2 if variant == "new" else None,
            alibi=variant == "alibi",
            multi_query=variant == "",
            parallel_attn=variant != "alibi",
            bias=variant == "alibi",
            **common,
        )
    common |= {"intermediate_size": 2 * WIDTH}
    if family == "gpt_neox":
        return hf.GPTNeoXConfig(use_parallel_residual=variant != "serial", **common)
    common |= {"num_key_value_heads": 2}
    if family == "llama":
        return hf.LlamaConfig(**common)
    if family == "mistral":
        return hf.MistralConfig(sliding_window=7 if variant else None, **common)
    if family == "qwen2":
        return hf.Qwen2Config(**common)
    if family == "qwen3":
        return hf.Qwen3Config(head_dim=12, **common)
    if family == "gemma":
        return hf.GemmaConfig(head_dim=12, **common)
    assert family == "phi"
    return hf.PhiConfig(**common)


@functools.cache
def network(architecture, vocabulary, seed=0):
    """Build a causal LM with random weights large enough that its words vary."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = AutoModelForCausalLM.from_config(config(architecture, vocabulary))
        for name, weight in net.named_parameters():
            if "norm" not in name and "ln_" not in name and weight.dim() == 1:
                weight.data.normal_(std=0.1)  # biases are born as zeros, which would hide much
    net.generation_config.pad_token_id = 0
    return net.eval()


@functools.cache
def shared_tokenizer(kind):
    """Give one tokenizer of a kind for the whole session."""
    return tokenizer(kind)


def model(architecture="llama", kind="bytes", template="human-assistant", *, ends=True):
    """Wrap a tiny network as the harness does; ``ends=False`` takes its end tokens away."""
    from harness.engine.model import Model, pick_template

    words = shared_tokenizer(kind)
    chosen = pick_template(template, words, "tiny")
    made = Model(network(architecture, len(words)), words, chosen, name=architecture)
    if not ends:
        made.ends = ()
    return made


@functools.cache
def reward_network(architecture, vocabulary, labels=1):
    """Build a sequence classifier with random weights."""
    import torch
    from transformers import AutoModelForSequenceClassification

    told = config(architecture, vocabulary)
    told.num_labels = labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return AutoModelForSequenceClassification.from_config(told).eval()


@pytest.fixture(scope="session", params=ARCHITECTURES)
def architecture(request):
    """Name each architecture in turn."""
    return request.param


@pytest.fixture
def tiny(architecture):
    """Give a tiny model of each architecture in turn."""
    return model(architecture)


@pytest.fixture
def llama():
    """Give a tiny Llama."""
    return model("llama")


@pytest.fixture(scope="session")
def make_model():
    """Give the function that builds tiny models."""
    return model


@pytest.fixture(scope="session")
def make_tokenizer():
    """Give the function that builds tokenizers."""
    return tokenizer


@pytest.fixture(scope="session")
def make_network():
    """Give the function that builds a bare tiny network (one object for equal arguments)."""
    return network


@pytest.fixture(scope="session")
def make_reward():
    """Give the function that wraps a tiny sequence classifier as a reward model."""

    def make(architecture="llama", kind="bytes", template="human-assistant", **options):
        from harness.engine.model import pick_template
        from harness.engine.reward import RewardModel

        words = shared_tokenizer(kind)
        net = reward_network(architecture, len(words))
        chosen = pick_template(template, words, "tiny reward")
        return RewardModel(net, words, chosen, name="tiny reward", **options)

    return make


@pytest.fixture(scope="session")
def stories():
    """Give the folder of the small trained model, or skip where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "weights" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"the trained model {folder.name} is not on this machine")
    return folder


PROMPTS = (
    "hi",
    "hello there, how are you?",
    "What is the time now, please tell me",
    "a",
    "Once upon a time there was a little girl",
    "The sun is",
)


@pytest.fixture(scope="session")
def make_jobs():
    """Give the function that makes jobs out of short prompts of different lengths."""

    def make(prompts=PROMPTS, *, temperature=1.0, budget=10, turn=0, **sampling):
        from harness.chat import Chat
        from harness.engine.decoding import Job
        from harness.engine.sampling import Sampling

        how = Sampling(temperature=temperature, max_new_tokens=budget, **sampling)
        return [Job(f"p{i}", Chat.of(text), how, turn) for i, text in enumerate(prompts)]

    return make


@pytest.fixture(scope="session")
def answer():
    """Give the function that decodes jobs and returns the answers in the jobs' order."""

    def run(model, jobs, steering=None, **options):
        from harness.engine.decoding import decode

        done = {d.job: d for batch in decode(model, jobs, steering, **options) for d in batch}
        return [done[i] for i in range(len(jobs))]

    return run
