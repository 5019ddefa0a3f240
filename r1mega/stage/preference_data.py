"""The judgements that a reward model is trained on: read, encoded and checked once, before any rank starts.

They lie in a SampleStore, a judgement an entry. Of a pair, the tokens of both sequences end to end, and the marks say
which token is of which: 0 the chosen one's, 1 the rejected one's. Of a labelled reply, its tokens, all marked 1 if it
is safe.
"""

from array import array
from collections.abc import Collection, Iterator, Sequence
from itertools import batched
from pathlib import Path

from r1mega.config import Recipe, UserError
from r1mega.data import Tokenizer
from r1mega.data.preference_encode import encode_judgements
from r1mega.data.preference_load import load_judgements
from r1mega.data.preference_row import Judgement
from r1mega.data.sft_store import SampleStore, StoreWriter
from r1mega.record import TrainSample
from r1mega.stage.sft_data import CHUNK, check_sizes, mix_of

SAFE = "safe"  # of a TrainSample: 1, 0, and of one of a pair 0 too


def prepare_judgements(
    recipe: Recipe, base_dir: Path, tokenizer: Tokenizer, heldout: Collection[str], folder: Path | None
) -> SampleStore:
    """Encode every judgement, into `folder` unless that is None (a check alone). `heldout`: held-out problems'
    questions.

    Raises UserError for whatever is wrong with a source, a row or the mix.
    """
    config, template = recipe.preference, recipe.tokenizer.template
    limit = config.max_tokens or recipe.model.max_context
    with StoreWriter(folder, len(config.sources), "preference") as writer:
        for chunk in batched(_without_heldout(recipe, base_dir, heldout, writer), CHUNK):
            encoded = encode_judgements([one for _, one in chunk], config.kind, tokenizer, template)
            for (source, one), sequences in zip(chunk, encoded, strict=True):
                longest = max(map(len, sequences))
                if longest <= limit:
                    marks = [bool(one.safe)] if config.kind == "pointwise" else [False, True]
                    writer.add(source, one, (array("i", [i for ids in sequences for i in ids]), bytearray(b"".join(
                        bytes([mark]) * len(ids) for mark, ids in zip(marks, sequences, strict=True)))))
                elif config.overlong == "drop":
                    writer.dropped["overlong"] += 1
                else:
                    raise UserError(f"{one.origin}: prompt and reply have {longest} tokens, more than "
                                    f"{'preference.max_tokens' if config.max_tokens else 'model.max_context'}={limit}; "
                                    'raise it, shorten the reply, or set preference.overlong="drop"')
        store = writer.finish(config.heldout_samples)
    check_sizes(recipe, store)
    mix_of(recipe, store).check()
    return store


def units(entries: Sequence[TrainSample], kind: str) -> list[list[TrainSample]]:
    """The sequences of each entry of the store: of a pair the chosen one, then the rejected one. Nothing of them is
    predicted, so no token is in the loss mask."""
    made = []
    for entry in entries:
        cut = entry.loss_mask.find(1) if kind == "pairwise" else len(entry.token_ids)
        pieces = [entry.token_ids[:cut], entry.token_ids[cut:]] if kind == "pairwise" else [entry.token_ids]
        safe = {SAFE: float(kind == "pointwise" and entry.loss_mask[0])}
        made.append([TrainSample(ids, bytes(len(ids)), per_sample=safe) for ids in pieces])
    return made


def _without_heldout(
    recipe: Recipe, base_dir: Path, heldout: Collection[str], writer: StoreWriter
) -> Iterator[tuple[int, Judgement]]:
    config = recipe.preference
    for source, one in load_judgements(config, base_dir, recipe.tokenizer.template, heldout):
        (question,) = one.questions
        if question in heldout and config.heldout_questions == "error":
            raise UserError(f"{one.origin}: judges replies to a held-out problem ({question[:40]!r}); take the row "
                            'out, or set preference.heldout_questions="drop"')
        if question in heldout:
            writer.dropped["held-out questions"] += 1
        elif writer.is_new(one):
            yield source, one
