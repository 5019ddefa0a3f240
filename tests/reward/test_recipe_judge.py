"""A recipe's own problems: marks are those of training, and votes count equal answers together."""

from collections.abc import Iterator

import pytest

from r1mega.algorithm.vote import answer_classes, majority
from r1mega.config.data import BilingualSource, ChatTemplate
from r1mega.config.rl import RewardConfig
from r1mega.data.bilingual_problems import bilingual_problems
from r1mega.record import Problem
from r1mega.reward.judge import Judge
from r1mega.reward.recipe_judge import RecipeJudge
from r1mega.reward.suite_judge import Marked

REWARD = RewardConfig(workers=1, timeout_s=1, language=0.0, target_language="problem", max_answer_chars=50)
HALF = Problem("t", "q", "\\frac{1}{2}", "math", {"language": "en"})
GERMAN = next(one for one in bilingual_problems(BilingualSource(languages=["de", "en"], size=9), "x")
              if one.metadata["language"] == "de")
ENGLISH_WORDS, GERMAN_WORDS = "we add all of the numbers", "wir haben nun alle Zahlen addiert"


@pytest.fixture(scope="module")
def judge() -> Iterator[RecipeJudge]:
    with RecipeJudge(REWARD, ChatTemplate(), ["math", "exact"]) as made:
        yield made


def completion(answer: str, words: str = ENGLISH_WORDS) -> str:
    return f"<think> {words} </think> <answer> {answer} </answer>"


def classes(marked: Marked) -> list[int | None]:
    return answer_classes([mark.answer for mark in marked.marks], lambda i, j: (i, j) in marked.equal)


def test_marks_are_the_scores_of_training(judge: RecipeJudge):
    right = GERMAN.answer
    texts = [completion(right, GERMAN_WORDS), completion(right), f"<answer> {right} </answer>", right,
             completion(f"{right}0")]
    (marked,) = judge.judge([(GERMAN, texts)])
    assert [mark.right for mark in marked.marks] == [True, True, True, False, False]
    assert [mark.measured["format"] for mark in marked.marks] == [1, 1, 0, 0, 1]
    assert [mark.measured["language"] for mark in marked.marks] == [1, 0, 0, 0, 0]
    assert [mark.answer for mark in marked.marks] == [right, right, right, None, f"{right}0"]
    with Judge(REWARD, ChatTemplate()) as training:
        scores = training.score([(GERMAN, text) for text in texts])
    assert [(float(mark.right), mark.measured["format"], mark.measured["language"]) for mark in marked.marks] == [
        (score.parts["accuracy"], score.parts["format"], score.parts["language"]) for score in scores]


def test_equal_maths_votes_together_and_no_answer_and_overlong_ones_do_not_vote(judge: RecipeJudge):
    answers = ["3/4", "0.5", "0.75", "1/2", "\\frac{3}{4}", "1" * 51, ""]
    (marked,) = judge.judge([(HALF, [*map(completion, answers), "no tags"])])
    assert [mark.right for mark in marked.marks] == [False, True, False, True, False, False, False, False]
    assert classes(marked) == [0, 1, 0, 1, 0, None, None, None]
    assert majority(classes(marked)) == (0, 3)
    assert "51 characters" in marked.marks[5].note


def test_answers_that_hang_the_checker_are_compared_with_nothing(judge: RecipeJudge):
    tower = "9^{9^{9^{9}}}"
    (marked,) = judge.judge([(HALF, [completion(tower), completion("0.5"), completion("1/2")])])
    assert marked.marks[0].note.startswith("timed out") and classes(marked) == [0, 1, 1]


def test_other_answers_are_one_when_their_words_are(judge: RecipeJudge):
    exact = Problem("t", "q", "a b", "exact", {"language": "en"})
    marked, maths = judge.judge([(exact, [completion("a  b"), completion("a b"), completion("ab")]),
                                 (HALF, [completion("0.5")])])
    assert classes(marked) == [0, 0, 2] and [mark.right for mark in marked.marks] == [True, True, False]
    assert maths.marks[0].right


def test_language_is_measured_only_where_the_recipe_does():
    with RecipeJudge(RewardConfig(workers=1), ChatTemplate(), ["exact"]) as judge:
        (marked,) = judge.judge([(Problem("t", "q", "4"), [completion("4")])])
    assert marked.marks[0].right and marked.marks[0].measured == {"format": 1.0}
