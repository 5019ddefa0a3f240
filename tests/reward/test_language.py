"""Language consistency: words counted by hand in mixed texts, and what a policy would try."""

import random
import time
from pathlib import Path
from typing import get_args

import pytest

from r1mega.config import UserError
from r1mega.config.data import ChatTemplate
from r1mega.config.rl import Language, RewardConfig
from r1mega.record import Problem
from r1mega.reward import Judge
from r1mega.reward.format import reasoning
from r1mega.reward.language import count_words, language_share
from r1mega.reward.language.prose import prose
from r1mega.reward.language.scripts import FAMILY_OF
from r1mega.reward.language.words import words

PLAIN = ChatTemplate()

# Text, language, its words in that language, its words in others. Each counted by hand; Chinese, Japanese and Thai
# words are the dictionaries' (a bar shows where they are cut).
MIXED = [
    ("Let us add the two numbers first. Zuerst addieren wir die beiden Zahlen.", "en", 7, 6),
    ("Let us add the two numbers first. Zuerst addieren wir die beiden Zahlen.", "de", 6, 7),
    ("Der Rest ist kleiner als der Teiler, donc il ne reste que sept cas possibles.", "de", 7, 8),
    ("Le carré est divisible par quatre, pero el número no es par y entonces hay un error.", "fr", 6, 10),
    ("Por lo tanto el tren llega más tarde. The bus was faster than we thought at first.", "es", 8, 9),
    ("Il resto è minore del divisore. So there are only seven cases left.", "it", 5, 7),
    ("Сначала найдём сумму двух чисел, and then divide it by three.", "ru", 5, 6),
    ("Сначала найдём сумму двух чисел. Потім поділимо її на три, бо так простіше.", "ru", 5, 8),
    ("Сначала найдём сумму двух чисел. Потім поділимо її на три, бо так простіше.", "uk", 8, 5),
    ("所以火车晚到。 The bus was faster.", "zh", 3, 4),  # 所以|火车|晚到
    ("我们先计算面积。次に体積を計算します。", "zh", 4, 6),  # 我们|先|计算|面积; 次に|体積|を|計算|し|ます
    ("我们先计算面积。次に体積を計算します。", "ja", 6, 4),
    ("ถ้าจำนวนนี้เป็นเลขคู่ then we can divide it", "th", 6, 5),  # ถ้า|จำนวน|นี้|เป็น|เลข|คู่
    ("إذن يصل القطار بعد الحافلة, so the train is late.", "ar", 5, 5),
    ("먼저 두 수의 합을 구합니다. Then we divide the sum by three.", "ko", 5, 7),
    ("Ας προσθέσουμε πρώτα τους δύο αριθμούς. Then we divide.", "el", 6, 3),
]


@pytest.mark.parametrize(("text", "language", "target", "other"), MIXED, ids=[f"{t[:12]} {c}" for t, c, *_ in MIXED])
def test_words_of_a_mixed_text_are_counted_as_by_hand(text, language, target, other):
    count = count_words(text, language)
    assert (count.target, count.other) == (target, other)
    assert language_share(text, language) == target / (target + other)


LEFT_OUT = {
    "numbers": "12 + 3.5 = 15,5 ⅔ ４",
    "a formula": r"$\frac{area}{base \cdot height}$",
    "formulas in brackets": r"\(x_{max} \le speed\) \[\text{distance} = v t\]",
    "an environment": r"\begin{aligned} total &= price \\ &= 4 \end{aligned}",
    "letters and functions": "x + y = sin(a) log b mod n, 3x",
    "inline code": "`total = price * count`",
    "fenced code": "```python\nfor item in items:\n    total += item.price * rate  # tax\nprint(total)\n```",
    "names of code": "isPrime is_prime x1 compute()",
    "addresses": "https://example.org/the/way/of/all/things?to=us www.example.org me@example.org",
    "tags": "<br/> <b>12</b>",
    "signs": "→ ∴ ✓ 😀 … —",
}


