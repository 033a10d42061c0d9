"""Tiny random checkpoints that vLLM can run, and what transformers says about them."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from satori.engines.base import Sampling, generate_all
from satori.engines.vllm_engine import VllmSettings

VOCABULARY, CONTEXT, EOS = 43, 1024, 1  # vLLM pads vocabularies: this one is not round
PROMPTS = [[5, 6, 7], [8] * 20]
SETTINGS = VllmSettings(kv_cache_gib=0.1, max_num_seqs=8)
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "eos_token_id": EOS,
    "bos_token_id": None,
}


def make_model(kind: str = "qwen2", seed: int = 0) -> PreTrainedModel:
    """A random model: qwen2 has biases and a head of its own, tied-qwen2 biases only, tied-llama neither."""
    torch.manual_seed(seed)
    if kind == "tied-llama":
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**_SHAPE, tie_word_embeddings=True))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**_SHAPE, tie_word_embeddings=kind == "tied-qwen2"))
    return perturb(model, seed).eval()


def perturb(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Change every weight, also those that a fresh model has at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def wrong_by(model, prompts, completions, temperature=1.0):
    """Mean distance of the completions' log-probabilities from those of the model, one forward pass a sequence."""
    found = []
    for prompt, completion in zip(prompts, completions, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *completion.token_ids]])).logits[0]
        expected = (logits / temperature).log_softmax(-1)
        for i, token in enumerate(completion.token_ids):
            found.append(abs(completion.logprobs[i] - expected[len(prompt) - 1 + i, token].item()))
    return sum(found) / len(found)


def wrong(engine, model, prompts=PROMPTS):
    """``wrong_by`` of what an engine samples after these prompts."""
    return wrong_by(model, prompts, generate_all(engine, prompts, Sampling(max_new_tokens=20), 0))
