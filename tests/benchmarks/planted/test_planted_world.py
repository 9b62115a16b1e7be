import json

import pytest

from benchmarks.planted import World
from benchmarks.planted.language import VOCABULARY, rendered
from harness.chat import Chat
from harness.conduct import plugins
from harness.conduct.sources import load_items, overlap

CONVERSATIONS = (
    Chat.of("a b"),
    Chat.of("c").assistant("a ?").user("b b a"),
    Chat.of("Explain photosynthesis, please").with_system("Be kind a"),
)


def _everything(folder):
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_the_world_is_found_by_name():
    """The plugin door makes the world from its name and seed."""
    assert plugins.world("planted", 3).seed == 3
    assert "planted" in {one.name for one in plugins.worlds()}


def test_a_seed_gives_the_same_world_byte_for_byte(world, folder, tmp_path):
    """Two builds of one seed agree in every file, weights included."""
    World(0).build(tmp_path, lambda fraction, what: None)
    assert _everything(tmp_path) == _everything(folder)


def test_another_seed_is_another_world(folder, tmp_path):
    """Another seed changes the weights, the items and the recipe."""
    other = World(1)
    other.build(tmp_path, lambda fraction, what: None)
    first, second = _everything(folder), _everything(tmp_path)
    assert first.keys() == second.keys()
    for name in ("policy/model.safetensors", "compiled/model.safetensors", "items/hh_rlhf.jsonl"):
        assert first[name] != second[name]
    assert other.recipe() != World(0).recipe()


def test_progress_reaches_the_end(tmp_path):
    """The build reports fractions that rise to one."""
    seen = []
    World(2).build(tmp_path, lambda fraction, what: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("chat", CONVERSATIONS)
def test_the_tokenizer_reads_what_the_world_renders(policy, chat):
    """The tokenizer's template and the world's own rendering give the same ids."""
    assert policy.encode(chat) == rendered(chat)


def test_tokens_survive_text(policy):
    """Words come back as they went in; markers and the end leave no trace."""
    spoken = [VOCABULARY.index(w) for w in ("a", "?", "<user>", "c", "<pad>", "b", "<eos>")]
    assert policy.text(spoken).split() == ["a", "?", "c", "b"]
    assert policy.ends == (VOCABULARY.index("<eos>"),)
    assert policy.context >= 64


def test_the_reward_model_is_the_proxy(world, reward, enumerated):
    """The reward model's network computes the closed form, for every answer, to 1e-5."""
    texts = list(dict.fromkeys(enumerated.texts))
    assert len(texts) == 1 + 4 + 16 + 64 + 256
    for chat in CONVERSATIONS:
        found = reward.score([chat] * len(texts), texts)
        wanted = [world.language.proxy(chat, text) for text in texts]
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", ["hh_rlhf", "harmful_qa", "alpaca_eval", "mt_bench"])
def test_the_benchmarks_read_the_items(folder, policy, name):
    """Each benchmark reads eight prompts of known words from the world, and they fit."""
    read = plugins.benchmark(name).read(load_items({"world": name}, folder))
    assert len(read.prompts) == 8
    for prompt in read.prompts:
        words = " ".join([m.text for m in prompt.chat.messages] + list(prompt.turns)).split()
        assert set(words) <= set(VOCABULARY)
        assert len(policy.encode(prompt.chat)) + 4 <= policy.context
    assert all(p.turns for p in read.prompts) == (name == "mt_bench")
    assert all(p.reference for p in read.prompts) == (name in ("hh_rlhf", "alpaca_eval"))


def test_some_dialogues_have_earlier_turns(folder):
    """HH-RLHF prompts include conversations of more than one turn."""
    read = plugins.benchmark("hh_rlhf").read(load_items({"world": "hh_rlhf"}, folder))
    assert {len(p.chat.messages) for p in read.prompts} == {1, 3}


def test_the_pairs_prefer_gold_and_leak_nothing(world, folder):
    """Pairs mostly prefer the answer gold prefers, and share no question with a benchmark."""
    reader = plugins.benchmark("hh_rlhf")
    train = reader.training(load_items({"world": "pairs.train"}, folder))
    dev = reader.training(load_items({"world": "pairs.dev"}, folder))
    assert (len(train), len(dev)) == (96, 32)
    margins = [
        world.gold(p.prompt, p.chosen)["gold"] - world.gold(p.prompt, p.rejected)["gold"]
        for p in train
    ]
    apart = [m for m in margins if m]
    assert sum(m > 0 for m in apart) / len(apart) > 0.65
    for name in ("hh_rlhf", "harmful_qa", "alpaca_eval", "mt_bench"):
        prompts = plugins.benchmark(name).read(load_items({"world": name}, folder)).prompts
        assert not overlap([*train, *dev], prompts)
    assert {p.cluster for p in train}.isdisjoint({p.cluster for p in dev})


def test_the_facts_show_over_optimisation(folder):
    """Tilting to the proxy raises it for ever, while gold rises, falls and misses its best."""
    facts = json.loads((folder / "facts.json").read_text())
    rows = facts["proxy_optimised"]
    proxy, gold = [r["proxy"] for r in rows], [r["gold"] for r in rows]
    assert proxy == sorted(proxy)
    assert max(gold) > gold[0] + 1
    assert gold[-1] < max(gold)
    assert all(r["best_gold"] >= r["gold"] - 1e-9 for r in rows)
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-9)


def test_the_policy_is_far_from_uniform_and_reaches_all_lengths(enumerated):
    """First tokens have well under the uniform entropy, and no length of answer is rare."""
    for tree in enumerated.base:
        first = tree.levels[0][0]
        entropy = -(first.exp() * first).sum().item()
        assert entropy < 0.85 * 2.0794  # log 8
        law = tree.log_law().exp()
        lengths = [len(a) - (a[-1] == 7) for a in enumerated.answers]
        for length in range(5):
            mass = sum(p for p, n in zip(law.tolist(), lengths, strict=True) if n == length)
            assert mass > 0.02
