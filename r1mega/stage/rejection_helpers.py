"""Who is asked by rejection sampling, as callables from prompts to replies: an endpoint, or a model of ours."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from r1mega.config import Recipe, UserError
from r1mega.config.rejection import HttpModel, OwnModel
from r1mega.model import PolicySettings
from r1mega.parallel import Groups
from r1mega.reward.chat_endpoint import ChatEndpoint
from r1mega.stage.model_answers import LoadedModel, ModelAnswers, open_model
from r1mega.stage.model_path import weights_digest
from r1mega.stage.model_rewriter import Ask, ModelRewriter
from r1mega.stage.rejection_record import Replies
from r1mega.stage.rejection_select import Rewrite, rule_rewrite
from r1mega.stage.replicas import from_first
from r1mega.training.checkpoint.together import raise_together

Progress = Callable[[int, int], None]
BEAT_S = 5.0


class HelperModels:
    """What the recipe asks beside the model that is sampled. Collective to make: models are loaded here, each once."""

    def __init__(self, recipe: Recipe, run_dir: Path, sampled: LoadedModel):
        self._recipe, self._run_dir, self._sampled = recipe, run_dir, sampled
        self._groups: Groups = sampled.groups
        self._loaded: dict[str, LoadedModel] = {}

    def judge(self, progress: Progress) -> Ask | None:
        """The recipe's judge. Raises UserError, on all ranks, where it cannot be asked."""
        helper = self._recipe.rejection.judge
        return None if helper is None else self._ask(helper, "rejection.judge", progress)

    def rewrite(self, progress: Progress) -> Rewrite | None:
        match self._recipe.rejection.rewrite:
            case "none":
                return None
            case "rules":
                return rule_rewrite(self._recipe.tokenizer.template)
        return ModelRewriter(self._ask(self._recipe.rejection.rewriter, "rejection.rewriter", progress),
                             self._recipe.tokenizer.template)

    def _ask(self, helper: HttpModel | OwnModel, key: str, progress: Progress) -> Ask:
        if isinstance(helper, HttpModel):
            return self._endpoint(helper, key, progress)
        model = self._sampled if helper.path is None else self._load(helper.path)
        answers = ModelAnswers(model, helper.max_new_tokens, helper.temperature, self._recipe.seed)
        return lambda prompts: answers.ask(prompts, progress)

    def _endpoint(self, helper: HttpModel, key: str, progress: Progress) -> Ask:
        """Asked by rank 0 alone, so that its key and its traffic are in one place."""
        endpoint, error = None, None
        if self._groups.rank == 0:
            try:
                endpoint = ChatEndpoint(helper)
            except UserError as problem:
                error = f"{key}.{problem}"
        raise_together(error)
        asked = helper.model_dump(include={"base_url", "model", "max_new_tokens", "temperature"})
        replies = Replies(self._run_dir, asked) if self._groups.rank == 0 else None

        def ask(prompts: Sequence[str]) -> list[str | None]:
            found, error = [], None
            with ThreadPoolExecutor(1) as pool:
                asking = [] if endpoint is None else [pool.submit(ask_new, endpoint, replies, prompts, progress)]
                # The others hear that rank 0 lives: replies may take hours, and no collective waits for so long.
                while not from_first(not wait(asking, BEAT_S).not_done):
                    continue
                try:
                    found = asking[0].result() if asking else []
                except UserError as problem:
                    error = f"{key}: {problem}"
            raise_together(error)
            return found

        return ask

    def _load(self, path: str) -> LoadedModel:
        if path not in self._loaded:
            settings = PolicySettings(precision=self._recipe.train.precision)
            self._loaded[path] = open_model(Path(path), self._groups, self._recipe.rollout.slots, settings)
        return self._loaded[path]


def ask_new(
    endpoint: ChatEndpoint, replies: Replies, prompts: Sequence[str], progress: Progress
) -> list[str | None]:
    """Replies to all prompts, those known from before not asked for again. Raises EndpointError."""
    known = [replies.get(prompt) for prompt in prompts]
    new = [number for number, reply in enumerate(known) if reply is None]
    came = 0

    def keep(position: int, reply: str) -> None:
        nonlocal came
        came += 1
        replies.add(prompts[new[position]], reply)
        progress(came, len(new))

    for position, reply in enumerate(endpoint.ask([prompts[number] for number in new], keep)):
        known[new[position]] = reply
    return known


def name_of(helper: HttpModel | OwnModel, sampled: str) -> str:
    """What provenance calls it: the endpoint's model, or the digest of ours."""
    if isinstance(helper, HttpModel):
        return helper.model
    return sampled if helper.path is None else weights_digest(Path(helper.path))
