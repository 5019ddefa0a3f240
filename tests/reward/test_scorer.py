"""Right and wrong, and that no rule runs what a model wrote."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from r1mega.config.data import DataConfig, ReasoningGymSource
from r1mega.data import load_problems
from r1mega.reward import scorer
from r1mega.reward.own_rules import OWN_RULES, is_number_game
from r1mega.reward.rubric import weigh
from r1mega.reward.safe_expression import parse_expression
from r1mega.reward.scorer import Check, judge, load_scorer


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    load_scorer("reasoning_gym")
    load_scorer("math")


def problems_of(task: str, size: int = 3, **options):
    return load_problems(
        DataConfig(sources=[ReasoningGymSource(task=task, size=size, options=options)]), Path()
    )


def check_of(problem, answer: str) -> Check:
    """As it arrives in a worker: through JSON."""
    return Check(*json.loads(json.dumps(Check(problem.scorer, problem.task, problem.question, problem.answer,
                                              problem.metadata, answer))))


def maths(expected: str, answer: str) -> bool:
    return judge(Check("math", "m", "q", expected, {}, answer)).right


def all_tasks() -> list[str]:
    from reasoning_gym.factory import DATASETS

    slow = {"knight_swap", "futoshiki", "composite"}  # seconds for a problem
    return sorted(set(DATASETS) - slow)


def test_every_task_of_the_library_accepts_its_own_answers_and_refuses_others():
    """The entry's way through JSON and a rebuilt task must not change what the library's scorer says."""
    import reasoning_gym

    without_answers = []
    for task in all_tasks():
        problem, = problems_of(task, size=1)
        dataset = reasoning_gym.create_dataset(task, size=1, seed=0)
        if problem.metadata.get("no_answer"):
            without_answers.append(task)
        else:
            says = dataset.score_answer(problem.answer, dataset[0])
            assert judge(check_of(problem, problem.answer)).right == (says == 1.0), task
            assert says == 1.0, task
        assert not judge(check_of(problem, "certainly not this")).right, task
        assert not judge(check_of(problem, "")).right, task
    assert without_answers == ["boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"]


def test_a_partial_score_is_wrong_and_said():
    problem = problems_of("chain_sum")[0]
    hedged = judge(check_of(problem, f"{problem.answer} or 1000000"))
    assert not hedged.right and re.search(r"partial score 0\.\d+ counts as wrong", hedged.note)
    assert judge(check_of(problem, problem.answer + ".0")).right  # the task's scorer reads numbers


def test_options_of_the_task_reach_its_scorer():
    """decimal_arithmetic accepts an error of one unit in its last place."""
    problem, = problems_of("decimal_arithmetic", size=1, min_num_decimal_places=1, max_num_decimal_places=1)
    near = str(Decimal(problem.answer) + Decimal("0.1"))
    assert judge(check_of(problem, near)).right
    fine, = problems_of("decimal_arithmetic", size=1, min_num_decimal_places=3, max_num_decimal_places=3)
    assert not judge(check_of(fine, str(Decimal(fine.answer) + Decimal("0.1")))).right


@pytest.mark.parametrize(
    ("expected", "answer", "right"),
    [
        ("1/3", "\\frac{1}{3}", True),
        ("1/3", "\\frac13", True),
        ("1/3", "2/6", True),
        ("1/3", "0.333", False),
        ("\\frac{1}{3}", "1/3", True),
        ("$\\frac{1}{3}$", "\\boxed{1/3}", True),
        ("3", "3", True),
        ("3", "-3", False),
        ("3", "\u22123", False),
        ("-3", "\u22123", True),
        ("1000", "1,000", True),
        ("2\\sqrt{2}", "\\sqrt{8}", True),
        ("x+1", "1+x", True),
        ("x+1", "x-1", False),
        ("\\{1,2\\}", "\\{2,1\\}", True),
        ("(1,2)", "(2,1)", False),
        ("3", "", False),
        ("3", "three", False),
        ("3", "\\frac{3", False),
        ("3", "3 or 4", False),
    ],
)
def test_maths_is_compared_by_value(expected, answer, right):
    assert maths(expected, answer) == right


def test_an_expected_answer_that_is_no_maths_is_compared_as_text_and_said():
    assert judge(Check("math", "m", "q", "$$", {}, "$$")).note.endswith("compared as text")


def test_exact_means_equal_up_to_white_space():
    assert judge(Check("exact", "t", "q", "a  b", {}, " a\nb ")).right
    assert not judge(Check("exact", "t", "q", "a b", {}, "ab")).right
    with pytest.raises(ValueError, match="legal: reasoning_gym, math, exact"):
        judge(Check("guess", "t", "q", "a", {}, "a"))


ATTACKS = [
    "__import__('os').system('touch {mark}')",
    "exec('import os; os.mkdir(\"{mark}\")')",
    "open('{mark}', 'w')",
    "[open('{mark}', 'w')]",
    "(lambda: open('{mark}','w'))()",
    "().__class__.__base__.__subclasses__()",
    "eval(chr(49))",
    "print(1)",
    "breakpoint()",
    "x.diff",
    "preview(x)",
    "lambdify(x, x)",
    "getattr(x, x)",
    "print_gtk(x)",
    "pager_print(x)",
    "plot_implicit(x)",
    "(x for x in x)",
    "integrate(x, x)",
    "Integral(x, x)",
    "expand((x + 1)*(x + 2))",
    "S(x)",
    "f(x)",
    "nan",
]


@pytest.mark.parametrize(
    "task",
    [
        "simple_integration",
        "intermediate_integration",
        "polynomial_multiplication",
        "puzzle24",
        "countdown",
        "n_queens",
        "spiral_matrix",
        "binary_matrix",
        "string_insertion",
    ],
)
def test_tasks_whose_scorers_evaluate_answers_run_nothing(task, tmp_path):
    problem = problems_of(task, size=1)[0]
    for attack in ATTACKS:
        assert not judge(check_of(problem, attack.replace("{mark}", str(tmp_path / "mark")))).right
    assert not (tmp_path / "mark").exists()
    assert judge(check_of(problem, problem.answer)).right


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_expression_that_is_more_than_one_is_refused(attack):
    with pytest.raises(ValueError, match="expression"):
        parse_expression(attack)


NUMBERS, TARGET = [66, 34, 98, 54, 6], 164
ZERO = "0*(66 + 34 + 98 + 54 + 6)"


@pytest.mark.parametrize("forged", [
    f"164 + {ZERO}",
    f"164e0 + 0e0*{ZERO[2:]}",
    f"0xa4 + 0x0*{ZERO[2:]}",
    f"164.0 + 0.0*{ZERO[2:]}",
    f"1_64 + 0_0*{ZERO[2:]}",
    "66 + 98 + 0*(34 + 54 + 6)",
    "66 + 98 + (34 - 54 - 6)*(x - x)",
    "66 + 98 + Mul(34 + 54 + 6, Float(0))",
    "66 + 98 + cos(34 + 54 + 6) - cos(34 + 54 + 6)",
    "66 + 98 + 34//54//6",
    "66 + 98 + 34 % (54 + 6) - 34",
    "66 + 98 + (34 + 54 + 6)**-99",
    "66 + 98 + 34/(54**6)",
    "66 + 98, 34, 54, 6",
    "66 + 98",
    "66 + 98 + 34 + 54 + 6",
    "\N{ARABIC-INDIC DIGIT ONE}64 + 0*(66 + 34 + 98 + 54 + 6)",
    "164",
    "",
])
def test_countdown_takes_nothing_but_its_numbers_once_each(forged):
    problem = Check("reasoning_gym", "countdown", "q", "98 + 66", {"entry": {"numbers": NUMBERS, "target": TARGET},
                                                                   "options": {}}, forged)
    assert not judge(problem).right


@pytest.mark.parametrize(("answer", "right"), [
    ("(8 - 4)*6*1", True), ("-1*-6*(8 - 4)", True), ("6*8/(1 + 4/4)", False), ("(8-4) * 6 / 1", True),
    ("8*3*1*1", False),  # four numbers, but not these
    ("8*4 - 6 - 1", False), ("8*4 - 6 - 1 - 1", False), ("(8 + 4)*(1 + 6/6)", False),
    ("4*6 + 1/8", False),  # 24.125, of which int() leaves 24
    ("8 + 4*4", False), ("24", False), ("(6*4)*1**8", False),
])
def test_puzzle24_takes_nothing_but_its_numbers_once_each(answer, right):
    problem = Check("reasoning_gym", "puzzle24", "q", "(8 - 4)*6*1",
                    {"entry": {"numbers": [8, 4, 6, 1]}, "options": {}}, answer)
    assert judge(problem).right == right


@pytest.mark.parametrize("task", ["countdown", "puzzle24"])
def test_every_answer_that_the_library_makes_for_a_number_game_is_right(task):
    for problem in problems_of(task, size=100):
        assert judge(check_of(problem, problem.answer)).right, problem.answer


def test_a_number_game_is_exact():
    assert is_number_game("1/3*3", [1, 3, 3], 1)
    assert not is_number_game("9007199254740993 + 0", [9007199254740993, 0], 9007199254740992)


@pytest.mark.parametrize("task", ["simple_integration", "intermediate_integration"])
def test_an_integral_left_to_sympy_is_no_answer(task):
    for problem in problems_of(task, size=5):
        entry = problem.metadata["entry"]
        for name in ("integrate", "Integral", "manualintegrate", "antiderivative"):
            assert not judge(check_of(problem, f"{name}({entry['integrand']}, {entry['variable']})")).right


def test_a_product_left_to_sympy_is_no_answer():
    for problem in problems_of("polynomial_multiplication", size=5):
        product = problem.metadata["entry"]["polynomial_expr"]
        for name in ("expand", "expand_mul", "simplify", "Poly", "together", "sympify", "S", "N", "pow"):
            assert not judge(check_of(problem, f"{name}({product})")).right


def test_the_beginning_of_a_probability_is_not_the_probability():
    for problem in problems_of("coin_flip", size=20):
        assert not judge(check_of(problem, "0")).right
        assert not judge(check_of(problem, "0.")).right
        assert judge(check_of(problem, problem.answer)).right
    half = Check("reasoning_gym", "coin_flip", "q", "0.3125", {"entry": {}, "options": {}}, "5/16")
    assert judge(half).right


NOTHINGS = ["nan", "NaN", "nanj", "(nan)", "nan+nanj", "inf", "-inf", "Infinity", "1e999", "-1e999", "null", "[]", "{}",
            "[[]]", '""', "true", "None", "0e0", "snan", "0*x", "zoo",
            *("[" + ", ".join(["NaN"] * length) + "]" for length in range(1, 10)),
            *("[" + ", ".join(["'nan'"] * length) + "]" for length in range(1, 10))]


def test_no_task_of_the_library_takes_an_answer_that_says_nothing():
    """Not a number is within every tolerance for some comparisons, and an empty list holds no mistake."""
    slow = {"rearc", "arc_agi", "jugs", "rush_hour", "sokoban"}
    for task in sorted(set(all_tasks()) - slow):
        problem, = problems_of(task, size=1)
        for nothing in NOTHINGS:
            assert nothing == problem.answer or not judge(check_of(problem, nothing)).right, (task, nothing)


def test_expressions_of_arithmetic_and_calculus_are_read():
    import sympy

    x = sympy.Symbol("x")
    assert parse_expression("2*x**3*sin(x) + sqrt(x)/3 - pi + C", local_dict={"x": x}).diff(
        x
    ) == sympy.sympify("2*x**3*cos(x) + 6*x**2*sin(x) + 1/(6*sqrt(x))")
    assert parse_expression("(8 - 4) * 6") == 24


def test_no_module_of_the_library_evaluates_answers_that_we_do_not_know_of():
    """A new version with another eval() must be seen here before a model finds it."""
    import reasoning_gym

    never_called = {f"games.{task}" for task in ("puzzle24", "countdown") if task in OWN_RULES}
    known = {*scorer.EVALUATES_LITERALS, *scorer.PARSES_WITH_SYMPY, *never_called}
    of_its_own_texts = {
        "algorithmic.number_sorting",
        "arithmetic.basic_arithmetic",
        "arithmetic.bitwise_arithmetic",
        "arithmetic.gsm_symbolic.generators_00_49",
        "arithmetic.gsm_symbolic.generators_50_99",
        # problems or expected answers, never a model's
        "code.codeio",
        "logic.propositional_logic",
    }
    root = Path(reasoning_gym.__file__).parent
    found = {
        str(path.relative_to(root).with_suffix("")).replace("/", ".")
        for path in root.rglob("*.py")
        if re.search(r"(?<![\w.])eval\(|\bexec\(|parse_expr\(|sympify\(", path.read_text(encoding="utf-8"))
        and "contrib" not in path.parts
    }
    assert found - of_its_own_texts == known


def test_the_rubric_keeps_its_parts_unweighted():
    score = weigh({"accuracy": 1.0, "format": 0.5}, {"accuracy": 2.0, "format": 3.0}, {"format": "half"})
    assert (
        score.total == 3.5
        and score.parts == {"accuracy": 1.0, "format": 0.5}
        and score.notes == {"format": "half"}
    )
    with pytest.raises(ValueError, match="same names"):
        weigh({"accuracy": 1.0}, {"accuracy": 1.0, "format": 1.0}, {})
