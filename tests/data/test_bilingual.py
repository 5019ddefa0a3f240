"""Sums asked in several languages."""

import json
import random
from itertools import batched, product
from pathlib import Path

import pytest

from r1mega.config import UserError, load_recipe
from r1mega.config.data import BilingualSource, ChatTemplate, DataConfig, Fields, FilesSource
from r1mega.data import load_problems, split, train_tokenizer
from r1mega.data.bilingual_problems import WORDINGS
from r1mega.data.corpus import document
from r1mega.record import Problem
from r1mega.reward.format import reasoning
from r1mega.reward.language import language_share

TAGS = ChatTemplate()


def load(**keys) -> list[Problem]:
    return load_problems(DataConfig(sources=[BilingualSource(**keys)]), Path())


def asked(language: str, others: tuple[str, ...] = ("en", "de", "zh")) -> Problem:
    return Problem("bilingual_sum", "3 - 8 + 4", "-1",
                   metadata={"language": language, "languages": list(others), "group": "3 - 8 + 4"})


def worked(problem: Problem, seed: int) -> str:
    return document(problem, {"worked": 1.0}, TAGS, random.Random(seed))


def test_each_sum_is_asked_once_in_every_language_and_its_answer_is_right():
    problems = load(size=300, languages=["en", "de", "zh"], terms=4)
    for triple in batched(problems, 3):
        (text,) = {problem.metadata["group"] for problem in triple}
        assert [p.question for p in triple] == [f"What is {text}?", f"Wie viel ist {text}?", f"{text} 等于多少?"]
        assert {p.answer for p in triple} == {str(eval(text))} and len(text.split()) == 7
        assert [p.metadata["language"] for p in triple] == ["en", "de", "zh"]
    assert len({problem.metadata["group"] for problem in problems}) == 300
    assert json.loads(json.dumps(problems[0].metadata)) == problems[0].metadata


def test_a_seed_makes_the_same_sums_and_another_seed_others():
    assert load(size=50, seed=1) == load(size=50, seed=1)
    assert load(size=50, seed=1) != load(size=50, seed=2)


def test_all_sums_there_are_can_be_asked_for_and_no_more():
    assert len({p.question for p in load(size=2916)}) == 2 * 2916  # 9^3 numbers, 2^2 signs
    with pytest.raises(UserError, match=r"data\.sources\[0\]: size=2917, but there are only 2916 sums of terms=3"):
        load(size=2917)


def test_no_sum_is_trained_on_in_one_language_and_held_out_in_another():
    train, heldout = split(load(size=200), 51)
    held = {problem.metadata["group"] for problem in heldout}
    assert len(heldout) == 51 and len(held) == 26
    assert len(train) == 400 - 52 and not held & {problem.metadata["group"] for problem in train}
    with pytest.raises(UserError, match="leaves nothing to train on"):
        split(load(size=1), 1)


def test_a_worked_solution_is_right_in_any_mixture_of_languages():
    firsts = {"en": "first 3 minus 8 gives -5", "de": "zuerst 3 minus 8 ergibt -5", "zh": "首先 3 减 8 得到 -5"}
    thens = {"en": "then -5 plus 4 is -1", "de": "dann -5 plus 4 ist -1", "zh": "然后 -5 加 4 等于 -1"}
    expected = {f"<think> {first} {then} </think> <answer> -1 </answer>"
                for first, then in product(firsts.values(), thens.values())}
    assert {worked(asked("de"), seed) for seed in range(200)} == expected


def test_a_slip_is_carried_on_to_the_answer_in_words_too():
    texts = {document(asked("en", ("en", "zh")), {"sloppy": 1.0}, TAGS, random.Random(seed)) for seed in range(60)}
    for text in texts:
        words = text.removeprefix("<think> ").split()
        assert words[:4] in (["first", "3", "minus", "8"], ["首先", "3", "减", "8"]) and words[7] == words[5]
        assert f"{words[11]} </think> <answer> {words[11]} </answer>" in text
    assert any("<answer> -1 <" not in text for text in texts)


