"""What a completion gives as its answer, for each kind of evaluation suite.

Searches for fixed strings and short patterns without nesting, so any text takes time linear in its length.
"""

import re
from string import ascii_uppercase

from r1mega.config.data import ChatTemplate
from r1mega.reward.format import extract_answer

BOXED = ("\\boxed{", "\\fbox{")
MARKED = re.compile(r"(?im)^[ \t>*_#]*(?:the |my )?(?:final |correct )?answer(?:[*_]*[ \t]*:|[ \t]+is[ \t]*:?)"
                    r"[*_]*[ \t]*(\S.*)$")
LONGEST_LETTER = 40  # characters
LONE_LETTER = re.compile(r"[\s(\[*_$]*(?:\\text\{|option |choice )?[\s(]*([A-Za-z])[\s)\]*_$.:}]*", re.IGNORECASE)
LETTER_FIRST = re.compile(r"[\s(\[*_$]*([A-Z])[)\].:*_]+(?:\s|$)")


def after_reasoning(completion: str, template: ChatTemplate) -> str | None:
    """What the reader gets: the text after the last end of reasoning. None where the reasoning never ends; all of it
    where there is none."""
    end = completion.rfind(template.think_close)
    if end >= 0:
        return completion[end + len(template.think_close):]
    return None if template.think_in_prompt or template.think_open in completion else completion


def reply_of(completion: str, template: ChatTemplate) -> str | None:
    """The reply without reasoning and tags: the answer block if there is one, else all that follows the reasoning.
    None where it was cut off inside either."""
    visible = after_reasoning(completion, template)
    if visible is None or template.answer_open not in visible:
        return None if visible is None else visible.strip()
    return extract_answer(visible, template)


def last_boxed(text: str) -> str | None:
    """What is in the last \\boxed{...}, braces matched (\\{ and \\} do not count); None if there is none, or it is cut
    off."""
    start, opening = max((text.rfind(mark), mark) for mark in BOXED)
    if start < 0:
        return None
    begin = start + len(opening)
    depth, at = 1, begin
    while at < len(text):
        match text[at]:
            case "\\":
                at += 1  # whatever follows is escaped
            case "{":
                depth += 1
            case "}":
                depth -= 1
                if depth == 0:
                    return text[begin:at].strip()
        at += 1
    return None


def maths_answer(completion: str, template: ChatTemplate) -> str | None:
    """The last box of the reply; else, of a reply in answer tags, all of it. Never a number picked from the text."""
    reply = reply_of(completion, template)
    if not reply:
        return None
    if any(mark in reply for mark in BOXED):
        return last_boxed(reply)
    visible = after_reasoning(completion, template)
    return reply if template.answer_open in visible else None


def choice_answer(completion: str, template: ChatTemplate, letters: int) -> str | None:
    """The letter chosen, one of the first `letters`.

    In this order: the last box; the last line "Answer: X"; a reply that is nothing but a letter. Each of "B", "(b)",
    "B.", "B) Paris" is a letter; a word that begins with one is not.
    """
    reply = reply_of(completion, template)
    if not reply:
        return None
    marked = MARKED.findall(reply)
    for text in (last_boxed(reply), marked[-1] if marked else None, reply):
        if text is not None:
            letter = _letter(text.strip())
            return letter if letter and letter in ascii_uppercase[:letters] else None
    return None


def _letter(text: str) -> str:
    """The letter that a text is, or that a line begins with; "" if neither. Only as much is looked at as a letter with
    its marks can take up: the patterns are quadratic in long runs of brackets."""
    found = LONE_LETTER.fullmatch(text) if len(text) <= LONGEST_LETTER else None
    if found is None and "\n" not in text:
        found = LETTER_FIRST.match(text[:LONGEST_LETTER])
    return "" if found is None else found[1].upper()


def factual_answer(completion: str, template: ChatTemplate) -> str | None:
    """The last box; else what follows the last "Answer:" at a line's start; else the whole reply."""
    reply = reply_of(completion, template)
    if not reply:
        return None
    if (boxed := last_boxed(reply)) is not None:
        return boxed or None
    marked = MARKED.findall(reply)
    return marked[-1].strip(" *_") or None if marked else reply
