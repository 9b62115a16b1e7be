"""Loading, templates, and the beginning of a sequence."""

import json

import pytest
import torch

from harness.chat import Chat
from harness.engine.model import Model, fold_system, left_padded, pick_device, pick_template
from harness.engine.reward import RewardModel
from harness.errors import PlumblineError

HELLO = Chat.of("hello")
DIALOGUE = Chat.of("hello").assistant("hi").user("What is the time?")
REFUSES = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
)
DROPS = (
    "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}] {{ m.content }}\n"
    "{% endif %}{% endfor %}"
)
PICKY = "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}hi"


@pytest.fixture
def folder(make_model, tmp_path):
    """Save a tiny model in Hub format."""
    model = make_model()
    model.net.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def change(folder, **fields):
    """Change fields of a folder's config."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refused(folder, message, kind=Model, **options):
    """Check that loading gives one clear line."""
    with pytest.raises(PlumblineError, match=message) as caught:
        kind.load(str(folder), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "gemma", "phi"])
def test_a_saved_folder_loads_and_answers_the_same(make_model, tmp_path, name, make_jobs, answer):
    """A model saved with ``save_pretrained`` is read back whole."""
    model = make_model(name)
    model.net.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    again = Model.load(str(tmp_path), template="human-assistant", device="cpu")
    jobs = make_jobs(temperature=0)
    assert [d.tokens for d in answer(again, jobs)] == [d.tokens for d in answer(model, jobs)]
    assert again.facts() | {"name": ""} == model.facts() | {"name": ""}
    assert not any(p.requires_grad for p in again.net.parameters())
    assert not again.net.training


def test_tied_weights_are_not_missing(make_network, make_tokenizer, tmp_path):
    """A model whose head is its embedding loads though the file holds it once."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=16, n_head=2, n_layer=1, vocab_size=320, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    assert Model.load(str(tmp_path)).facts()["architecture"] == "GPT2LMHeadModel"


def test_precision_and_device_are_as_asked(folder):
    """The weights are in the precision asked for; logits stay float32."""
    model = Model.load(str(folder), dtype="bfloat16", device="cpu")
    assert model.facts()["dtype"] == "bfloat16"
    ids, mask, positions = left_padded([[1, 5]], model.device)
    assert model.forward(ids, mask=mask, positions=positions, tokens=2).dtype == torch.float32
    assert pick_device("cpu") == torch.device("cpu")
    refused(folder, "unknown dtype 'int8'. Known: float32, bfloat16, float16", dtype="int8")


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("path", ["/no/such/folder", "./nowhere", "~/nowhere-at-all"])
def test_a_missing_folder_is_named(path):
    """A path that is no folder is not looked up anywhere else."""
    refused(path, rf"model folder {path} does not exist|has no tokenizer")


def test_a_folder_without_a_tokenizer(folder):
    """The files looked for are listed."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(folder, r"has no tokenizer \(looked for tokenizer.json")


def test_a_tokenizer_without_a_chat_template(folder, make_tokenizer):
    """The protocol asked for the tokenizer's own, which is not there; a plain one is."""
    (folder / "chat_template.jinja").unlink()
    refused(folder, "chat template, and it has none; set template to human-assistant or vicuna")
    assert Model.load(str(folder), template="vicuna").template.name == "vicuna"
    refused(folder, r"unknown chat template 'vicunna'\. Did you mean 'vicuna'", template="vicunna")


def test_a_model_with_code_of_its_own(folder):
    """Code from a model's folder is not run unless the protocol says so."""
    (folder / "theirs.py").write_text("raise SystemExit('their code ran')")
    change(
        folder,
        model_type="theirs",
        auto_map={"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Net"},
    )
    refused(folder, "needs code from its own folder to run; set trust_remote_code = true")


def test_a_model_type_nobody_knows(folder):
    """An unknown type without code of its own is named."""
    change(folder, model_type="unheard-of")
    refused(folder, "cannot load .*unheard-of")


def test_a_folder_of_pickles(folder):
    """Weights that are not safetensors are not read."""
    weights = folder / "model.safetensors"
    torch.save({}, folder / "pytorch_model.bin")
    weights.unlink()
    refused(folder, "has no safetensors weights; only safetensors are read")


