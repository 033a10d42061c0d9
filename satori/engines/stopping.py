"""What ends a response: the same end tokens for every engine."""

from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from satori.run_folder import ArtifactError

_END_OF_TURN = "<|im_end|>"


def stop_ids(config: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The end tokens of a model, each once: the tokenizer's own, its generation config's, and the end of a turn in
    ChatML where the tokenizer knows it (a base model's own end token is that of a document, but prompts are turns).

    Raises ArtifactError where there is none.
    """
    given: Any = getattr(config, "eos_token_id", None)
    listed = given if isinstance(given, list | tuple) else [given]
    found = [tokenizer.eos_token_id, *listed, tokenizer.get_vocab().get(_END_OF_TURN)]
    ids = tuple(dict.fromkeys(i for i in found if isinstance(i, int)))
    if not ids:
        raise ArtifactError(
            f"neither the tokenizer of {tokenizer.name_or_path} nor its model names an end token: set eos_token in its "
            "tokenizer_config.json"
        )
    return ids
