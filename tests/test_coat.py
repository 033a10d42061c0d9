"""The codec, the meta-action tokens and the prompt (satori.coat)."""

import itertools

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedTokenizerFast,
)

from satori.coat import (
    META_ACTION_TOKENS,
    MetaAction,
    Step,
    add_meta_actions,
    check_steps,
    count_actions,
    encode_prompt,
    meta_action_ids,
    parse,
    render,
    render_prompt,
    searches,
    strip_actions,
)
from satori.tiny_model import build_model, build_tokenizer

CONTINUE, REFLECT, EXPLORE = MetaAction.CONTINUE, MetaAction.REFLECT, MetaAction.EXPLORE

FRAGMENTS = (
    *META_ACTION_TOKENS,
    "<|",
    "|>",
    "<",
    "|",
    ">",
    "<|reflec",
    "reflect|>",
    "<|Reflect|>",
    "explore",
    " ",
    "\n",
    "x",
    "é",
)
texts = st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
steps_of_any_kind = st.lists(st.builds(Step, st.sampled_from([None, *MetaAction]), texts), max_size=6).map(tuple)


# --- codec ---


@given(texts)
@example("<|reflect|><|reflect|>")
@example("<|reflect<|reflect|>|>")
@example("<|continue|><|explor")
def test_render_undoes_parse_for_any_text(text):
    assert render(parse(text)) == text


@given(steps_of_any_kind)
def test_check_steps_accepts_exactly_what_parse_gives_back(steps):
    try:
        check_steps(steps)
    except ValueError:
        assert parse(render(steps)) != steps
    else:
        assert parse(render(steps)) == steps


@given(texts)
def test_parse_gives_steps_that_check_steps_accepts(text):
    check_steps(parse(text))


def test_parse_of_the_papers_form():
    text = "step one<|continue|> step two<|reflect|> Wait.<|explore|> Let me"
    assert parse(text) == (
        Step(None, "step one"),
        Step(CONTINUE, " step two"),
        Step(REFLECT, " Wait."),
        Step(EXPLORE, " Let me"),
    )


def test_the_empty_text_has_no_steps():
    assert parse("") == ()


def test_a_text_that_opens_with_a_token_has_no_step_before_it():
    assert parse("<|reflect|>hm") == (Step(REFLECT, "hm"),)


def test_a_repeated_token_opens_an_empty_step():
    assert parse("a<|reflect|><|reflect|>b") == (Step(None, "a"), Step(REFLECT, ""), Step(REFLECT, "b"))


@pytest.mark.parametrize("text", ["<|reflec", "reflect|>", "<|Reflect|>", "<| reflect |>", "<|reflect|", "<|retry|>"])
def test_an_unfinished_or_misspelt_token_is_text(text):
    assert parse(text) == (Step(None, text),)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Step(None, "")], "step 0"),
        ([Step(None, "a"), Step(None, "b")], "step 1"),
        ([Step(None, "a"), Step(REFLECT, "b<|explore|>c")], r"step 1 .*<\|explore\|>"),
        ([Step(None, "<|continue|>")], r"step 0 .*<\|continue\|>"),
    ],
)
def test_check_steps_names_the_step_it_rejects(steps, message):
    with pytest.raises(ValueError, match=message):
        check_steps(steps)


def test_check_steps_accepts_a_first_step_with_a_token_and_empty_later_steps():
    check_steps([Step(REFLECT, ""), Step(CONTINUE, "")])


def test_count_actions():
    text = "a<|reflect|><|reflect|>b<|explore|><|continu"
    assert count_actions(text) == {CONTINUE: 0, REFLECT: 2, EXPLORE: 1}


@pytest.mark.parametrize(
    ("text", "expected"), [("a<|continue|>b", False), ("a<|reflect|>", True), ("<|explore|>", True), ("reflect", False)]
)
def test_a_response_searches_where_it_reflects_or_explores(text, expected):
    assert searches(text) is expected


def test_strip_actions_leaves_the_rest_as_it_stands():
    assert strip_actions("a<|continue|> b<|reflect|>\nc <|reflec") == "a b\nc <|reflec"


# --- tokens ---


def random_llama(vocabulary: int, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=tied,
        )
    )


def test_new_rows_of_a_tied_model_are_the_mean_of_the_old_rows():
    tokenizer = build_tokenizer()
    model = random_llama(len(tokenizer), tied=True)
    old = model.get_input_embeddings().weight.detach().clone()
    new_ids = add_meta_actions(model, tokenizer)
    weight = model.get_input_embeddings().weight
    assert new_ids == [len(old), len(old) + 1, len(old) + 2]
    torch.testing.assert_close(weight[: len(old)], old, rtol=0, atol=0)
    torch.testing.assert_close(weight[new_ids], old.mean(0).expand(3, -1))