def shares(pair: tuple[str, str]) -> list[float]:
    texts = [worked(asked(pair[0], pair), seed) for seed in range(2000)]
    cache = {text: language_share(reasoning(text, TAGS), pair[0]) for text in set(texts)}
    return [cache[text] for text in texts]


def test_the_base_mixes_and_its_language_consistency_is_the_chance_of_a_step_in_the_questions_language():
    found = shares(("zh", "en"))
    assert set(found) == {0.0, 0.5, 1.0}
    assert sum(found) / len(found) == pytest.approx(0.6, abs=0.03)  # 4 standard deviations of sqrt(0.24 / 4000)
    assert found.count(1.0) / len(found) == pytest.approx(0.36, abs=0.045)


@pytest.mark.parametrize("language", WORDINGS)
def test_a_solution_in_one_language_is_wholly_consistent_whatever_its_signs(language):
    wording = WORDINGS[language]
    for one, other in product((wording.plus, wording.minus), repeat=2):
        text = wording.first.format(3, one, 8, -5) + " " + wording.later.format(-5, other, 4, -1)
        assert {spoken: language_share(text, spoken) for spoken in WORDINGS} == {
            spoken: float(spoken == language) for spoken in WORDINGS}


@pytest.mark.parametrize(("one", "other"), [("en", "de"), ("de", "en"), ("en", "zh"), ("zh", "de")])
def test_a_step_each_in_two_languages_is_half_consistent(one, other):
    for signs in product(("plus", "minus"), repeat=2):
        first, then = (getattr(WORDINGS[side], sign) for side, sign in zip((one, other), signs, strict=True))
        text = WORDINGS[one].first.format(3, first, 8, -5) + " " + WORDINGS[other].later.format(-5, then, 4, -1)
        assert language_share(text, one) == language_share(text, other) == 0.5


def test_a_small_tokenizer_can_write_all_of_it():
    problems = load(size=200)
    texts = [text for number, problem in enumerate(problems) for text in (problem.question, worked(problem, number))]
    tokenizer = train_tokenizer(texts, 128, TAGS)
    assert [tokenizer.decode(tokenizer.encode(text), skip_special=True) for text in texts] == texts
    assert max(len(tokenizer.encode(text)) for text in texts) <= 48


def test_a_column_of_a_file_tells_the_language(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"question": "1+1?", "answer": 2, "lang": "fr"}\n', encoding="utf-8")
    source = FilesSource(paths=["a.jsonl"], fields=Fields(language="lang"))
    assert load_problems(DataConfig(sources=[source]), tmp_path)[0].metadata["language"] == "fr"
    (tmp_path / "a.jsonl").write_text('{"question": "1+1?", "answer": 2, "lang": "french"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.jsonl:1: field 'lang' is 'french', .*legal: ar, be"):
        load_problems(DataConfig(sources=[source]), tmp_path)


RECIPE = Path(__file__).parents[2] / "configs/tiny/zero.toml"
SOURCE = 'data.sources=[{kind="bilingual", size=600, languages=["en", "zh"]}]'


def test_a_recipe_asks_for_the_family_and_its_reward():
    recipe = load_recipe(RECIPE, [SOURCE, "reward.language=1.0", "reward.target_language=problem"])
    assert recipe.data.sources[0].languages == ["en", "zh"]
    assert (recipe.reward.language, recipe.reward.target_language) == (1.0, "problem")


@pytest.mark.parametrize(("mistake", "said"), [
    (SOURCE.replace("zh", "fr"), r'languages\.1="fr": is not legal; use one of "en", "de", "zh"'),
    (SOURCE.replace("zh", "en"), "names a language twice"),
    ("reward.target_language=english", 'target_language="english": is not legal; use one of "problem", "ar"'),
    ("reward.language=-1", r"reward\.language=-1: is out of range"),
])
def test_a_language_that_cannot_be_told_is_refused_in_a_line(mistake, said):
    with pytest.raises(UserError, match=said):
        load_recipe(RECIPE, [mistake])
