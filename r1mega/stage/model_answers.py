"""A model folder of ours that texts are put to: prompts and replies on rank 0, sampled by every replica."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1mega.config import ModelConfig
from r1mega.config.data import ChatTemplate
from r1mega.data import Tokenizer, render_prompt
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import Groups
from r1mega.record import Completion, SampleRequest
from r1mega.rollout import Engine, Sampling, sample_seed
from r1mega.stage.model_path import template_of
from r1mega.stage.replicas import from_first, my_share, to_first
from r1mega.training.checkpoint import load_model_folder, read_model_config


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, ready to sample from, with its own words."""

    config: ModelConfig
    tokenizer: Tokenizer
    template: ChatTemplate
    engine: Engine
    groups: Groups


def open_model(folder: Path, groups: Groups, slots: int, settings: PolicySettings) -> LoadedModel:
    """Load it under the run's layout. Collective. Raises UserError."""
    config = read_model_config(folder)
    chunks = build_policy(config, groups, settings)
    load_model_folder(folder, chunks, groups)
    return LoadedModel(config, Tokenizer.load(folder / "tokenizer"), template_of(folder),
                       Engine(chunks, groups, config, slots=slots), groups)


@dataclass(frozen=True)
class ModelAnswers:
    """Texts in, replies out, by our own engine."""

    model: LoadedModel
    max_new_tokens: int
    temperature: float
    seed: int

    def ask(self, texts: Sequence[str], on_progress: Callable[[int, int], None] | None = None) -> list[str | None]:
        """Replies in the order of rank 0's `texts`, on rank 0 (nothing on others); None for a text that does not fit.
        Collective. A reply depends on its text alone, not on layout or company."""
        model = self.model
        texts = from_first(list(texts))
        prompts = [self._encode(text) for text in texts]
        sampling = Sampling(temperature=self.temperature, max_new_tokens=self._new_tokens,
                            stop_ids=(model.tokenizer.eos_id,))
        asked = [(number, ids) for number, ids in enumerate(prompts) if ids is not None]
        mine = my_share(asked, model.groups)
        requests = [SampleRequest(ids, sample_seed(self.seed, 0, texts[number], 0)) for number, ids in mine]
        completions = model.engine.generate(requests, sampling, on_progress)
        said = dict(to_first([(number, self._decode(completion)) for (number, _), completion in
                              zip(mine, completions, strict=True)], model.groups))
        return [said.get(number) for number in range(len(texts))] if model.groups.rank == 0 else []

    @property
    def _new_tokens(self) -> int:
        return max(1, min(self.max_new_tokens, self.model.config.max_context // 2))

    def _encode(self, text: str) -> tuple[int, ...] | None:
        tokenizer = self.model.tokenizer
        for special in tokenizer.special_texts:  # only the template's own are meant
            text = text.replace(special, " ")
        ids = tuple(tokenizer.encode(render_prompt(self.model.template, text), parse_special=True))
        return ids if 0 < len(ids) <= self.model.config.max_context - self._new_tokens else None

    def _decode(self, completion: Completion) -> str:
        return self.model.tokenizer.decode(completion.token_ids, skip_special=True)