@pytest.mark.parametrize("unknown", [False, True])
def test_an_action_whose_word_is_a_token_starts_as_that_word(unknown):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([" reflect", " continue"])
    if unknown:
        tokenizer.unk_token = " continue"
    model = random_llama(len(tokenizer), tied=False)
    head = model.get_output_embeddings()
    old_in, old_out = model.get_input_embeddings().weight.detach().clone(), head.weight.detach().clone()
    add_meta_actions(model, tokenizer)
    ids, words = meta_action_ids(tokenizer), tokenizer.convert_tokens_to_ids([" reflect", " continue"])
    head = model.get_output_embeddings()
    for weight, old in ((model.get_input_embeddings().weight, old_in), (head.weight, old_out)):
        torch.testing.assert_close(weight[ids[REFLECT]], old[words[0]], rtol=0, atol=0)
        torch.testing.assert_close(weight[ids[CONTINUE]], old.mean(0) if unknown else old[words[1]])
        torch.testing.assert_close(weight[ids[EXPLORE]], old.mean(0))


def test_tied_matrices_stay_tied():
    tokenizer = build_tokenizer()
    model = random_llama(len(tokenizer), tied=True)
    add_meta_actions(model, tokenizer)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight.shape[0] == len(tokenizer)


def test_an_untied_head_gets_the_mean_of_its_own_rows():
    tokenizer = build_tokenizer()
    model = random_llama(len(tokenizer), tied=False)
    old_in = model.get_input_embeddings().weight.detach().clone()
    old_out = model.get_output_embeddings().weight.detach().clone()
    new_ids = add_meta_actions(model, tokenizer)
    torch.testing.assert_close(model.get_input_embeddings().weight[new_ids], old_in.mean(0).expand(3, -1))
    torch.testing.assert_close(model.get_output_embeddings().weight[new_ids], old_out.mean(0).expand(3, -1))
    torch.testing.assert_close(model.get_output_embeddings().weight[: len(old_out)], old_out, rtol=0, atol=0)


def test_a_head_with_a_bias_gets_the_mean_of_its_biases():
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    model = PhiForCausalLM(
        PhiConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=False,
        )
    )
    with torch.no_grad():
        model.lm_head.bias.normal_()
    old = model.lm_head.bias.detach().clone()
    new_ids = add_meta_actions(model, tokenizer)
    torch.testing.assert_close(model.lm_head.bias[new_ids], old.mean().expand(3))
    torch.testing.assert_close(model.lm_head.bias[: len(old)], old, rtol=0, atol=0)


def test_spare_rows_are_used_before_the_matrix_grows():
    tokenizer = build_tokenizer()
    used = len(tokenizer)
    model = random_llama(used + 10, tied=True)
    old = model.get_input_embeddings().weight.detach().clone()
    new_ids = add_meta_actions(model, tokenizer)
    weight = model.get_input_embeddings().weight
    assert weight.shape[0] == used + 10
    assert new_ids == [used, used + 1, used + 2]
    torch.testing.assert_close(weight[new_ids], old[:used].mean(0).expand(3, -1))  # the spare rows are no vocabulary
    torch.testing.assert_close(weight[used + 3 :], old[used + 3 :], rtol=0, atol=0)


def test_too_few_spare_rows_make_the_matrix_grow_to_the_vocabulary():
    tokenizer = build_tokenizer()
    model = random_llama(len(tokenizer) + 1, tied=True)
    add_meta_actions(model, tokenizer)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == model.config.vocab_size


def test_adding_twice_changes_nothing():
    tokenizer = build_tokenizer()
    model = random_llama(len(tokenizer), tied=True)
    add_meta_actions(model, tokenizer)
    ids, weight = meta_action_ids(tokenizer), model.get_input_embeddings().weight.detach().clone()
    assert add_meta_actions(model, tokenizer) == []
    assert meta_action_ids(tokenizer) == ids
    torch.testing.assert_close(model.get_input_embeddings().weight, weight, rtol=0, atol=0)


def test_a_token_that_is_there_already_keeps_its_trained_row():
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|reflect|>"]}, replace_extra_special_tokens=False)
    model = random_llama(len(tokenizer), tied=True)
    reflect = tokenizer.convert_tokens_to_ids("<|reflect|>")
    row = model.get_input_embeddings().weight[reflect].detach().clone()
    assert len(add_meta_actions(model, tokenizer)) == 2
    torch.testing.assert_close(model.get_input_embeddings().weight[reflect], row, rtol=0, atol=0)


def test_the_tokenizers_own_special_tokens_stay_special():
    tokenizer = build_tokenizer()
    add_meta_actions(random_llama(len(tokenizer), tied=True), tokenizer)
    ids = tokenizer.encode("<|im_start|>a<|reflect|><|im_end|>", add_special_tokens=False)
    assert len(ids) == 4
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a"


