"""The authors' released models and data, in their formats, through the stages that take them (paper section 6, 12)."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BioGptConfig,
    BioGptForSequenceClassification,
    GenerationConfig,
    GPT2Config,
    GPT2ForSequenceClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)

from satori.cli import main
from satori.coat import META_ACTION_TOKENS, encode_prompt, meta_action_ids
from satori.engines.stopping import stop_ids
from satori.models import load_any_reward_model, load_policy, load_reward_model, load_tokenizer, save
from satori.run_folder import ArtifactError, read_jsonl, write_jsonl
from satori.scoring import make_batch, reward_logits, sequence_scores
from satori.tiny_model import build_tokenizer

PROMPT = (
    "<|im_start|>user\nSolve the following math problem efficiently and clearly. Please reason step by step, and put "
    "your final answer within \\boxed{{}}.\nProblem: {}<|im_end|>\n<|im_start|>assistant\n"
)


def tokenizer_of_theirs():
    """As Qwen2.5's base models come: the end of a document ends and pads; the meta-actions are added."""
    tokenizer = build_tokenizer()
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    tokenizer.add_special_tokens({"additional_special_tokens": list(META_ACTION_TOKENS)})
    return tokenizer


def config(tokenizer, **other):
    """The vocabulary is padded beyond the tokenizer's, the head is not tied."""
    return Qwen2Config(
        vocab_size=len(tokenizer) + 13,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        **other,
    )


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder with a policy, a reward model whose head is called value_head, demonstrations and initial states."""
    folder, tokenizer = tmp_path_factory.mktemp("released"), tokenizer_of_theirs()
    torch.manual_seed(0)
    policy = Qwen2ForCausalLM(config(tokenizer))
    policy.save_pretrained(folder / "policy")
    tokenizer.save_pretrained(folder / "policy")
    reward_model = Qwen2ForSequenceClassification(config(tokenizer, num_labels=1))
    reward_model.save_pretrained(folder / "rm")
    tokenizer.save_pretrained(folder / "rm")
    weights = load_file(folder / "rm" / "model.safetensors")
    weights["value_head.weight"] = weights.pop("score.weight")
    save_file(weights, folder / "rm" / "model.safetensors", metadata={"format": "pt"})
    said = json.loads((folder / "rm" / "config.json").read_text())
    said |= {"value_head_prefix": "value_head", "mean": 0.3, "std": 2.0, "architectures": ["RewardModel"]}
    del said["id2label"], said["label2id"]  # their config says nothing of labels
    (folder / "rm" / "config.json").write_text(json.dumps(said))
    wrong, right = "2+3=6.<|reflect|>", "2+3=5. \\boxed{5}<|reflect|>"
    write_jsonl(
        folder / "rl.jsonl",
        [
            {"query": PROMPT.format("2+3=?") + prefix, "answer": "5", "reflect_status": status}
            for prefix, status in (("", 0), (right, 1), (wrong, -1))
        ],
    )
    write_jsonl(
        folder / "ft.jsonl",
        [{"query": PROMPT.format("2+3=?"), "response": f"{wrong} Wait.<|explore|> 2+3=5. \\boxed{{5}}", "type": "x"}],
    )
    return folder, reward_model


def test_their_head_is_read_under_its_own_name(released):
    folder, original = released
    model, _ = load_any_reward_model(str(folder / "rm"))
    sequences = [([5, 6], [7, 8, 9]), ([3], [4])]
    found = reward_logits(model, sequences)
    assert found == pytest.approx(reward_logits(original.eval(), sequences), abs=1e-6)
    batch = make_batch(sequences)
    hidden = original.model(batch.ids_BT).last_hidden_state
    last = torch.stack([hidden[0, 4], hidden[1, 1]])
    torch.testing.assert_close(sequence_scores(model, batch), (last @ original.score.weight.T)[:, 0])


def test_a_reward_model_without_a_trained_head_is_refused(released):
    folder, _ = released
    with pytest.raises(ArtifactError, match=r"is no reward model: it has no weights for score\.weight"):
        load_any_reward_model(str(folder / "policy"))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda t: Qwen2ForSequenceClassification(config(t, num_labels=2)), r"score\.weight has the shape \(2, 32\)"),
        (
            lambda t: BertForSequenceClassification(
                BertConfig(vocab_size=len(t), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, num_labels=1)
            ),
            "BertForSequenceClassification has no head called score",
        ),
    ],
)
def test_a_classifier_that_is_no_reward_model_is_refused(tmp_path, made, words):
    tokenizer = tokenizer_of_theirs()
    made(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match=rf"is no reward model.*: {words}"):
        load_any_reward_model(str(tmp_path))


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        (GPT2ForSequenceClassification, GPT2Config(n_embd=8, n_layer=1, n_head=1)),
        (
            BioGptForSequenceClassification,
            BioGptConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8),
        ),
    ],
)
def test_a_reward_model_of_another_architecture_has_no_dropout_either(tmp_path, architecture, config):
    tokenizer = tokenizer_of_theirs()
    config.update({"vocab_size": len(tokenizer), "num_labels": 1, "pad_token_id": tokenizer.pad_token_id})
    architecture(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for model in (load_any_reward_model(str(tmp_path))[0], load_reward_model(tmp_path)):
        for module in model.modules():
            rates = [getattr(module, name, 0.0) for name in ("p", "dropout", "activation_dropout", "layerdrop")]
            assert not any(rate for rate in rates if isinstance(rate, float))


def test_end_tokens_are_those_of_tokenizer_generation_config_and_chat():
    tokenizer = tokenizer_of_theirs()
    document, turn = (tokenizer.convert_tokens_to_ids(t) for t in ("<|endoftext|>", "<|im_end|>"))
    assert stop_ids(None, tokenizer) == (document, turn)
    assert stop_ids(GenerationConfig(eos_token_id=[7, document]), tokenizer) == (document, 7, turn)
    assert stop_ids(GenerationConfig(eos_token_id=9), tokenizer) == (document, 9, turn)


def test_their_policy_is_evaluated(released, tmp_path, capsys):
    folder, _ = released
    arguments = ["evaluate", "--model", str(folder / "policy"), "--benchmarks", "tiny", "--limit", "3"]
    assert main([*arguments, "--max-new-tokens", "8", "--out", str(tmp_path / "out")]) == 0
    assert len(list(read_jsonl(tmp_path / "out" / "responses.jsonl"))) == 3
    assert "is evaluated as an ordinary model" not in capsys.readouterr().err


def test_an_evaluation_is_scored_by_their_reward_model_in_its_own_tokens(released, tmp_path):
    folder, original = released
    tokenizer = build_tokenizer()  # the policy's: without meta-actions
    save(Qwen2ForCausalLM(config(tokenizer)), tokenizer, tmp_path / "plain")
    out, arguments = tmp_path / "out", ["evaluate", "--model", str(tmp_path / "plain"), "--benchmarks", "tiny"]
    arguments += ["--limit", "2", "--max-new-tokens", "8", "--reward-model", str(folder / "rm")]
    assert main([*arguments, "--out", str(out)]) == 0
    theirs = load_tokenizer(folder / "rm")
    rows = list(read_jsonl(out / "responses.jsonl"))
    sequences = [
        (encode_prompt(theirs, row["question"]), theirs.encode(row["response"], add_special_tokens=False))
        for row in rows
    ]
    assert [row["score"] for row in rows] == pytest.approx(reward_logits(original.eval(), sequences), abs=1e-5)
    refused = [*arguments[:-1], str(folder / "policy"), "--out", str(tmp_path / "other")]
    assert main(refused) == 2


def test_an_ordinary_model_is_said_to_be_one(tmp_path, capsys):
    tokenizer = build_tokenizer()
    save(Qwen2ForCausalLM(config(tokenizer)), tokenizer, tmp_path / "plain")
    arguments = ["evaluate", "--model", str(tmp_path / "plain"), "--benchmarks", "tiny", "--limit", "1"]
    assert main([*arguments, "--max-new-tokens", "2", "--out", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "is evaluated as an ordinary model: the tokenizer splits <|continue|>" in said


RECIPE = """
threads: 1
synthesis: {{released: {{path: {folder}/ft.jsonl}}, demonstrations: 1}}
tune: {{checkpoint: {folder}/policy}}
reward_model: {{checkpoint: {folder}/rm, samples: 2, test_problems: 2, max_new_tokens: 8}}
restarts: {{released: {{path: {folder}/rl.jsonl}}}}
rl: {{steps: 1, rollouts_per_step: 6, batch_size: 6, max_new_tokens: 8, validation_problems: 1}}
"""


def test_reinforcement_learning_runs_from_their_models_and_data(released, tmp_path):
    folder, _ = released
    recipe, out = tmp_path / "theirs.yaml", tmp_path / "run"
    recipe.write_text(RECIPE.format(folder=folder))
    for command in ("pretrain", "synthesize", "tune", "reward-model", "restarts", "rl"):
        assert main([command, "--recipe", str(recipe), "--out", str(out)]) == 0
    [demonstration] = read_jsonl(out / "synthesis" / "demonstrations.jsonl")
    assert demonstration["kind"] == "III-I" and demonstration["question"] == "2+3=?"
    tuned = load_tokenizer(out / "format_tuned")
    assert (tuned.eos_token, tuned.pad_token) == ("<|im_end|>", "<|endoftext|>") and len(meta_action_ids(tuned)) == 3
    samples = list(read_jsonl(out / "rl_1" / "samples.jsonl"))
    assert {sample["start"] for sample in samples} <= {"problem", "positive", "negative"}
    assert any(sample["prefix"].endswith("<|reflect|>") for sample in samples)
    before, after = load_policy(out / "format_tuned"), load_policy(out / "rl_1")
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_a_reward_model_is_not_taken_for_a_policy(released, tmp_path, capsys):
    recipe, out = tmp_path / "theirs.yaml", tmp_path / "run"
    recipe.write_text(RECIPE.format(folder=released[0]))
    changed = ["--recipe", str(recipe), "--out", str(out), "--tune.checkpoint", str(released[0] / "rm")]
    assert [main([command, *changed]) for command in ("pretrain", "synthesize", "tune")] == [0, 0, 2]
    assert "rm is no causal language model: it has no weights for lm_head.weight" in capsys.readouterr().err


def test_a_policy_without_meta_actions_is_not_taken_for_a_tuned_one(released, tmp_path, capsys):
    tokenizer = build_tokenizer()
    save(Qwen2ForCausalLM(config(tokenizer)), tokenizer, tmp_path / "plain")
    recipe, out = tmp_path / "theirs.yaml", tmp_path / "run"
    recipe.write_text(RECIPE.format(folder=released[0]))
    changed = ["--recipe", str(recipe), "--out", str(out), "--tune.checkpoint", str(tmp_path / "plain")]
    assert [main([command, *changed]) for command in ("pretrain", "synthesize", "tune")] == [0, 0, 2]
    assert "is not format-tuned: the tokenizer splits <|continue|>" in capsys.readouterr().err