@pytest.mark.parametrize("text", LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_formulas_numbers_code_and_addresses_are_no_words(text):
    count = count_words(f"我们先写下这个三角形的面积 {text} 然后计算", "zh")
    assert count.other == 0 and count.target == count_words("我们先写下这个三角形的面积 然后计算", "zh").target


def test_names_in_another_script_do_not_count_but_sentences_of_capitals_do():
    named = "根据 Pythagoras 的定理，我们知道 John Neumann 的结果是正确的。"
    assert count_words(named, "zh").other == 0 and language_share(named, "zh") == 1.0
    shouted = "我们知道结果是正确的。 LET US NOW COMPUTE IT. Let Us Now Compute The Sum."
    assert count_words(shouted, "zh").other == 11
    listed = "我们 Alice 知道 Bob 结果 Carol 是 Dave 正确 Eve"  # five names for five words: three are excused
    assert count_words(listed, "zh")[:2] == (5, 2)


SENTENCE = "First we take the smaller number and add it to the larger one."
HIDDEN = "接下来我们需要计算这两个数字的乘积"
HIDING_PLACES = {
    "formula": "${}$", "display": "$${}$$", "bracket": r"\[{}\]", "text": r"$\text{{{}}}$", "inline code": "`{}`",
    "code": "```\n{}\n```", "open code": "```\n{}", "a comment": "```python\nx = 1\n# {}\n```",
    "an address": "https://{}", "environment": r"\begin{{equation}}{}\end{{equation}}",
    "invisible marks": "\u200b{}\u202e",
}


@pytest.mark.parametrize("place", HIDING_PLACES.values(), ids=HIDING_PLACES.keys())
def test_a_sentence_cannot_hide(place):
    in_the_open = language_share(f"{SENTENCE} {HIDDEN}", "en")
    assert in_the_open < 0.7
    assert language_share(f"{SENTENCE} {place.format(HIDDEN)}", "en") == in_the_open


def test_a_sentence_cannot_hide_piece_by_piece():
    """In formulas side by side, letter by letter, or word for word between Latin letters written in Cyrillic."""
    assert language_share(f"{SENTENCE} " + " ".join(f"${HIDDEN[at:at + 3]}$" for at in range(0, 18, 3)), "en") < 0.7
    assert language_share(f"{SENTENCE} $" + " ".join(HIDDEN) + "$", "en") < 0.7
    unseen = "\u200b".join("zuerst addieren wir beide Zahlen")
    assert count_words(f"{SENTENCE} {unseen}", "en").other == 5
    lines = "\n".join(HIDDEN[at:at + 3] for at in range(0, 18, 3))
    assert language_share(f"{SENTENCE}\n```\n{lines}\n```", "en") < 0.7
    german = SENTENCE + " Dаnn tеilеn wir аlles durсh drеi"  # with Cyrillic а, е and с, but for "wir"
    assert count_words(german, "de").target <= 1


NO_REWARD = {
    "nothing": "", "white space": " \n\t ", "only formulas": r"$x=1$ 3-8=-5, -5+4=-1 \(y\)",
    "only signs": "... !!! ???", "single letters": "a b c d e f g h i j k", "only code": "```\nx = 1\n```",
    "invisible": "\u200b\u200d\ufeff", "marks": "\u0301" * 100, "surrogates": "\ud800\udfff",
}


@pytest.mark.parametrize("text", NO_REWARD.values(), ids=NO_REWARD.keys())
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_text_without_words_is_worth_nothing(text, language):
    assert language_share(text, language) == 0.0


def test_a_few_words_are_worth_a_share_of_five():
    assert language_share("hence", "en") == 1 / 5
    assert language_share("hence the sum is odd", "en") == 1.0
    assert language_share("hence the 结果", "en") == 2 / 5


def test_a_loop_of_words_earns_no_more_than_its_words_once():
    assert language_share("the " * 1000, "en") == 1 / 5
    assert language_share("the sum " * 1000, "en") == 2 / 5
    foreign = "接下来我们需要计算这两个数字的乘积。"
    once = count_words(f"{SENTENCE} {foreign}", "en")
    padded = count_words(f"{SENTENCE} " * 100 + foreign, "en")
    assert padded.share < once.share + 0.05  # two more words, where the loop closes
    looped = count_words(SENTENCE + foreign * 100, "en")
    assert looped.other == 100 * once.other


def test_numbers_between_words_and_every_languages_own_letters_make_no_difference():
    assert language_share("first 3 minus 8 is -5 , then -5 plus 4 is -1", "en") == 1.0
    assert language_share("zuerst 3 minus 8 ist -5 , dann -5 plus 4 ist -1", "de") == 1.0
    assert language_share("zuerst 3 minus 8 ist -5 , then -5 plus 4 is -1", "de") == 0.5
    assert language_share("Ｆｉｒｓｔ ｗｅ ａｄｄ ｔｈｅ ｎｕｍｂｅｒｓ", "en") == 1.0


def test_names_and_odd_words_do_not_change_the_language_of_a_sentence():
    text = ("By the Cauchy-Schwarz inequality and a lemma of Bézout, Schrödinger's Gedankenexperiment gives a "
            "contradiction.")
    assert language_share(text, "en") == 1.0


def test_words_are_cut_by_dictionaries_where_no_spaces_are():
    assert [w.text for w in words("我们计算三角形的面积")] == ["我们", "计算", "三角形", "的", "面积"]
    assert [w.text for w in words("この三角形の面積を計算します")] == [
        "この", "三角形", "の", "面積", "を", "計算", "し", "ます"]
    assert [w.text for w in words("เรารู้คำตอบ")] == ["เรา", "รู้", "คำ", "ตอบ"]
    assert [w.text for w in words("d'abord x-axis don't 3rd café")] == ["d'abord", "axis", "don't", "café"]


def test_marks_without_partners_are_signs():
    assert prose("it costs $5 today") == "it costs $5 today"
    assert prose("a ` b \\( c") == "a ` b \\( c"
    assert "and then he paid" in prose("it costs $5 and then he paid $7")


def hostile(size: int) -> dict[str, str]:
    rng = random.Random(0)
    units = ["a", "我", "ก", "က", "カ", "가", "$", "`", "` ", "\\[", "\\begin{", "{", "a@", "a.", "a'", "a-", "\ud800",
             "\u0301\u0323", "\ufdfa", "1", " ", "\n", "\0", "我a", "http://", "x+", "a(", "....1", "$x$ ", "the die "]
    texts = {repr(unit): unit * (size // len(unit)) for unit in units}
    texts["distinct words"] = " ".join("".join(rng.choices("abcdefghij", k=5)) for _ in range(size // 6))
    texts["code points"] = "".join(chr(rng.randrange(0x110000)) for _ in range(size))
    return texts


HOSTILE = hostile(40_000)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_any_text_takes_time_in_proportion_to_its_length(text):
    language_share("Load the model of all the languages. 我们", "en")
    start = time.process_time()
    assert 0.0 <= language_share(text, "en") <= 1.0
    assert time.process_time() - start < 2.0  # 0.3 s; what was quadratic would take minutes


def test_the_reasoning_is_what_stands_between_the_think_tags():
    assert reasoning("<think> a </think> b <answer> c </answer>", PLAIN) == " a "
    assert reasoning("<think>a</think> b <think>c</think><answer>d</answer>", PLAIN) == "a\n b \nc"
    assert reasoning("<think>cut", PLAIN) == "cut" and reasoning("no tags", PLAIN) == ""
    inside = ChatTemplate(prompt="{{ question }}<think>", think_in_prompt=True)
    assert reasoning("a</think><answer>b</answer>", inside) == "a"
    assert reasoning("a<think>b</think>", inside) == "a\nb"


def problem(language: str | None) -> Problem:
    told = {"language": language} if language else {}
    return Problem("t", "3 - 8 =", "-5", metadata={"origin": "t.jsonl:3"} | told)


MIXTURE = "<think>Let us add the two numbers first. Zuerst addieren wir die beiden Zahlen.</think><answer>-5</answer>"


def test_the_judge_pays_for_language_what_the_recipe_says():
    with Judge(RewardConfig(language=0.5, target_language="de"), PLAIN) as judge:
        (score,) = judge.score([(problem(None), MIXTURE)])
    assert score.parts == {"accuracy": 1.0, "format": 1.0, "language": 6 / 13}
    assert score.total == pytest.approx(2 + 3 / 13)
    with Judge(RewardConfig(language=0.0), PLAIN) as judge:  # measured, not paid
        (score,) = judge.score([(problem(None), MIXTURE)])
    assert score.parts["language"] == 7 / 13 and score.total == 2.0
    with Judge(RewardConfig(), PLAIN) as judge:
        assert "language" not in judge.score([(problem(None), MIXTURE)])[0].parts


def test_each_problem_may_have_its_own_language():
    with Judge(RewardConfig(language=1.0, target_language="problem"), PLAIN) as judge:
        english, german = judge.score([(problem("en"), MIXTURE), (problem("de"), MIXTURE)])
        assert (english.parts["language"], german.parts["language"]) == (7 / 13, 6 / 13)
        with pytest.raises(UserError, match=r't\.jsonl:3 tells no language.*fields\.language'):
            judge.score([(problem(None), MIXTURE)])


def test_recipes_know_the_languages_that_can_be_told_apart():
    assert set(get_args(Language)) == set(FAMILY_OF)


def test_checking_processes_do_not_load_the_models_of_languages():
    import subprocess
    import sys

    code = "import sys, r1mega.reward.worker; print([m for m in sys.modules if m.startswith(('py3langid', 'icu4py'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]"