def test_a_saved_model_loads_with_plain_transformers(tmp_path):
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, hidden_size=32, layers=2, heads=2, seed=0).eval()
    add_meta_actions(model, tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, again = AutoModelForCausalLM.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)

    assert meta_action_ids(again) == meta_action_ids(tokenizer)
    assert again.eos_token_id == tokenizer.eos_token_id
    ids = encode_prompt(again, "1 + 1", "a<|reflect|>b")
    assert ids == encode_prompt(tokenizer, "1 + 1", "a<|reflect|>b")
    with torch.no_grad():
        torch.testing.assert_close(loaded(torch.tensor([ids])).logits, model(torch.tensor([ids])).logits)


def test_a_tokenizer_without_the_tokens_is_refused():
    with pytest.raises(ValueError, match=r"splits <\|continue\|> into 12 tokens"):
        meta_action_ids(build_tokenizer())


def bpe_tokenizer() -> PreTrainedTokenizerFast:
    """A character BPE that knows nothing of bytes, with merges."""
    core = Tokenizer(models.BPE(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    corpus = ["the sum of two numbers is a number", "wait let me check the sum again", "<|im_start|> user assistant |>"]
    core.train_from_iterator(
        corpus * 3, trainers.BpeTrainer(vocab_size=120, special_tokens=["[UNK]", "[EOS]", "[PAD]"])
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", eos_token="[EOS]", pad_token="[PAD]")


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    words = ["[UNK]", "[EOS]", "[PAD]", "the", "sum", "is", "wrong", "wait", "2", "3"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", eos_token="[EOS]", pad_token="[PAD]")


@pytest.mark.parametrize("build", [bpe_tokenizer, word_tokenizer])
def test_any_fast_tokenizer_can_carry_the_meta_actions(build):
    tokenizer = build()
    model = random_llama(len(tokenizer), tied=True)
    add_meta_actions(model, tokenizer)
    ids = meta_action_ids(tokenizer)
    assert len(set(ids.values())) == 3
    response = "the sum is 2<|continue|> the sum<|reflect|>wait wrong<|explore|><|explore|> 3"
    encoded = tokenizer.encode(response, add_special_tokens=False)
    assert [i for i in encoded if i in ids.values()] == [ids[s.action] for s in parse(response) if s.action]
    assert [s.action for s in parse(tokenizer.decode(encoded))] == [s.action for s in parse(response)]


@pytest.mark.parametrize("build", [bpe_tokenizer, word_tokenizer])
def test_a_tokenizer_without_a_chat_template_gets_one(build):
    tokenizer = build()
    assert tokenizer.chat_template is None
    add_meta_actions(random_llama(len(tokenizer), tied=True), tokenizer)
    assert render_prompt(tokenizer, "the sum") == CHATML.format(question="the sum")


def test_the_saved_chat_template_is_the_one_trained_with():
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "another"
    add_meta_actions(random_llama(len(tokenizer), tied=True), tokenizer)
    messages = [{"role": "user", "content": "hello"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<|im_start|>user\nhello<|im_end|>\n"


# --- prompt ---

# Spelled out from section 1 of the facts of the paper, not taken from the module.
CHATML = (
    "<|im_start|>user\nSolve the following math problem efficiently and clearly. Please reason step by step, and put "
    "your final answer within \\boxed{{}}.\nProblem: {question}<|im_end|>\n<|im_start|>assistant\n"
)


def test_the_prompt_is_one_chatml_user_turn(tokenizer):
    assert render_prompt(tokenizer, "What is 2 + {3}?") == CHATML.format(question="What is 2 + {3}?")


@pytest.mark.parametrize("prefix", ["", "a = 1<|continue|> b<|reflect|>"])
def test_encoded_prompts_decode_to_prompt_and_prefix(tokenizer, prefix):
    ids = encode_prompt(tokenizer, "2 + 3", prefix)
    assert tokenizer.decode(ids) == CHATML.format(question="2 + 3") + prefix


def test_a_prefix_adds_ids_after_those_of_the_prompt(tokenizer):
    plain, restarted = encode_prompt(tokenizer, "2 + 3"), encode_prompt(tokenizer, "2 + 3", "x<|reflect|>")
    assert restarted[: len(plain)] == plain
    assert restarted[-1] == meta_action_ids(tokenizer)[REFLECT]


@given(texts)
def test_the_embedded_tokenizer_reads_and_writes_any_text_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


# What Qwen2.5 checkpoints do when they are given no system turn.
QWEN_LIKE_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_no_system_turn_with_a_template_that_adds_one_by_default():
    tokenizer = build_tokenizer()
    tokenizer.chat_template = QWEN_LIKE_TEMPLATE
    add_meta_actions(random_llama(len(tokenizer), tied=True), tokenizer)
    assert render_prompt(tokenizer, "2 + 3") == CHATML.format(question="2 + 3")


def test_the_three_tokens_share_no_text():
    for one, other in itertools.permutations(META_ACTION_TOKENS, 2):
        assert one not in other
