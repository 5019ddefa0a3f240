"""`r1mega sample`: ask a model."""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from r1mega.config import LayoutConfig, UserError
from r1mega.data import Tokenizer, render_prompt
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import Groups, launch, start, stop
from r1mega.record import SampleRequest
from r1mega.rollout import Engine, Sampling, sample_seed
from r1mega.stage.model_path import find_model, max_new_tokens, template_of
from r1mega.training.checkpoint import load_model_folder, read_model_config


@dataclass(frozen=True)
class Asking:
    """How a model is asked: the options of `r1mega sample`."""

    num_samples: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    new_tokens: int | None = None
    """None: as many as the context holds."""
    seed: int = 0
    raw: bool = False
    """The text is the prompt itself, without the chat template."""

    def check(self) -> None:
        """Raises UserError naming the option that cannot be."""
        rules = [
            (self.num_samples >= 1, f"--samples={self.num_samples}: must be 1 or more"),
            (math.isfinite(self.temperature) and self.temperature >= 0,
             f"--temperature={self.temperature:g}: must be 0 (the likeliest token) or a number above it"),
            (0 < self.top_p <= 1, f"--top-p={self.top_p:g}: must be above 0 and at most 1, which turns it off"),
            (self.new_tokens is None or self.new_tokens >= 1,
             f"--max-new-tokens={self.new_tokens}: must be 1 or more; leave it out for as many as fit"),
        ]
        for holds, mistake in rules:
            if not holds:
                raise UserError(f"command line: {mistake}")


def sample(model: Path, questions: list[str], layout: LayoutConfig, how: Asking) -> None:
    """Print completions of the questions; without any, read them from standard input, a line each. Raises UserError."""
    how.check()
    folder = find_model(model)
    if not (folder / "tokenizer").is_dir():
        raise UserError(f"{folder}: has no tokenizer/, so there are no words to talk in; use `r1mega score` "
                        "with token ids")
    if not questions and layout.world_size > 1:
        raise UserError("command line: a conversation needs a layout of one rank; give --question with a larger one")
    launch("r1mega.stage.sample:sample_on_rank", {
        "model": str(folder), "questions": questions, "layout": layout.model_dump(), "how": asdict(how)}, layout)


def sample_on_rank(model: str, questions: list[str], layout: dict, how: dict) -> None:
    """One rank's share of `sample`."""
    groups = start(LayoutConfig(**layout))
    try:
        converse(questions, _answerer(Path(model), groups, Asking(**how)), groups.rank == 0)
    finally:
        stop()


def _answerer(folder: Path, groups: Groups, how: Asking) -> Callable[[str], list[str]]:
    """What answers one question with the model of `folder`."""
    config, tokenizer = read_model_config(folder), Tokenizer.load(folder / "tokenizer")
    template = None if how.raw else template_of(folder)
    chunks = build_policy(config, groups, PolicySettings())
    load_model_folder(folder, chunks, groups)
    engine = Engine(chunks, groups, config, slots=how.num_samples)

    def answer(question: str) -> list[str]:
        ids = tuple(tokenizer.encode(question if how.raw else render_prompt(template, question), parse_special=True))
        if not ids:
            raise UserError("command line: --question is empty; with --raw the text is the whole prompt")
        sampling = Sampling(temperature=how.temperature, top_p=how.top_p, stop_ids=(tokenizer.eos_id,),
                            max_new_tokens=max_new_tokens(config, len(ids), how.new_tokens))
        requests = [SampleRequest(ids, sample_seed(how.seed, 0, question, index)) for index in range(how.num_samples)]
        # Every replica answers, so that all of them take part in the experts' exchange; rank 0's is shown.
        return [tokenizer.decode(c.token_ids, skip_special=True) for c in engine.generate(requests, sampling)]

    return answer


def converse(questions: list[str], answer: Callable[[str], list[str]], shown: bool) -> None:
    """Answer the questions, or standard input's lines."""
    for question in questions or _asked():
        for text in answer(question):
            if shown:
                print(f"> {question}\n{text}\n", flush=True)


def _asked() -> Iterator[str]:
    if sys.stdin.isatty():
        print("Ask; an empty line or Ctrl-D ends it.", flush=True)
    for line in sys.stdin:
        if not line.strip():
            return
        yield line.strip()
