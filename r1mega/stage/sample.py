"""`r1mega sample`: ask a model."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from r1mega.config import LayoutConfig, UserError
from r1mega.data import Tokenizer, render_prompt
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import launch, start, stop
from r1mega.record import SampleRequest
from r1mega.rollout import Engine, Sampling, sample_seed
from r1mega.stage.model_path import find_model, max_new_tokens, template_of
from r1mega.training.checkpoint import load_model_folder, read_model_config


def sample(
    model: Path, questions: list[str], layout: LayoutConfig, *, num_samples: int = 1, temperature: float = 1.0,
    top_p: float = 1.0, new_tokens: int | None = None, seed: int = 0, raw: bool = False,
) -> None:
    """Print completions of the questions; without any, read them from standard input, a line each.

    `raw`: the text is the prompt itself, without the chat template. Raises UserError.
    """
    folder = find_model(model)
    if not (folder / "tokenizer").is_dir():
        raise UserError(f"{folder}: has no tokenizer/, so there are no words to talk in; use `r1mega score` "
                        "with token ids")
    if not questions and layout.world_size > 1:
        raise UserError("command line: a conversation needs a layout of one rank; give --question with a larger one")
    launch("r1mega.stage.sample:sample_on_rank", {
        "model": str(folder), "questions": questions, "layout": layout.model_dump(), "num_samples": num_samples,
        "temperature": temperature, "top_p": top_p, "new_tokens": new_tokens, "seed": seed, "raw": raw}, layout)


def sample_on_rank(
    model: str, questions: list[str], layout: dict, num_samples: int, temperature: float, top_p: float,
    new_tokens: int | None, seed: int, raw: bool,
) -> None:
    """One rank's share of `sample`."""
    folder = Path(model)
    groups = start(LayoutConfig(**layout))
    config, tokenizer, template = read_model_config(folder), Tokenizer.load(folder / "tokenizer"), template_of(folder)
    chunks = build_policy(config, groups, PolicySettings())
    load_model_folder(folder, chunks, groups)
    engine = Engine(chunks, groups, config, slots=num_samples)

    def answer(question: str) -> list[str]:
        prompt = question if raw else render_prompt(template, question)
        ids = tuple(tokenizer.encode(prompt, parse_special=True))
        sampling = Sampling(temperature=temperature, top_p=top_p, stop_ids=(tokenizer.eos_id,),
                            max_new_tokens=max_new_tokens(config, len(ids), new_tokens))
        requests = [SampleRequest(ids, sample_seed(seed, 0, question, index)) for index in range(num_samples)]
        # Every replica answers, so that all of them take part in the experts' exchange; rank 0's is shown.
        return [tokenizer.decode(c.token_ids, skip_special=True) for c in engine.generate(requests, sampling)]

    converse(questions, answer, groups.rank == 0)
    stop()


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
