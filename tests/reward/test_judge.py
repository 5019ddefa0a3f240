"""The judge among hostile answers, dying workers and a dying parent. Time limits here are of CPU, so a busy
machine makes these tests slower, not different."""

import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import pytest

from r1mega.config.data import ChatTemplate, DataConfig, ReasoningGymSource
from r1mega.config.rl import RewardConfig
from r1mega.data import load_problems
from r1mega.record import Problem
from r1mega.reward import Judge
from r1mega.reward.process_pool import _Worker

TEMPLATE = ChatTemplate()
CONFIG = RewardConfig(timeout_s=0.2, workers=2, memory_mb=300)


def completion(answer: str) -> str:
    return f"<think>so</think><answer>{answer}</answer>"


def maths(expected: str) -> Problem:
    return Problem("m", f"What is {expected}?", expected, scorer="math")


def sums(size: int) -> list[Problem]:
    source = ReasoningGymSource(task="chain_sum", size=size, options={"max_terms": 3, "max_digits": 2})
    return load_problems(DataConfig(sources=[source]), Path())


@pytest.fixture(scope="module")
def judge():
    with Judge(CONFIG, TEMPLATE, ["math", "reasoning_gym"]) as one:
        yield one


def accuracies(judge: Judge, items) -> list[float]:
    return [score.parts["accuracy"] for score in judge.score(items)]


def tower(height: int) -> str:
    return "9" if height == 0 else f"9^{{{tower(height - 1)}}}"


