"""Programs in, verdicts out: right is what passes every test."""

import json
import queue
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from r1mega.config.error import UserError
from r1mega.config.rl import CodeConfig
from r1mega.record import Problem
from r1mega.reward.code.compare import NotJson, is_same_output, is_same_value, read_json
from r1mega.reward.code.confinement import Limits
from r1mega.reward.code.dialog import Failed, converse
from r1mega.reward.code.examination import examine
from r1mega.reward.code.probe import find_walls
from r1mega.reward.code.sandbox import LauncherLost, NoSandbox, Sandbox
from r1mega.reward.scorer import Verdict

MAX_RESTARTS = 3  # of a launcher, for one program
CPU_SPARE = 2  # the kernel's limit a process, beyond ours, which counts all processes of a program
MEMORY_SPARE_MB = 64  # likewise: address space that is never touched
FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


class CodeChecker:
    """Runs programs on hidden tests, `workers` at a time, each behind walls of its own. A context manager.

    The expected outputs never leave this process: a program gets one test's input at a time, and what it writes is
    compared here. So the worst that a program can do to its verdict is to be wrong.
    """

    def __init__(self, config: CodeConfig, workers: int):
        """Raises UserError where programs cannot be confined here and the recipe does not accept that in words."""
        self._config = config
        if config.sandbox == "none-i-accept-the-risk":
            walls = "none"
        else:
            try:
                walls = find_walls().walls
            except NoSandbox as error:
                raise UserError(
                    f'reward.code.sandbox="{config.sandbox}": programs cannot be confined here ({error}); run where '
                    'user namespaces are allowed, or as root of the machine, or let them do what they like with '
                    'reward.code.sandbox="none-i-accept-the-risk"') from None
        self._sandboxes = [Sandbox(walls) for _ in range(workers)]
        self._examiners = [Sandbox(walls) for _ in range(workers)]  # of test programs; not started before there is one
        self._free: queue.SimpleQueue[tuple[Sandbox, Sandbox]] = queue.SimpleQueue()
        for pair in zip(self._sandboxes, self._examiners, strict=True):
            self._free.put(pair)
        self._threads = ThreadPoolExecutor(workers, "code")
        self._is_closed = False

    def close(self) -> None:
        """End every program and launcher."""
        self._is_closed = True
        for sandbox in (*self._sandboxes, *self._examiners):
            sandbox.close()
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, items: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """A verdict for each (problem, answer), in their order."""
        return list(self._threads.map(self._check_one, items))

    def _check_one(self, item: tuple[Problem, str]) -> Verdict:
        problem, answer = item
        source = program_text(answer)
        if len(source) > self._config.max_program_chars:
            return Verdict(False, f"a program of {len(source)} characters, more than "
                                  f"reward.code.max_program_chars={self._config.max_program_chars}")
        pair = self._free.get()
        try:
            for _ in range(MAX_RESTARTS):
                try:
                    return self._judge(pair, source, problem.metadata)
                except LauncherLost:
                    for sandbox in pair:
                        sandbox.close()
                    if self._is_closed:
                        break
            raise RuntimeError(f"the process that starts programs died {MAX_RESTARTS} times in a row; is the machine "
                               "out of memory?")
        finally:
            self._free.put(pair)

    def _judge(self, pair: tuple[Sandbox, Sandbox], source: str, metadata: Mapping[str, Any]) -> Verdict:
        if "test_program" in metadata:
            return examine(pair, source, metadata, self._config, self._limits(tests=1))
        sandbox, tests = pair[0], metadata["tests"]
        if "preamble" in metadata:
            source = f"{metadata['preamble']}\n{source}"
        passes = (self._call(sandbox, source, metadata["function"], tests) if "function" in metadata
                  else self._feed(sandbox, source, tests))
        passed = 0
        try:
            for _ in passes:
                passed += 1
        except Failed as error:
            return Verdict(False, f"test {passed + 1} of {len(tests)}: {error}")
        return Verdict(passed == len(tests))

    def _feed(self, sandbox: Sandbox, source: str, tests: Sequence[Mapping[str, str]]) -> Iterator[None]:
        """One item a test passed, by a program that reads standard input; a process each, so that nothing is carried
        from one test to the next. Raises Failed at the first that is not."""
        for test in tests:
            program = sandbox.run(source, False, self._limits(tests=1))
            try:
                output = converse(program, test["input"].encode(), True, self._config)
            finally:
                status = sandbox.end(program)
            if not is_same_output(test["output"], output.decode(errors="replace")):
                raise Failed("wrong output" + (f" (exit status {status})" if status else ""))
            yield

    def _call(
        self, sandbox: Sandbox, source: str, function: str, tests: Sequence[Mapping[str, Any]]
    ) -> Iterator[None]:
        """The same for a function: one process, told of each test when the one before is answered."""
        program = sandbox.run(source, True, self._limits(len(tests)))
        try:
            head = function + "\n"
            for test in tests:
                request = head + json.dumps(test["arguments"]) + "\n"
                reply = _read_reply(converse(program, request.encode(), False, self._config))
                if not is_same_value(test["output"], reply):
                    raise Failed("wrong value")
                yield
                head = ""
        finally:
            sandbox.end(program)

    def _limits(self, tests: int) -> Limits:
        config = self._config
        return Limits(int(config.timeout_s * tests) + CPU_SPARE, config.memory_mb + MEMORY_SPARE_MB,
                      config.scratch_mb, config.processes)


def _read_reply(line: bytes) -> Any:
    """The value in the driver's reply. Raises Failed."""
    try:
        reply = read_json(line)
    except NotJson as error:
        raise Failed(f"the answer is no JSON ({error})") from None
    if isinstance(reply, dict) and "value" in reply:
        return reply["value"]
    said = str(reply.get("error") if isinstance(reply, dict) else "no answer")[:200]
    raise Failed("".join(letter if letter.isprintable() else "?" for letter in said))  # it goes into logs


def program_text(answer: str) -> str:
    """The program in an answer: its last fenced block, or all of it where there is none."""
    blocks = FENCE.findall(answer + "\n")
    return blocks[-1] if blocks else answer