def test_a_broken_weights_file(folder):
    """A file cut short is one clear line."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    refused(folder, "cannot load")


def test_weights_of_another_shape(folder):
    """A config that does not belong to the weights is one clear line."""
    change(folder, intermediate_size=80)
    refused(folder, "cannot load")


def test_a_causal_model_is_no_reward_model(folder):
    """A network whose head would be random numbers is refused."""
    change(folder, id2label={"0": "reward"}, label2id={"reward": 0})
    refused(folder, "holds no LlamaForSequenceClassification: .* score.weight", RewardModel)


def test_a_reward_model_is_no_causal_model(folder, make_reward):
    """The other way round, too."""
    reward = make_reward()
    reward.net.save_pretrained(folder)
    assert RewardModel.load(str(folder)).score([HELLO], ["hi"]) == pytest.approx(
        make_reward(template="tokenizer").score([HELLO], ["hi"])
    )
    refused(folder, "holds no LlamaForCausalLM: it has no weights for lm_head.weight")


# --------------------------------------------------------------- templates


def prepared(make_model, make_tokenizer, template, source=None, bos=True, kind="bytes"):
    """Make a model with a tokenizer of its own."""
    options = {} if source is None else {"template": source}
    words = make_tokenizer(kind, bos=bos, **options)
    return Model(make_model().net, words, pick_template(template, words, "here"), name="here")


@pytest.mark.parametrize("chat", [HELLO, DIALOGUE, HELLO.with_system("Be brief.")])
@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize("template", ["human-assistant", "vicuna", "tokenizer"])
def test_there_is_exactly_one_beginning(make_model, make_tokenizer, template, kind, chat):
    """A tokenizer that adds the beginning, and a template that writes it, give one together."""
    model = prepared(make_model, make_tokenizer, template, kind=kind)
    ids = model.encode(chat)
    assert ids[0] == 1
    assert ids.count(1) == 1
    assert model.tokenizer.decode(ids).startswith("<s>")


def test_a_beginning_written_twice_is_one(make_model, make_tokenizer):
    """Text that already starts with the beginning does not get a second one."""
    from harness.chat import Template

    model = make_model()
    twice = Template("twice", lambda chat: "<s>" + chat.last_user)
    assert Model(model.net, model.tokenizer, twice, name="x").encode(HELLO).count(1) == 1


def test_a_tokenizer_without_a_beginning_adds_none(make_model, make_tokenizer):
    """Nothing is invented."""
    model = prepared(make_model, make_tokenizer, "human-assistant", bos=False)
    assert 1 not in model.encode(HELLO)


def test_a_tokenizer_that_closes_every_text_leaves_a_prompt_open(make_model, make_tokenizer):
    """An end token appended by the tokenizer is taken off the prompt."""
    from tokenizers.processors import TemplateProcessing

    model = prepared(make_model, make_tokenizer, "human-assistant")
    open_ids = model.encode(HELLO)
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert model.tokenizer("x").input_ids[-1] == 2
    assert model.encode(HELLO) == open_ids


def test_a_template_that_refuses_a_system_turn_gets_it_in_the_first_user_turn(
    make_model, make_tokenizer
):
    """The system sentence is folded in, before the words of the user."""
    model = prepared(make_model, make_tokenizer, "tokenizer", REFUSES)
    assert model.render(DIALOGUE.with_system("Be brief.")) == (
        "<s>[user] Be brief.\n\nhello\n[assistant] hi\n[user] What is the time?\n"
    )
    assert model.render(HELLO) == "<s>[user] hello\n"


def test_a_template_that_drops_a_system_turn_gets_it_too(make_model, make_tokenizer):
    """A system sentence is never lost without a word."""
    model = prepared(make_model, make_tokenizer, "tokenizer", DROPS)
    assert model.render(HELLO.with_system("Be brief.")) == "[user] Be brief.\n\nhello\n"
    assert model.render(HELLO) == "[user] hello\n"


def test_a_conversation_the_template_refuses_is_one_clear_line(make_model, make_tokenizer):
    """The template's own words are passed on."""
    model = prepared(make_model, make_tokenizer, "tokenizer", PICKY)
    with pytest.raises(
        PlumblineError, match=r"refuses a conversation of user, assistant, user: one"
    ):
        model.render(DIALOGUE)


def test_a_system_sentence_without_a_user_becomes_a_user_turn():
    """There is no turn to fold it into."""
    assert fold_system(Chat().with_system("Be brief.")) == Chat.of("Be brief.")


def test_the_tokenizers_template_speaks_on_after_a_user_only(make_model, make_tokenizer):
    """After an assistant's turn the text ends with that turn."""
    model = prepared(make_model, make_tokenizer, "tokenizer")
    assert model.render(HELLO) == "<s>[user] hello\n[assistant]"
    assert model.render(HELLO.assistant("hi")) == "<s>[user] hello\n[assistant] hi\n"


@pytest.mark.parametrize("template", ["human-assistant", "tokenizer"])
def test_a_verbatim_context_is_read_as_it_stands(make_model, make_tokenizer, template):
    """No template touches it; the beginning of the sequence is added."""
    model = prepared(make_model, make_tokenizer, template)
    text = "# Query:\nhello\n\n# Answer:"
    assert model.render(Chat.verbatim(text)) == text
    assert model.tokenizer.decode(model.encode(Chat.verbatim(text))) == "<s>" + text


def test_facts_name_the_template_by_what_it_writes(make_model, make_tokenizer):
    """Two templates have two hashes; the same one has one."""
    facts = [
        prepared(make_model, make_tokenizer, name, source).facts()
        for name, source in (("tokenizer", None), ("tokenizer", DROPS), ("vicuna", None))
    ]
    assert len({f["template_hash"] for f in facts}) == 3
    assert facts[0] == prepared(make_model, make_tokenizer, "tokenizer").facts()
    assert [f["bos"] for f in facts] == ["template", "template", "tokenizer"]


def test_left_padding_puts_sequences_at_the_right_edge():
    """Ids, mask and positions of uneven sequences."""
    ids, mask, positions = left_padded([[5, 6, 7], [8], []], torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8], [0, 0, 0]]
    assert mask.tolist() == [[True] * 3, [False, False, True], [False] * 3]
    assert positions.tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