HOSTILE = {
    "a power tower in Python": "9**9**9**9",
    "two floors of it": "9**9**9",
    "a power tower in LaTeX": "9^{9^{9^{9}}}",
    "ten floors": tower(10),
    "a factorial": "(10^9)!",
    "another": "99999999!",
    "in Python": "(10**9)!",
    "a shift": "1<<99999999999",
    "a long sum": "\\sum_{i=1}^{10^7} i",
    "a long product": "\\prod_{i=1}^{10^6} i",
    "an integral": "\\int_0^1 x^{x^{x^{x}}} dx",
    "a binomial": "\\binom{10^9}{5*10^8}",
    "a root": "\\sqrt[10^9]{2^{10^9}}",
    "a decimal exponent": "1e999999999",
    "a negative one": "1e-999999999",
    "brackets": "(" * 900 + "3" + ")" * 900,
    "curly ones": "{" * 900 + "3" + "}" * 900,
    "open ones": "(" * 1900,
    "fractions": "\\frac{1}{" * 200 + "3" + "}" * 200,
    "roots": "\\sqrt{" * 250 + "3" + "}" * 250,
    "a broken fraction": "\\frac{3",
    "a broken environment": "\\begin{matrix} 3 & \\\\",
    "backslashes": "\\" * 1999,
    "dollars": "$" * 1999,
    "boxes": "\\boxed{" * 200,
    "a set": "\\{" + ",".join(map(str, range(480))) + "\\}",
    "a megabyte of digits": "9" * 1_000_000,
    "2,000 digits": "9" * 2000,
    "a megabyte of spaces": "3" + " " * 1_000_000 + "4",
    "full-width": "\uff13",
    "Arabic-Indic": "\u0663",
    "superscript": "\u00b3",
    "turned around": "\u202e3\u202c",
    "zero-width": "\u200b3\u200b",
    "a NUL": "3\x00",
    "a lone surrogate": "3\ud800",
    "combining marks": "3" + "\u0301" * 1000,
    "emoji": "\U0001f600" * 500,
    "newlines": "\n" * 1000 + "4",
    "code": "__import__('os').system('false')",
    "a tag": "<answer>4",
    "nothing": "",
    "infinity": "\\infty",
    "not a number": "nan",
    "a huge polynomial": "(x+1)^{100000}",
    "a trigonometric tower": "\\sin(\\sin(" * 100 + "x" + "))" * 100,
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_is_wrong_and_the_next_one_right(judge, answer):
    hostile, right = judge.score([(maths("4/7"), completion(answer)), (maths("4/7"), completion("8/14"))])
    assert hostile.parts["accuracy"] == 0.0
    assert right.parts == {"accuracy": 1.0, "format": 1.0}


def test_the_same_answers_do_no_harm_to_a_task_of_reasoning_gym(judge):
    problem = sums(1)[0]
    items = [(problem, completion(answer)) for answer in HOSTILE.values()] + [
        (problem, completion(problem.answer))
    ]
    assert accuracies(judge, items) == [0.0] * len(HOSTILE) + [1.0]


def test_forty_eight_poisoned_answers_leave_sixteen_right_ones_right(judge):
    poison = [(maths("1/3"), completion(f"9^{{9^{{9^{{{height}}}}}}}")) for height in range(10, 58)]
    right = [(maths(f"{n}/7"), completion(f"{2 * n}/14")) for n in range(1, 17)]
    items = poison + right
    random.Random(0).shuffle(items)
    scores = judge.score(items)
    for (problem, _), score in zip(items, scores, strict=True):
        assert score.parts["accuracy"] == (0.0 if problem.answer == "1/3" else 1.0)
        assert ("timed out after 0.2 s of CPU" in score.notes.get("accuracy", "")) == (
            problem.answer == "1/3"
        )


def test_memory_and_files_are_limited_and_an_answer_that_wants_more_is_wrong(judge):
    """A pair repeated 2 * 10^8 times would take 3.2 GB, of which 300 MB are allowed."""
    source = ReasoningGymSource(task="simple_integration", size=1)
    problem, = load_problems(DataConfig(sources=[source]), Path())
    assert accuracies(judge, [(problem, completion("(1, 2)*200000000")),
                              (problem, completion(problem.answer))]) == [0.0, 1.0]
    for worker in children_of(judge._pool._nursery.pid):
        end = time.monotonic() + 60
        while (limits := limits_of(worker))["Max file size"] != "0":  # the second one may still be starting
            assert time.monotonic() < end
            time.sleep(0.05)
        assert int(limits["Max address space"]) < 1.5e9 and limits["Max core file size"] == "0"


def limits_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/limits").read_text()
    return dict(re.findall(r"^(Max [a-z ]+?)  +(\S+)", text, re.MULTILINE))


def test_scores_come_in_the_order_of_the_items_and_the_same_every_time(judge):
    problems = sums(300)
    items = [(p, completion(p.answer if n % 3 else str(n))) for n, p in enumerate(problems)]
    expected = [float(n % 3 > 0 or p.answer == str(n)) for n, p in enumerate(problems)]
    assert accuracies(judge, items) == expected
    assert accuracies(judge, items[::-1]) == expected[::-1]
    with Judge(CONFIG.model_copy(update={"workers": 1}), TEMPLATE) as alone:
        assert alone.score(items) == judge.score(items)


def test_parts_notes_and_weights(judge):
    with Judge(RewardConfig(accuracy=2.0, format=0.5, max_answer_chars=10), TEMPLATE) as weighted:
        problem = Problem("t", "q", "a b", scorer="exact")
        right, bare, missing, long = weighted.score([
            (problem, completion(" a\n b")), (problem, "<answer>a b</answer>"), (problem, "a b"),
            (problem, completion("a b" + "x" * 10))])
    assert (right.total, right.parts, right.notes) == (2.5, {"accuracy": 1.0, "format": 1.0}, {})
    assert (bare.total, bare.parts) == (2.0, {"accuracy": 1.0, "format": 0.0})
    assert (missing.total, missing.notes) == (0.0, {"accuracy": "no answer"})
    assert long.total == 0.5 and "13 characters, more than max_answer_chars=10" in long.notes["accuracy"]


def test_the_recipe_says_whether_a_summary_around_the_answer_has_the_form():
    item = Problem("t", "q", "a b", scorer="exact"), "<think>so</think>It is <answer>a b</answer>."
    for form, earned in (("answer", 0.0), ("summary", 1.0)):
        with Judge(RewardConfig(form=form), TEMPLATE) as judge:
            assert judge.score([item])[0].parts == {"accuracy": 1.0, "format": earned}


def test_no_items_are_no_scores(judge):
    assert judge.score([]) == []


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def start_of(pid: int) -> str | None:
    """What tells a process from a later one of the same number; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def wait_until_gone(pids: dict[int, str | None], limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while any(start is not None and start_of(pid) == start for pid, start in pids.items()):
        assert time.monotonic() < end, f"still there: {pids}"
        time.sleep(0.05)


@pytest.mark.parametrize("victim", ["a worker", "every worker", "the nursery"])
def test_processes_killed_in_the_middle_cost_nothing(judge, victim):
    """Killed by someone else, not by an answer: whatever they had not answered is checked again."""
    problems = sums(4000)
    items = [(p, completion(p.answer)) for p in problems]
    assert accuracies(judge, items[:10]) == [1.0] * 10
    nursery = judge._pool._nursery.pid
    victims = {
        "a worker": children_of(nursery)[:1],
        "every worker": children_of(nursery),
        "the nursery": [nursery],
    }[victim]

    def strike():
        time.sleep(0.05)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    striker = threading.Thread(target=strike)
    striker.start()
    result = accuracies(judge, items)
    striker.join()
    assert result == [1.0] * len(items)
    assert accuracies(judge, items[:10]) == [1.0] * 10
    assert len(children_of(judge._pool._nursery.pid)) == CONFIG.workers
    wait_until_gone({pid: None for pid in victims})


def test_a_worker_that_is_stopped_is_replaced():
    """SIGSTOP, not death: the wall limit behind the CPU limit finds it."""
    with Judge(CONFIG.model_copy(update={"workers": 1, "timeout_s": 0.1}), TEMPLATE) as judge:
        judge._pool._wall_s = 1.0
        assert accuracies(judge, [(maths("1/2"), completion("2/4"))]) == [1.0]
        os.kill(children_of(judge._pool._nursery.pid)[0], signal.SIGSTOP)
        stuck, right = judge.score([(maths("1/3"), completion("2/6")), (maths("1/5"), completion("2/10"))])
    assert stuck.notes["accuracy"] == "timed out after 1 s" and right.parts["accuracy"] == 1.0


@pytest.mark.parametrize("line", [b"5", b"[true]", b"[1, 2, 3]", b"null", b"{}", b"true", b"nonsense", b"\xff"])
def test_a_worker_that_writes_nonsense_is_replaced(judge, line):
    pool = judge._pool
    assert accuracies(judge, [(maths("1/2"), completion("2/4"))]) == [1.0]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(line + b"\n")
        mad = _Worker(pid=0, channel=ours, indices=deque([0]))
        assert pool._receive(mad, [None]) is False


PARENT = """
import sys, time
from r1mega.config.data import ChatTemplate
from r1mega.config.rl import RewardConfig
from r1mega.record import Problem
from r1mega.reward import Judge
from r1mega.reward.process_pool import _Worker
judge = Judge(RewardConfig(timeout_s=600.0), ChatTemplate(), ["math"]).__enter__()
judge.score([(Problem("m", "q", "1/2", scorer="math"), "<answer>1/2</answer>")])
print(judge._pool._nursery.pid, flush=True)
judge.score([(Problem("m", "q", "1/2", scorer="math"), "<answer>9^{9^{9^{9}}}</answer>")])
"""


def test_workers_die_with_their_parent_even_in_the_middle_of_a_check():
    environment = {**os.environ, "SECRET_TOKEN": "canary"}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        nursery = int(parent.stdout.readline())
        family = [nursery, *children_of(nursery)]
        assert len(family) == 3
        for pid in family:
            assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()
            assert "torch" not in Path(f"/proc/{pid}/maps").read_text()
        starts = {pid: start_of(pid) for pid in family}
        parent.kill()
    wait_until_gone(starts)


def test_leaving_the_judge_leaves_no_process():
    with Judge(CONFIG, TEMPLATE) as judge:
        judge.score([(maths("1/2"), completion("1/2"))])
        nursery = judge._pool._nursery.pid
        starts = {pid: start_of(pid) for pid in [nursery, *children_of(nursery)]}
        assert len(starts) == 3 and None not in starts.values()
    wait_until_gone(starts)


def test_exact_answers_need_no_process():
    with Judge(CONFIG, TEMPLATE, ["exact"]) as judge:
        assert accuracies(judge, [(Problem("t", "q", "7"), completion("7"))]) == [1.0]
        assert judge._pool._nursery is None


def test_two_thousand_short_answers_take_the_trainer_half_a_second_of_cpu(judge):
    """The goal is 2,000 checks a second on two cores; measured on an idle one: 14,000."""
    problems = sums(2000)
    items = [(p, completion(str(n))) for n, p in enumerate(problems)]
    judge.score(items[:100])
    before = os.times()
    judge.score(items)
    ours = os.times().user + os.times().system - before.user - before.system
    assert ours < 0.5


def test_a_trainer_with_a_thousand_open_files_is_answered():
    """Those that start answer checkers inherit the number of their socket, and select() knows none beyond 1,023."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[1], 4096), before[1]))
    opened = []
    try:
        while not opened or opened[-1] < 1100:
            opened.append(os.dup(0))
        with Judge(CONFIG, TEMPLATE) as judge:
            assert accuracies(judge, [(maths("1/2"), completion("2/4"))]) == [1.0]
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
