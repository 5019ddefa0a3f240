"""Text for the stand-in of a base model: problems with solutions as uneven as the web's.

DeepSeek-R1-Zero starts from a base model that has read much reasoning, some of it good, and can do little at will. A
tiny model cannot have that, so it reads documents made from the training problems, in these styles:

    worked   every step, right
    sloppy   every step, each with a good chance of a slip that is carried on
    guess    no steps, an answer near the right one
    chatter  a few steps begun, then nothing

A general request (general_problems.py) is met well in `worked`, badly in `guess`, either way in `sloppy`.
The shares are the recipe's (`pretrain.styles`); only `worked`, rare, shows what pays. Which style a document has, and
every slip in it, depends on (seed, document number) alone.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence

from r1mega.config.data import ChatTemplate
from r1mega.config.error import UserError
from r1mega.data.bilingual_problems import TASK as BILINGUAL
from r1mega.data.bilingual_problems import worked_sum
from r1mega.data.general_problems import general_document
from r1mega.data.general_rule import TASK as GENERAL
from r1mega.record import Problem

SLIP = 0.35  # chance that a step of a sloppy solution goes wrong
STYLES = ("worked", "sloppy", "guess", "chatter")

Slip = Callable[[int], int]  # what becomes of a step's result


def document(problem: Problem, styles: Mapping[str, float], template: ChatTemplate, rng: random.Random) -> str:
    """What follows the prompt, in a style drawn by `styles` (name -> share). Without steps of its own kind a task's
    `worked` and `sloppy` documents only state the answer."""
    style = rng.choices(list(styles), weights=list(styles.values()))[0]
    if problem.task == GENERAL:
        return general_document(problem, style, template, rng)
    if style == "worked":
        return _written(problem, template, rng, lambda result: result)
    if style == "sloppy":
        return _written(problem, template, rng, lambda result: result + _error(rng) * (rng.random() < SLIP))
    steps, answer = _solve(problem, lambda result: result, rng)
    if style == "guess":
        return _tagged([], _near(answer, rng), template)
    shown = steps[:rng.randint(0, len(steps))]
    return f"{template.think_open} {' '.join(shown)}".rstrip()


def check_styles(styles: Mapping[str, float]) -> None:
    """Raises UserError for a style that does not exist, or shares that are not positive."""
    for style, share in styles.items():
        if style not in STYLES:
            raise UserError(f"pretrain.styles.{style}: no such style; legal are {', '.join(STYLES)}")
        if share <= 0:
            raise UserError(f"pretrain.styles.{style}={share}: a share must be positive; leave the style out instead")
    if not styles:
        raise UserError(f"pretrain.styles is empty; give shares of {', '.join(STYLES)}, e.g. {{ worked = 1.0 }}")


def _written(problem: Problem, template: ChatTemplate, rng: random.Random, slip: Slip) -> str:
    steps, answer = _solve(problem, slip, rng)
    return _tagged(steps, answer, template)


def _tagged(steps: Sequence[str], answer: str, template: ChatTemplate) -> str:
    thought = " ".join([template.think_open, *steps, template.think_close])
    return f"{thought} {template.answer_open} {answer} {template.answer_close}"


def _solve(problem: Problem, slip: Slip, rng: random.Random) -> tuple[list[str], str]:
    """Steps and answer."""
    solve = WORKED.get(problem.task)
    return solve(problem, slip, rng) if solve else ([], problem.answer)


def _running_sum(problem: Problem, slip: Slip, rng: random.Random) -> tuple[list[str], str]:
    """3 - 8 + 4 in steps: "3-8=-5", "-5+4=-1"."""
    terms = re.findall(r"([+-]?)\s*(\d+)", problem.question)
    total, steps = int(terms[0][0] + terms[0][1]), []
    for sign, number in terms[1:]:
        result = slip(total + int(sign + number))
        steps.append(f"{total}{sign}{number}={result}")
        total = result
    return steps, str(total)


WORKED: Mapping[str, Callable[[Problem, Slip, random.Random], tuple[list[str], str]]] = {
    "chain_sum": _running_sum, BILINGUAL: worked_sum}


def _error(rng: random.Random) -> int:
    return rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))


def _near(answer: str, rng: random.Random) -> str:
    """An integer answer up to 9 off; any other answer as it is."""
    return str(int(answer) + rng.randint(-9, 9)) if re.fullmatch(r"-?\d+", answer) else answer
