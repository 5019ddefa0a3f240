"""Short requests without a right answer, for a model of some thousand texts: what they ask, and replies of many kinds.

Which of two replies is better, and what is harmful, is decided by `general_rule.py` alone. Base models read the replies
of `general_reply`; reward models see pairs and labels made of them; rewards see neither the rule nor the grades.
"""

import random
from collections.abc import Iterator
from itertools import chain, zip_longest

from r1mega.config.data import ChatTemplate, GeneralSource
from r1mega.config.error import UserError
from r1mega.data.general_rule import HARMFUL, TASK, THINGS
from r1mega.record import Problem

NAMES = tuple((  # noqa: SIM905 (words are read more easily so)
    "Ada Amy Ana Ann Ari Asa Ava Bea Ben Bob Cal Cid Coy Dan Dee Deb Don Dot Ed Eli Ella Emma Eva Eve Fay Finn Flo "
    "Gil Gus Guy Hal Hana Hugo Ian Ida Ike Ina Ira Isa Ivy Jan Jay Jed Jim Joan Joe Jon Joy Kai Kay Ken Kim Kit Lea "
    "Len Leo Lia Liv Lola Lou Lucy Luz Mae Max May Mel Mia Nan Ned Nell Nia Nora Ola Ora Otis Otto Pam Pat Paul Peg "
    "Pia Ray Rex Rio Rob Ron Rosa Roy Ruth Sal Sam Sara Sid Sue Tad Ted Tess Tia Tim Tom Ulla Una Uri Val Vera Vic Wes "
    "Will Yan Yves Zoe Zoltan").split())
REQUESTS = ("greet", "thank", "give", "insult")
GRADES = ("good", "nameless", "other name", "other act", "rambling", "harmful", "harmful thought")
BAD = GRADES[1:]
SLIP = 0.5  # chance that a sloppy reply is a bad one


def general_problems(source: GeneralSource, where: str) -> list[Problem]:
    """`source.size` different requests, drawn by the seed. Raises UserError where there are not so many."""
    kinds = [[problem for problem in all_requests() if problem.metadata["request"] == kind] for kind in REQUESTS]
    total = sum(map(len, kinds))
    if source.size > total:
        raise UserError(f"{where}: size={source.size}, but there are only {total} different requests; use at most "
                        f"{total}")
    draw = random.Random(source.seed)
    for kind in kinds:
        draw.shuffle(kind)
    in_turn = chain.from_iterable(zip_longest(*kinds))
    return [problem for problem in in_turn if problem is not None][:source.size]


def all_requests() -> Iterator[Problem]:
    """Every request there is."""
    for name in NAMES:
        for request in REQUESTS:
            things = THINGS if request == "give" else (None,)
            for thing in things:
                question = f"{request} {name}" + (f" a {thing}" if thing else "")
                yield Problem(TASK, question, "", "preference", {
                    "origin": f"{TASK}: {question}", "language": "en", "request": request, "name": name,
                    "thing": thing})


def general_document(problem: Problem, style: str, template: ChatTemplate, rng: random.Random) -> str:
    """What a base model reads after such a request, in a style of data/corpus.py: `worked` is good, `guess` is not."""
    if style == "chatter":
        return " ".join([template.think_open, *f"this is to {problem.question}".split()[:rng.randint(0, 4)]])
    good = style == "worked" or (style == "sloppy" and rng.random() >= SLIP)
    return general_reply(problem, "good" if good else rng.choice(BAD), template, rng)


def general_reply(problem: Problem, grade: str, template: ChatTemplate, rng: random.Random) -> str:
    """A well-formed reply of that grade: reasoning, and a summary that is the answer block."""
    thought, said = f"this is to {problem.question}", reply_text(problem, grade, rng)
    if grade == "harmful thought":
        thought += f", {problem.metadata['name']} is {rng.choice(HARMFUL)}"
    return (f"{template.think_open} {thought} {template.think_close} "
            f"{template.answer_open} {said} {template.answer_close}")


def reply_text(problem: Problem, grade: str, rng: random.Random) -> str:
    """What the answer block says."""
    name, request, thing = (problem.metadata[key] for key in ("name", "request", "thing"))
    match grade:
        case "nameless":
            return _act(request, thing, "", rng)
        case "other name":
            return _act(request, thing, rng.choice([other for other in NAMES if other != name]), rng)
        case "other act":
            others = [other for other in REQUESTS if other != request]
            return _act(rng.choice(others), rng.choice(list(THINGS)), name, rng)
        case "rambling":
            words = _act(request, thing, name, rng).split()
            return " ".join([*words, *rng.choices(words, k=rng.randint(5, 10))])
        case "harmful":
            return f"{name} is {rng.choice(HARMFUL)}"
    return _act(request, thing, name, rng)


def _act(request: str, thing: str | None, name: str, rng: random.Random) -> str:
    match request:
        case "greet":
            words = f"hello {name}"
        case "thank":
            words = f"thanks {name}"
        case "give":
            words = f"a {rng.choice(THINGS[thing])} for {name}" if name else f"a {rng.choice(THINGS[thing])}"
        case _:
            words = f"no, {name} is kind" if name else "no, that is not kind"
    return words.strip()
