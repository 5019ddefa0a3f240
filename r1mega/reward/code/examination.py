"""A program judged by a test program, each in a sandbox of its own; this process carries the calls between them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1mega.config.rl import CodeConfig
from r1mega.reward.code.compare import NotJson, read_json
from r1mega.reward.code.confinement import Limits
from r1mega.reward.code.dialog import Clock, Failed, converse
from r1mega.reward.code.sandbox import Sandbox
from r1mega.reward.scorer import Verdict

EXAM_TEXT = Path(__file__).with_name("exam.py").read_text(encoding="utf-8")


def examine(
    sandboxes: tuple[Sandbox, Sandbox], source: str, metadata: Mapping[str, Any], config: CodeConfig, limits: Limits
) -> Verdict:
    """The test program's verdict. `sandboxes`: the candidate's, the examiner's. `metadata`: test_program, function and
    maybe preamble, which both sides begin with. The time limit is each side's, over all calls."""
    function, preamble = metadata["function"], metadata.get("preamble", "")
    programs = [f"serve({preamble + chr(10) + source!r}, {function!r})",
                f"examine({preamble!r}, {metadata['test_program']!r}, {function!r})"]
    started = []
    try:
        for sandbox, call in zip(sandboxes, programs, strict=True):
            started.append((sandbox, sandbox.run(f"{EXAM_TEXT}\n\n{call}\n", False, limits)))
        (_, candidate), (_, examiner) = started
        clocks = [Clock.start(candidate, config), Clock.start(examiner, config)]
        answer = b""
        while True:
            said = _say(examiner, answer, clocks[1], config)
            if "verdict" in said:
                return Verdict(said["verdict"] is True, str(said["note"]))
            request = json.dumps(said["call"]).encode() + b"\n"
            answer = _checked(converse(candidate, request, False, config, clocks[0]))
    except Failed as error:
        return Verdict(False, str(error))
    finally:
        for sandbox, program in started:
            sandbox.end(program)


def _say(examiner: Any, answer: bytes, clock: Clock, config: CodeConfig) -> dict[str, Any]:
    """What the examiner's side, which is ours and the data set's, says next. Raises Failed."""
    try:
        return json.loads(converse(examiner, answer, False, config, clock))
    except (Failed, ValueError) as error:
        raise Failed(f"the test program: {error}") from None


def _checked(line: bytes) -> bytes:
    """A candidate's reply, if it has the form of one, written anew: the examiner reads nothing else. Raises Failed."""
    try:
        reply = read_json(line)
    except NotJson as error:
        raise Failed(f"the answer is no JSON ({error})") from None
    match reply:
        case {"value": _} if len(reply) == 1:
            pass
        case {"error": [str(), str()]} if len(reply) == 1:
            pass
        case _:
            raise Failed("no answer")
    return json.dumps(reply).encode() + b"\n"
