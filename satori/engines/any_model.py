"""Any model by name, with whichever engine the user asks for: what ``satori evaluate --model`` and ``chat`` open."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from transformers import GenerationConfig, PreTrainedTokenizerBase

from satori.coat import META_ACTION_TOKENS
from satori.config import Settings
from satori.engines.base import StreamingEngine
from satori.engines.server import ApiForm, ServerEngine, ServerEngineSettings
from satori.engines.stopping import stop_ids
from satori.engines.torch_engine import TorchEngine
from satori.engines.vllm_engine import VllmEngine, VllmSettings
from satori.models import (
    TorchType,
    any_context_length,
    config_context_length,
    load_any_policy,
    load_any_tokenizer,
)
from satori.tiny_model import build_tokenizer


class AnyModel(Settings):
    """A model and how to run it."""

    model_config = ConfigDict(hide_input_in_errors=True)  # an address may hold a password by mistake

    model: str = Field(min_length=1)
    """A checkpoint folder or a hub id; with `server`, the model's name there."""
    engine: Literal["torch", "vllm"] = "torch"
    """What runs it here: the embedded sampler, or vLLM."""
    server: str = ""
    """The address of an OpenAI-compatible server that runs it instead, such as http://localhost:8000/v1."""
    api: ApiForm = ApiForm.COMPLETION_IDS
    """How to ask the server: `completion-ids` (vLLM, SGLang, llama.cpp), `completion-text`, or `chat`."""
    tokenizer: str = ""
    """Of a model on a server: a checkpoint folder or hub id, where it is not the model's name. With the chat API none
    is needed; lengths are then counted in bytes."""
    key_variable: str = Field(default="OPENAI_API_KEY", min_length=1)
    """The environment variable that holds the server's key."""
    concurrency: int = Field(default=256, gt=0)
    """Requests in flight at a time."""
    dtype: TorchType = "auto"
    rows: int = Field(default=64, gt=0)
    """Sequences generated at a time."""
    vllm: VllmSettings = VllmSettings()
    """How vLLM runs; `rows` stands for its `max_num_seqs`, and `dtype` for its own unless that is `auto`."""
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.server:
            self.server_settings()
        elif self.tokenizer:
            raise ValueError("a tokenizer of its own is for models on a server")
        return self

    def server_settings(self) -> ServerEngineSettings:
        """How to ask the server. Raises ValueError where its address is none."""
        try:
            return ServerEngineSettings(
                url=self.server,
                model=self.model,
                api=self.api,
                key_variable=self.key_variable,
                concurrency=self.concurrency,
                logprobs=False,
            )
        except ValidationError as error:
            raise ValueError(f"--server: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


@dataclass(frozen=True)
class OpenModel:
    """A model that is ready to be asked."""

    engine: StreamingEngine
    tokenizer: PreTrainedTokenizerBase
    context_length: int | None


@contextmanager
def open_model(asked: AnyModel) -> Iterator[OpenModel]:
    """The model, ready. Raises ArtifactError, EngineError or ServerError saying what to do."""
    if asked.server:
        yield _on_server(asked)
        return
    if asked.engine == "torch":
        model, tokenizer = load_any_policy(asked.model, asked.trust_remote_code, asked.dtype)
        first, *others = stop_ids(model.generation_config, tokenizer)
        sampler = TorchEngine(model, first, asked.rows, others)
        yield OpenModel(sampler, tokenizer, config_context_length(model.config))
        return
    tokenizer = load_any_tokenizer(asked.model, asked.trust_remote_code)
    first, *others = stop_ids(_generation_config(asked.model), tokenizer)
    dtype = asked.vllm.dtype if asked.dtype == "auto" else asked.dtype
    settings = asked.vllm.model_copy(update={"dtype": dtype, "max_num_seqs": asked.rows})
    length = settings.max_model_len or any_context_length(asked.model, asked.trust_remote_code)
    with VllmEngine(asked.model, first, settings, others, asked.trust_remote_code) as engine:
        yield OpenModel(engine, tokenizer, length)


def _on_server(asked: AnyModel) -> OpenModel:
    named = asked.tokenizer or ("" if asked.api is ApiForm.CHAT else asked.model)
    if named:
        tokenizer = load_any_tokenizer(named, asked.trust_remote_code)
    else:
        tokenizer = build_tokenizer()
        tokenizer.add_tokens(list(META_ACTION_TOKENS))
    _, *others = stop_ids(_generation_config(named) if named else None, tokenizer)
    engine = ServerEngine(asked.server_settings(), tokenizer, others)
    return OpenModel(engine, tokenizer, engine.context_length())


def _generation_config(name: str) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(name)
    except OSError:  # many checkpoints have none
        return None
