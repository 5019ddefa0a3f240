"""The samples of a supervised run: read, encoded and checked once, before any rank starts."""

from collections.abc import Collection, Iterator
from itertools import batched, islice
from pathlib import Path

from r1mega.config import Recipe, UserError
from r1mega.config.preference import PreferenceConfig
from r1mega.config.sft import SftConfig
from r1mega.data import Tokenizer
from r1mega.data.sft_encode import encode_demonstrations
from r1mega.data.sft_load import load_demonstrations
from r1mega.data.sft_mix import Mix
from r1mega.data.sft_row import Demonstration
from r1mega.data.sft_store import SampleStore, StoreWriter

FOLDER = "sft"  # below data/
CHUNK = 256  # samples encoded at a time, on all cores


def prepare_samples(
    recipe: Recipe, base_dir: Path, tokenizer: Tokenizer, heldout: Collection[str], folder: Path | None
) -> SampleStore:
    """Encode every sample, into `folder` unless that is None (a check alone). `heldout`: held-out problems' questions.

    Raises UserError for whatever is wrong with a source, a row or the mix.
    """
    config = recipe.sft
    limit = config.max_tokens or recipe.model.max_context
    with StoreWriter(folder, len(config.sources)) as writer:
        kept = _without_heldout(recipe, base_dir, heldout, writer)
        for chunk in batched(kept, CHUNK):
            encoded = encode_demonstrations([sample for _, sample in chunk], tokenizer, recipe.tokenizer.template)
            for (source, sample), (ids, marks) in zip(chunk, encoded, strict=True):
                if len(ids) <= limit:
                    writer.add(source, sample, (ids, marks))
                elif config.overlong == "drop":
                    writer.dropped["overlong"] += 1
                else:
                    raise UserError(f"{sample.origin}: prompt and response have {len(ids)} tokens, more than "
                                    f"{'sft.max_tokens' if config.max_tokens else 'model.max_context'}={limit}; raise "
                                    'it, shorten the sample, or set sft.overlong="drop"')
        store = writer.finish(config.heldout_samples)
    check_sizes(recipe, store)
    mix_of(recipe, store).check()
    return store


def mix_of(recipe: Recipe, store: SampleStore) -> Mix:
    """The order in which the run takes its samples."""
    section, config = sources_of(recipe)
    weights = tuple(source.weight for source in config.sources)
    return Mix(store.sizes, None if None in weights else weights, config.epochs, config.samples_per_step, recipe.seed,
               section)


def sources_of(recipe: Recipe) -> tuple[str, SftConfig | PreferenceConfig | None]:
    """The section that says which samples a supervised run or a reward model is trained on, by name; None in others."""
    return ("sft", recipe.sft) if recipe.preference is None else ("preference", recipe.preference)


def with_steps(recipe: Recipe, store: SampleStore) -> Recipe:
    """The recipe with the steps its data make. Raises UserError where it says another number."""
    mix = mix_of(recipe, store)
    if recipe.train.steps not in (None, mix.steps):
        raise UserError(f"{recipe.name}: train.steps={recipe.train.steps}, but {describe(recipe, store)}; take it out "
                        '(unset = ["train.steps"] where a parent has it), or change '
                        f"{sources_of(recipe)[0]}.epochs")
    if recipe.optimizer.warmup_steps > mix.steps:
        raise UserError(f"{recipe.name}: optimizer.warmup_steps={recipe.optimizer.warmup_steps}, but "
                        f"{describe(recipe, store)}; use fewer")
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": mix.steps})})


def describe(recipe: Recipe, store: SampleStore) -> str:
    """e.g. "2 epochs of 800 samples (maths 600 of 600, general 200 of 500), 16 held out, in steps of 128: 13 steps"."""
    mix = mix_of(recipe, store)
    parts = ", ".join(f"{source.name} {taken} of {size}" for source, taken, size in
                      zip(sources_of(recipe)[1].sources, mix.taken, mix.sizes, strict=True))
    left_out = "".join(f", {count} {why} dropped" for why, count in sorted(store.dropped.items()))
    return (f"{mix.epochs} epoch{'s' * (mix.epochs > 1)} of {mix.epoch_samples} samples ({parts}), "
            f"{len(store.heldout)} held out{left_out}, in steps of {mix.samples_per_step}: {mix.steps} steps")


def sample_texts(recipe: Recipe, base_dir: Path, count: int) -> Iterator[str]:
    """What the first samples say, for a tokenizer that is made from them."""
    for _, sample in islice(load_demonstrations(recipe.sft, base_dir), count):
        yield "\n".join([sample.system, *(text for turn in sample.turns for text in turn)])


def _without_heldout(
    recipe: Recipe, base_dir: Path, heldout: Collection[str], writer: StoreWriter
) -> Iterator[tuple[int, Demonstration]]:
    for source, sample in load_demonstrations(recipe.sft, base_dir):
        known = next((question for question in sample.questions if question in heldout), None)
        if known is not None and recipe.sft.heldout_questions == "error":
            raise UserError(f"{sample.origin}: asks a held-out problem ({known[:40]!r}); take the row out, or set "
                            'sft.heldout_questions="drop"')
        if known is not None:
            writer.dropped["held-out questions"] += 1
        elif writer.is_new(sample):
            yield source, sample


def check_sizes(recipe: Recipe, store: SampleStore) -> None:
    """Raises UserError where a source has nothing to train on."""
    section, config = sources_of(recipe)
    for number, (source, size) in enumerate(zip(config.sources, store.sizes, strict=True)):
        if size == 0:
            raise UserError(f"{section}.sources.{number} ({source.name}): no sample is left to train on "
                            f"({', '.join(store.dropped) or 'all are held out'}); look at {section}.max_tokens, "
                            "overlong, heldout_samples and heldout_questions, or take the source out")
