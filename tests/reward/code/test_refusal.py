"""Machines that offer no isolation: the run does not start, and says so; each is a user namespace without room for
others, which only root of a machine that has some can set up."""

import os
import subprocess
import sys

import pytest

from r1mega.config.data import ChatTemplate
from r1mega.config.rl import CodeConfig, RewardConfig
from r1mega.reward import Judge
from r1mega.reward.code import CodeChecker
from tests.reward.code.programs import demand_isolation, stdin_problem

SQUARE = stdin_problem(("3\n", "9\n"))
RIGHT = "print(int(input()) ** 2)"
ASK = """
import sys
from r1mega.config import UserError
from r1mega.config.data import ChatTemplate
from r1mega.config.rl import CodeConfig, RewardConfig
from r1mega.reward import Judge
from tests.reward.code.programs import stdin_problem
problem = stdin_problem(("3\\n", "9\\n"))
try:
    with Judge(RewardConfig(code=CodeConfig(sandbox=sys.argv[1])), ChatTemplate(), {"code"}) as judge:
        print(judge.score([(problem, "<answer>print(9)</answer>")])[0].parts["accuracy"])
except UserError as error:
    print("refused", error)
"""
FULL = "echo 0 > /proc/sys/user/max_user_namespaces && exec "
# A user of its own without privileges; root without room for another user namespace; a user without room
ROOT_ALONE = ["unshare", "--user", "--map-root-user", "sh", "-c", FULL + '"$@"', "sh"]
USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


def ask(prefix: list[str], sandbox: str) -> str:
    command = [*prefix, sys.executable, "-c", ASK, sandbox]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def demand_unshare() -> None:
    demand_isolation()
    for prefix in (ROOT_ALONE, USER):
        done = subprocess.run([*prefix, "true"], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"NOT TESTED: {' '.join(prefix[:3])}: {done.stderr.strip()}")


def test_an_ordinary_user_without_privileges_gets_walls() -> None:
    demand_unshare()
    assert ask(USER, "required") == "1.0"


def test_a_machine_without_isolation_is_refused_in_one_line_with_reason_and_fix() -> None:
    demand_unshare()
    said = ask(ROOT_ALONE, "required")
    assert said.startswith('refused reward.code.sandbox="required": programs cannot be confined here (user ')
    assert "No space left on device" in said and "root namespaces: " in said
    assert said.endswith('or let them do what they like with reward.code.sandbox="none-i-accept-the-risk"')
    assert "\n" not in said


def test_the_recipe_can_accept_the_risk_in_words() -> None:
    demand_unshare()
    assert ask(ROOT_ALONE, "none-i-accept-the-risk") == "1.0"


def test_without_walls_programs_are_still_judged_limited_and_cleaned_up() -> None:
    config = CodeConfig(sandbox="none-i-accept-the-risk", timeout_s=0.5, memory_mb=128)
    where = stdin_problem(("", "gone\n"))
    with CodeChecker(config, workers=1) as checker:
        programs = [(SQUARE, RIGHT), (SQUARE, "print(9)\nprint(9)"), (SQUARE, "while True: pass"),
                    (where, "import os\nprint('there' if os.path.exists('left') else 'gone')\nopen('left', 'w')")]
        verdicts = checker.check([*programs, programs[-1], programs[0]])
    assert [verdict.right for verdict in verdicts] == [True, False, False, True, True, True]
    assert verdicts[2].note == "test 1 of 1: timed out after 0.5 s"


def test_no_sandbox_is_asked_for_where_no_problem_is_code() -> None:
    with Judge(RewardConfig(), ChatTemplate(), {"exact"}) as judge:
        assert judge._code is None
