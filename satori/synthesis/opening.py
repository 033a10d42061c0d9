"""The agents of a recipe, ready to be asked: on servers, in this process, or symbolic."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from transformers import PreTrainedTokenizerBase

from satori.config import derive_seed
from satori.engines.any_model import AnyModel, open_model
from satori.engines.base import Engine, EngineError, Sampling
from satori.engines.http_client import ConnectionSettings, HttpClient, Traffic
from satori.engines.opening import EngineKind, context_limit
from satori.models import load_any_reward_model, load_any_tokenizer, load_policy, load_tokenizer
from satori.run_folder import ArtifactError
from satori.stage import StageContext
from satori.synthesis.agent_settings import ChatPlace, CriticKind, GeneratorKind, RewardKind
from satori.synthesis.agents import Agents, Critic, Generator, RewardModel
from satori.synthesis.batching import Batcher, Batches
from satori.synthesis.claim_critic import ClaimCritic
from satori.synthesis.embedded import ColumnCritic, LikelihoodReward, SampledGenerator
from satori.synthesis.llm.agents import LLMCritic, LLMGenerator
from satori.synthesis.llm.chats import Chat, EngineChat, ServerChat
from satori.synthesis.llm.reward import ClassifierReward, ServerReward


@asynccontextmanager
async def open_agents(context: StageContext) -> AsyncIterator[Agents]:
    """The agents. Raises ArtifactError, EngineError or ServerError where one cannot work."""
    if len(context.recipe.synthesis.models_here()) > 1 and context.recipe.engine.kind is EngineKind.VLLM:
        raise EngineError(
            "synthesis: generator and critic are two models here, and vLLM runs one in a process: put one on a server "
            "(synthesis.critic.server), or give --engine torch"
        )
    async with AsyncExitStack() as stack:
        batches = Batches(derive_seed(context.seed, "batches"))
        opening = _Opening(context, stack, batches)
        try:
            generator, critic = await opening.generator(), await opening.critic()
            reward_model = await opening.reward_model()
        except ValueError as error:
            raise ArtifactError(f"synthesis: {error}") from error
        await stack.enter_async_context(batches)  # last, so that it ends first: no batch outlives its engine
        waves = None if opening.traffic else batches
        yield Agents(generator, critic, reward_model, waves, opening.output_tokens)


class _Opening:
    """What the agents share: one front for each local model, one client for each server."""

    def __init__(self, context: StageContext, stack: AsyncExitStack, batches: Batches) -> None:
        self.context, self.stack, self.batches = context, stack, batches
        self.settings = context.recipe.synthesis
        self.templates = self.settings.templates()
        self.traffic: list[Traffic] = []
        self._fronts: dict[str, tuple[Batcher, PreTrainedTokenizerBase]] = {}

    def output_tokens(self) -> int:
        """Tokens that all models have written so far."""
        fronts = sum(front.output_tokens for front, _ in self._fronts.values())
        return fronts + sum(traffic.output_tokens for traffic in self.traffic)

    async def generator(self) -> Generator:
        settings, place = self.settings, self.settings.generator
        sampling = Sampling(temperature=settings.temperature, max_new_tokens=settings.max_new_tokens)
        if place.kind is GeneratorKind.BASE:
            front, tokenizer = self._front("")
            return SampledGenerator(front.complete, tokenizer, sampling)
        return LLMGenerator(await self._chat(place), self.templates, sampling, place.shortest_step)

    async def critic(self) -> Critic:
        place = self.settings.critic
        match place.kind:
            case CriticKind.COLUMNS:
                return ColumnCritic()
            case CriticKind.CLAIMS:
                return ClaimCritic()
            case CriticKind.CHAT:
                sampling = Sampling(temperature=place.temperature, max_new_tokens=place.max_new_tokens)
                chat = await self._chat(place)
                return LLMCritic(chat, self.templates, sampling, place.attempts, place.longest_reason)

    async def reward_model(self) -> RewardModel:
        place = self.settings.reward_model
        if place.server:
            named = place.server.tokenizer
            tokenizer = load_any_tokenizer(named) if named else None
            return ServerReward(await self._client(place.server), place.server, tokenizer)
        if place.kind is RewardKind.CLASSIFIER:
            model, tokenizer = load_any_reward_model(place.checkpoint)
            return ClassifierReward(model, tokenizer, self.batches, place.prompt)
        base = self.context.artifact("base")
        return LikelihoodReward(load_policy(base), load_tokenizer(base), self.batches)

    async def _chat(self, place: ChatPlace) -> Chat:
        if place.server:
            return ServerChat(await self._client(place.server), place.server)
        front, tokenizer = self._front(place.checkpoint)
        return EngineChat(front.complete, tokenizer)

    async def _client(self, settings: ConnectionSettings) -> HttpClient:
        self.traffic.append(Traffic())
        return await self.stack.enter_async_context(HttpClient(settings, self.traffic[-1]))

    def _front(self, checkpoint: str) -> tuple[Batcher, PreTrainedTokenizerBase]:
        """A local model, opened once; the empty name is the base model."""
        if checkpoint not in self._fronts:
            recipe = self.context.recipe
            engine: Engine
            if checkpoint:
                here = recipe.engine
                asked = AnyModel(model=checkpoint, engine=here.kind.value, rows=here.rows, vllm=here.vllm)
                opened = self.stack.enter_context(open_model(asked))
                engine, tokenizer, length = opened.engine, opened.tokenizer, opened.context_length
            else:
                base = self.context.artifact("base")
                engine = self.stack.enter_context(self.context.engine("base"))
                tokenizer, length = load_tokenizer(base), context_limit(recipe.engine, base)
            self._fronts[checkpoint] = Batcher(self.batches, engine, length, checkpoint), tokenizer
        return self._fronts[checkpoint]
