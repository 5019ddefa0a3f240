"""Instructions whose keeping can be checked: those of IFEval (arXiv 2311.07911), under its names and arguments.

All but language:response_language, which needs a language detector. Our own code: where the paper leaves a rule open
(what is a sentence, a word), ours is beside it. Searches are linear in the text.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

WORD = re.compile(r"\w+(?:['’-]\w+)*")
SENTENCE_END = re.compile(r"[.!?。！？]+(?=[\s\"'”’)\]]|$)")
PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]")
BULLET = re.compile(r"(?m)^[ \t]*[*+-][ \t]+\S")
HIGHLIGHT = re.compile(r"\*\*([^*\n]+)\*\*|\*([^*\n]+)\*")
TITLE = re.compile(r"<<([^<>\n]+)>>")
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

type Rule = Callable[[str, Mapping[str, Any]], bool]


def keeps(name: str, arguments: Mapping[str, Any], reply: str) -> bool:
    """Whether a reply keeps one constraint. An empty reply keeps none. Raises KeyError for a name not in CONSTRAINTS,
    or an argument that is missing."""
    rule = CONSTRAINTS[name]
    return bool(reply.strip()) and rule(reply.strip(), arguments)


def _compares(count: int, relation: str, bound: int) -> bool:
    match relation:
        case "at least":
            return count >= bound
        case "less than":
            return count < bound
    raise KeyError(f"relation {relation!r}")


def _word_count(reply: str) -> int:
    return len(WORD.findall(reply))


def _has_word(reply: str, word: str) -> int:
    """How often it stands there as a word (or phrase) of its own, whatever its case."""
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", reply, re.IGNORECASE))


def _sentences(reply: str) -> int:
    """Ends of sentences; what follows the last one counts as one too."""
    ends = list(SENTENCE_END.finditer(reply))
    return len(ends) + bool(WORD.search(reply, ends[-1].end() if ends else 0))


def _paragraphs(reply: str, separator: str) -> list[str]:
    return [part.strip() for part in re.split(separator, reply)]


def _nth_paragraph(reply: str, given: Mapping[str, Any]) -> bool:
    parts = [part for part in _paragraphs(reply, r"\n\s*\n") if part]
    nth = given["nth_paragraph"]
    if len(parts) != given["num_paragraphs"] or not 1 <= nth <= len(parts):
        return False
    first = WORD.search(parts[nth - 1])
    return first is not None and first[0].casefold() == str(given["first_word"]).casefold()


def _starred_paragraphs(reply: str, given: Mapping[str, Any]) -> bool:
    """Paragraphs divided by lines of ***; one before or after the outermost line may be empty."""
    parts = _paragraphs(reply, r"(?m)^[ \t]*\*\*\*[ \t]*$")
    inner = parts[bool(len(parts) > 1 and not parts[0]):len(parts) - bool(len(parts) > 1 and not parts[-1])]
    return all(inner) and len(inner) == given["num_paragraphs"]


def _is_json(reply: str, given: Mapping[str, Any]) -> bool:
    """JSON, in a fenced block or bare."""
    text = reply
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3].removeprefix("json").removeprefix("JSON")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _two_responses(reply: str, given: Mapping[str, Any]) -> bool:
    parts = [part.strip() for part in reply.split("******")]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _sections(reply: str, given: Mapping[str, Any]) -> bool:
    mark = re.escape(str(given["section_spliter"]))
    return len(re.findall(rf"(?m)^[^\w\n]*{mark}\s?\d+", reply)) >= given["num_sections"]


def _postscript(reply: str, given: Mapping[str, Any]) -> bool:
    letters = re.escape(str(given["postscript_marker"]))
    return re.search(rf"(?im)^[^\w\n]*{letters}", reply) is not None


def _shouted(reply: str) -> int:
    return sum(word.isupper() for word in WORD.findall(reply))


def _has_all(reply: str, words: list[str]) -> bool:
    return all(_has_word(reply, word) for word in words)


CONSTRAINTS: Mapping[str, Rule] = {
    "keywords:existence": lambda reply, given: _has_all(reply, given["keywords"]),
    "keywords:forbidden_words": lambda reply, given: not any(_has_word(reply, w) for w in given["forbidden_words"]),
    "keywords:frequency": lambda reply, given: _compares(
        _has_word(reply, given["keyword"]), given["relation"], given["frequency"]),
    "keywords:letter_frequency": lambda reply, given: _compares(
        reply.casefold().count(given["letter"].casefold()), given["let_relation"], given["let_frequency"]),
    "length_constraints:number_words": lambda reply, given: _compares(
        _word_count(reply), given["relation"], given["num_words"]),
    "length_constraints:number_sentences": lambda reply, given: _compares(
        _sentences(reply), given["relation"], given["num_sentences"]),
    "length_constraints:number_paragraphs": _starred_paragraphs,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": lambda reply, given: (
        len(PLACEHOLDER.findall(reply)) >= given["num_placeholders"]),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": lambda reply, given: len(BULLET.findall(reply)) == given["num_bullets"],
    "detectable_format:number_highlighted_sections": lambda reply, given: (
        sum(bool((one or other).strip()) for one, other in HIGHLIGHT.findall(reply)) >= given["num_highlights"]),
    "detectable_format:multiple_sections": _sections,
    "detectable_format:constrained_response": lambda reply, given: any(answer in reply for answer in ANSWERS),
    "detectable_format:json_format": _is_json,
    "detectable_format:title": lambda reply, given: any(title.strip() for title in TITLE.findall(reply)),
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda reply, given: reply.casefold().startswith(
        given["prompt_to_repeat"].strip().casefold()),
    "startend:end_checker": lambda reply, given: reply.rstrip(" \n\"'”").casefold().endswith(
        given["end_phrase"].strip().rstrip("\"'”").casefold()),
    "startend:quotation": lambda reply, given: len(reply) > 1 and reply[0] in "\"“" and reply[-1] in "\"”",
    "change_case:capital_word_frequency": lambda reply, given: _compares(
        _shouted(reply), given["capital_relation"], given["capital_frequency"]),
    "change_case:english_capital": lambda reply, given: reply.isupper(),
    "change_case:english_lowercase": lambda reply, given: reply.islower(),
    "punctuation:no_comma": lambda reply, given: "," not in reply,
}
