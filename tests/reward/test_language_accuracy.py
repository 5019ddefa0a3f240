"""How many words get their right language, measured; the numbers are those of r1mega/reward/language/README.md."""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest

from r1mega.reward.language.clean import as_seen
from r1mega.reward.language.consistency import language_share
from r1mega.reward.language.identify import languages
from r1mega.reward.language.prose import prose
from r1mega.reward.language.scripts import FAMILY_OF
from r1mega.reward.language.words import Word, words
from tests.reward.language_cases import SENTENCES

README = Path(__file__).parents[2] / "r1mega/reward/language/README.md"
Said = list[tuple[Word, str]]  # words, and the language each was written in


def written(language: str, sentences: Iterable[str]) -> Said:
    return [(word, language) for sentence in sentences for word in words(prose(as_seen(sentence)))]


def found(said: Said) -> int:
    """How many words are given the language they were written in, each family of scripts for itself."""
    right = 0
    for family in {word.family for word, _ in said}:
        ours = [(word, language) for word, language in said if word.family == family]
        named = languages([word for word, _ in ours], family)
        right += sum(name == language for name, (_, language) in zip(named, ours, strict=True))
    return right


def rate(texts: Iterable[Said]) -> tuple[float, int]:
    texts = list(texts)
    count = sum(map(len, texts))
    return 100 * sum(map(found, texts)) / count, count


def in_turns(one: str, other: str, size: int) -> Said:
    """Words of both languages in turns of `size`, nothing between them to tell where."""
    sides = [[(word._replace(boundary=0), language) for word, language in written(language, SENTENCES[language])]
             for language in (one, other)]
    end = min(map(len, sides)) // size * size
    return [pair for start in range(0, end, size) for pair in sides[start // size % 2][start:start + size]]


def measured() -> dict[str, tuple[float, int]]:
    pairs = list(combinations(SENTENCES, 2))
    same_script = [pair for pair in pairs if FAMILY_OF[pair[0]] == FAMILY_OF[pair[1]]]
    return {
        "one language, a sentence": rate(
            written(language, [text]) for language, texts in SENTENCES.items() for text in texts),
        "two languages, in turns of a sentence": rate(
            [pair for index in range(5) for pair in written(both[index % 2], [SENTENCES[both[index % 2]][index]])]
            for both in pairs),
        "two of one script, in turns of eight words": rate(in_turns(*pair, 8) for pair in same_script),
        "two of one script, in turns of four words": rate(in_turns(*pair, 4) for pair in same_script),
    }


def test_accuracy_is_what_the_readme_says():
    rows = [f"| {name} | {right:.1f}% of {count:,} words |" for name, (right, count) in measured().items()]
    text = README.read_text(encoding="utf-8")
    assert [row for row in rows if row not in text] == []


def test_a_sentence_is_hardly_ever_taken_for_another_language():
    rates = measured()
    assert rates["one language, a sentence"][0] > 99.5
    assert rates["two languages, in turns of a sentence"][0] > 99.5
    assert rates["two of one script, in turns of eight words"][0] > 97


@pytest.mark.parametrize("both", list(combinations(SENTENCES, 2)), ids="-".join)
def test_a_text_half_in_one_language_and_half_in_another_is_near_a_half(both):
    """The same four sentences, two in each language: as many words as each says them with."""
    text = " ".join(SENTENCES[both[index % 2]][index] for index in range(4))
    counts = [sum(len(written(side, [SENTENCES[side][index]])) for index in range(at, 4, 2))
              for at, side in enumerate(both)]
    share = counts[0] / sum(counts)
    assert language_share(text, both[0]) == pytest.approx(share, abs=0.05)
    assert language_share(text, both[1]) == pytest.approx(1 - share, abs=0.05)


@pytest.mark.parametrize("language", SENTENCES)
def test_a_text_in_one_language_has_a_share_of_one_there_and_of_none_elsewhere(language):
    text = " ".join(SENTENCES[language])
    assert {other: language_share(text, other) for other in SENTENCES} == {
        other: float(other == language) for other in SENTENCES}
