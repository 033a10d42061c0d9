"""The embedded model: a Qwen2 of under a million parameters that reads characters.

Small enough to train on a laptop, and an ordinary Hugging Face checkpoint in every other respect: transformers,
TRL and vLLM load it as they load Qwen2.5.
"""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed

from satori.coat import CHATML_TEMPLATE, PROMPT_INSTRUCTION

END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that any text can be encoded and decoded exactly.

    The fixed parts of the prompt are one token each: a model that reads characters should not spend 150 of them on
    an instruction that never changes.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.add_tokens([PROMPT_INSTRUCTION, "assistant\n", "user\n"])
    tokenizer.chat_template = CHATML_TEMPLATE
    return tokenizer


def build_model(
    tokenizer: PreTrainedTokenizerFast, hidden_size: int, layers: int, heads: int, seed: int
) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 with tied embeddings, an MLP three times as wide as the hidden state, and one
    key-value head (the cache, not the arithmetic, is what sampling from a small model waits for)."""
    set_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        use_cache=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)
