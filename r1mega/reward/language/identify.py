"""Which language each word is in, when several share a script.

One word is weak evidence ("die" is German and English, "la" French and Spanish), a document's most likely language
hides its mixtures. So each word gets the log-likelihoods that py3langid's n-grams give it, less where it is a common
word of other languages, and the likeliest sequence of languages is found where going over to another language costs
SWITCH_AT, less at the start of a clause or sentence: a hidden Markov model, by Viterbi's algorithm.
"""

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from r1mega.reward.language.function_words import LANGUAGES_OF
from r1mega.reward.language.scripts import FAMILIES
from r1mega.reward.language.words import Word

# Nats for going over to another language before a word: within a clause, after a comma, after a sentence
SWITCH_AT = (8.0, 6.0, 4.0)
LEAST = -7.0  # a word's log-likelihood, against the best language: no single word decides
FUNCTION_WORD = 4.0  # what a language loses for a common short word of others
LONGEST_WORD = 40  # characters looked at


def languages(words: Sequence[Word], family: str) -> list[str]:
    """The language of each of `words`, which are all of `family`, in the order of the text."""
    candidates = FAMILIES[family]
    if len(candidates) == 1 or not words:
        return [candidates[0]] * len(words)
    rows: dict[str, int] = {}
    numbers = [rows.setdefault(word.text[:LONGEST_WORD], len(rows)) for word in words]
    table = np.array([_likelihoods(text, family) for text in rows])  # (distinct words, languages)
    costs = [SWITCH_AT[min(word.boundary, 2)] for word in words]
    path = _likeliest(table, np.array(numbers), costs)
    return [candidates[state] for state in path]


def _likeliest(table: np.ndarray, numbers: np.ndarray, costs: Sequence[float]) -> list[int]:
    """States of the likeliest path. `table` (W, K): log-likelihoods of each distinct word under each of K languages;
    `numbers` (n): which of them each word is; `costs` (n): of changing the language before that word."""
    came_from = np.empty((len(numbers), table.shape[1]), dtype=np.int8)
    stay = np.arange(table.shape[1], dtype=np.int8)
    score = table[numbers[0]]
    for index in range(1, len(numbers)):
        best = score.argmax()
        moved = score[best] - costs[index]
        came_from[index] = np.where(score >= moved, stay, best)
        score = np.maximum(score, moved) + table[numbers[index]]
    state = int(score.argmax())
    path = [state]
    for index in range(len(numbers) - 1, 0, -1):
        state = int(came_from[index, state])
        path.append(state)
    return path[::-1]


@lru_cache(maxsize=1 << 16)
def _likelihoods(text: str, family: str) -> tuple[float, ...]:
    """Of each language of `family`, relative to the best, at least LEAST."""
    lower = text.lower()
    ranked = dict(_identifier(family).rank(f" {text} " if text.istitle() else f" {lower} "))
    known = LANGUAGES_OF.get(lower)
    scores = [ranked[language] for language in FAMILIES[family]]
    if known is not None:
        scores = [max(score - max(scores), LEAST) - (0.0 if language in known else FUNCTION_WORD)
                  for language, score in zip(FAMILIES[family], scores, strict=True)]
    return tuple(max(score - max(scores), LEAST) for score in scores)


@lru_cache(maxsize=len(FAMILIES))
def _identifier(family: str) -> Any:
    identifier = copy.copy(_all_languages())
    identifier.set_languages(FAMILIES[family])
    return identifier


@lru_cache(maxsize=1)
def _all_languages() -> Any:
    """py3langid's model: half a second to load, 100 MB; only recipes that measure language pay for it."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
