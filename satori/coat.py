"""Chain of Action Thought (paper section 4): the codec between text and steps, the tokens, the prompt.

A COAT response is a sequence of steps. Each step may open with one meta-action token; a plain chain of thought
is the special case in which no step reflects or explores. Everything that reads or writes meta-actions does so
through this module.

What the codec promises, for any text whatever:

* ``render(parse(text)) == text``;
* ``parse(render(steps)) == steps`` for every sequence that :func:`check_steps` accepts.

What counts as a meta-action is exactly one of the three token strings. A half-finished or misspelt token
(``<|reflec``, ``<|Reflect|>``) is ordinary text. A repeated token opens a step with empty text. Text in which a
model *spelled* a token character by character cannot be told from the special token once decoded, so training
never re-encodes text: rollouts keep the token ids that were sampled.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


class MetaAction(StrEnum):
    """The three meta-actions; the value is the special token's text."""

    CONTINUE = "<|continue|>"
    REFLECT = "<|reflect|>"
    EXPLORE = "<|explore|>"


META_ACTION_TOKENS: tuple[str, ...] = tuple(action.value for action in MetaAction)

# Spoken openers of reflect and explore steps (paper appendix C): what is said first, whatever the review found.
REFLECT_OPENERS = ("Wait.", "Let me check.", "Hold on.")
EXPLORE_OPENERS = ("Try again.", "Another way.", "Let me redo it.")

# The user turn that the released Satori checkpoints and data sets were trained on (paper section 5, "same prompt").
PROMPT_INSTRUCTION = (
    "Solve the following math problem efficiently and clearly. Please reason step by step, and put your final "
    "answer within \\boxed{}.\nProblem: "
)

# Qwen's ChatML without a system turn.
CHATML_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_TOKEN = re.compile("|".join(re.escape(token) for token in META_ACTION_TOKENS))


class TokenizerError(ValueError):
    """A tokenizer does not know the meta-actions."""


@dataclass(frozen=True)
class Step:
    """One reasoning step: the meta-action it opens with (None for the first step of most responses), and its text."""

    action: MetaAction | None
    text: str


def parse(text: str) -> tuple[Step, ...]:
    """Split a response into steps at its meta-action tokens. The empty text has no steps."""
    steps: list[Step] = []
    action, start = None, 0
    for match in _TOKEN.finditer(text):
        if action is not None or match.start() > start:
            steps.append(Step(action, text[start : match.start()]))
        action, start = MetaAction(match.group()), match.end()
    if action is not None or start < len(text):
        steps.append(Step(action, text[start:]))
    return tuple(steps)


def render(steps: Iterable[Step]) -> str:
    """Join steps to the text a model writes: each token directly at the step boundary, nothing added."""
    return "".join((step.action.value if step.action else "") + step.text for step in steps)


def check_steps(steps: Sequence[Step]) -> None:
    """Raise ValueError where steps have no unambiguous text.

    Only the first step may lack an action, and then it must have text; no step's text may hold a complete token.
    """
    for index, step in enumerate(steps):
        if step.action is None and (index > 0 or not step.text):
            raise ValueError(f"step {index} has no meta-action: only a first step with text may lack one")
        if found := _TOKEN.search(step.text):
            raise ValueError(f"step {index} holds the meta-action token {found.group()} inside its text")


def count_actions(text: str) -> Counter[MetaAction]:
    """How often each meta-action occurs in a response; all three are counted, also those that do not occur."""
    found = _TOKEN.findall(text)
    return Counter({action: found.count(action.value) for action in MetaAction})


def searches(text: str) -> bool:
    """True where the response reflects or explores at least once: it is more than a plain chain of thought."""
    return MetaAction.REFLECT in text or MetaAction.EXPLORE in text


def strip_actions(text: str) -> str:
    """The response without its meta-action tokens."""
    return _TOKEN.sub("", text)


def prompt_messages(question: str) -> list[dict[str, str]]:
    """The one user turn in which every problem is asked."""
    return [{"role": "user", "content": PROMPT_INSTRUCTION + question}]


def render_prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """The prompt text up to and with the assistant header; the response follows directly.

    A model that does not know ChatML's tokens but has a chat template of its own is asked in its own.
    """
    unknown = tokenizer.convert_tokens_to_ids("<|im_start|>") in (None, tokenizer.unk_token_id)
    template = tokenizer.chat_template if unknown and tokenizer.chat_template else CHATML_TEMPLATE
    return str(
        tokenizer.apply_chat_template(
            prompt_messages(question), chat_template=template, tokenize=False, add_generation_prompt=True
        )
    )


def encode_prompt(tokenizer: PreTrainedTokenizerBase, question: str, prefix: str = "") -> list[int]:
    """Token ids of the prompt, followed by the start of a response where a restart needs one."""
    return list(tokenizer.encode(render_prompt(tokenizer, question) + prefix, add_special_tokens=False))


def meta_action_ids(tokenizer: PreTrainedTokenizerBase) -> dict[MetaAction, int]:
    """The token id of each meta-action.

    Raises TokenizerError where the tokenizer would split one into pieces.
    """
    ids = {}
    for action in MetaAction:
        pieces = tokenizer.encode(action.value, add_special_tokens=False)
        if len(pieces) != 1:
            raise TokenizerError(
                f"the tokenizer splits {action.value} into {len(pieces)} tokens; add the meta-actions first "
                "(satori tune does, or satori.coat.add_meta_actions)"
            )
        ids[action] = pieces[0]
    return ids


def add_meta_action_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Add to a tokenizer the meta-actions that it does not have; returns those."""
    missing = [token for token in META_ACTION_TOKENS if token not in tokenizer.get_vocab()]
    tokenizer.add_special_tokens({"additional_special_tokens": missing}, replace_extra_special_tokens=False)
    return missing


def add_meta_actions(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Add the meta-actions to a tokenizer and a model in place (paper D.2); returns the ids of the new tokens.

    Each new row of the input embeddings, and of the output head where that is a matrix of its own, starts at the
    row of the action's word ("reflect"), or at the mean of the vocabulary so far where that word is not one token.
    From the mean a few dozen steps teach the actions badly: what raises the mean raises every token (LOG.md,
    2026-11-28). Tokens that are present already are left as they are. The vocabulary matrix grows only where it has
    no spare rows (many checkpoints are padded to a round size). The tokenizer's chat template becomes the one the
    model is trained with from here on: ChatML without a system turn (Qwen2.5's own would slip one in).
    """
    old_size = len(tokenizer)
    missing = add_meta_action_tokens(tokenizer)
    tokenizer.chat_template = CHATML_TEMPLATE
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:  # type: ignore[index]
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    new_ids = [int(tokenizer.convert_tokens_to_ids(token)) for token in missing]  # type: ignore[arg-type]
    matrices: dict[int, Any] = {
        id(m.weight): m for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None
    }
    words = [tokenizer.encode(f" {token.strip('<|>')}", add_special_tokens=False) for token in missing]
    with torch.no_grad():
        for matrix in matrices.values():
            for new_id, word in zip(new_ids, words, strict=True):
                alike = word if len(word) == 1 and word[0] != tokenizer.unk_token_id else slice(old_size)
                matrix.weight[new_id] = matrix.weight[alike].mean(dim=0)
                if getattr(matrix, "bias", None) is not None:
                    matrix.bias[new_id] = matrix.bias[alike].mean()
    return new_ids
