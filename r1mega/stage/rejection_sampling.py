"""Stage rejection_sampling: many samples of each problem, and a dataset of those worth learning from (arXiv 2501.12948,
section 3 and supplement: the 600k reasoning samples and, from R1-Zero with a rewriter, the cold start)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1mega.config import Recipe
from r1mega.data.decontaminate import EvaluationNgrams
from r1mega.model import PolicySettings
from r1mega.parallel import Groups
from r1mega.stage.bench import check_same_shape, hearing_signals
from r1mega.stage.model_answers import open_model
from r1mega.stage.prepare import Prepared
from r1mega.stage.rejection_helpers import HelperModels
from r1mega.stage.rejection_journal import Journal, open_journal
from r1mega.stage.rejection_plan import FOLDER, check_tokenizer, read_evaluation
from r1mega.stage.rejection_sampler import RejectionSampler
from r1mega.stage.rejection_select import Selector
from r1mega.stage.replicas import anyone, from_first


@dataclass
class _Wish:
    stop_asked: bool = False


def rejection_sampling(
    recipe: Recipe, run_dir: Path, groups: Groups, prepared: Prepared, model: Path, command: Sequence[str]
) -> None:
    """Run the stage until the dataset is there, or until asked to stop. Collective."""
    check_same_shape(recipe, model)
    check_tokenizer(model, prepared.tokenizer)
    wish = _Wish()
    with open_journal(recipe, run_dir, groups, prepared, model, command) as journal, hearing_signals(wish):
        if from_first(journal.is_done):
            return
        settings = PolicySettings(precision=recipe.train.precision)
        loaded = open_model(model, groups, recipe.rollout.slots, settings)
        selector = _selector(recipe, run_dir, prepared, HelperModels(recipe, run_dir, loaded), journal)
        waves = journal.plan.wave_lists()
        with RejectionSampler(recipe, loaded, prepared.train) as sampler:
            for number, wave in enumerate(waves, 1):
                _run_wave(number, wave, sampler, selector, journal)
                if number < len(waves) and anyone(wish.stop_asked, groups):
                    journal.message(f"stopped after wave {number} of {len(waves)}; the same command goes on")
                    return
            journal.publish(sampler)


def _run_wave(
    number: int, wave: Sequence[str], sampler: RejectionSampler, selector: Selector, journal: Journal
) -> None:
    """Whatever of a wave is not done yet: sample, then select."""
    begun = time.monotonic()
    unsampled, unfinished = from_first(journal.todo(wave))
    if not unfinished:
        return
    shown = wave[:journal.recipe.log.samples_per_step]
    fresh = sampler.sample(unsampled, shown, journal.phase("rollout", "sequences"))
    if selector.judge is not None or journal.recipe.rejection.rewrite == "model":
        journal.keep_samples(fresh)  # what follows may fail, and takes as long
    sampled_s = time.monotonic() - begun
    finished = selector.finish(journal.with_problems(unfinished, fresh))
    journal.finish_wave(number, wave, finished,
                        {"rollout_s": sampled_s, "reward_s": time.monotonic() - begun - sampled_s})


def _selector(
    recipe: Recipe, run_dir: Path, prepared: Prepared, helpers: HelperModels, journal: Journal
) -> Selector:
    texts, questions = [], []
    if journal.leads:  # whose texts are looked at
        texts = read_evaluation(run_dir / "data" / FOLDER)
        questions = [problem.question for problem in prepared.train.problems]
    evaluation = EvaluationNgrams(texts, recipe.rejection.decontaminate_ngram, questions)
    return Selector(recipe.rejection, recipe.tokenizer.template, recipe.seed, evaluation,
                    helpers.judge(journal.phase("judge", "replies")),
                    helpers.rewrite(journal.phase("rewrite", "replies")))
