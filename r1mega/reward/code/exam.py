"""Runs inside sandboxes: the two sides of an exam by a test program, each a process of its own behind its own walls.

The examiner's process has the test program and, for the candidate, something that passes calls on; the candidate's
process has the program that is judged. They share nothing. Between them goes JSON with plain values only, through the
judge outside, so that what a candidate's program can say to the examiner is what its function returned, or that it
raised an error, and the verdict comes from a process in which it never ran.

Standard library alone: the file's text, with one call at its end, is what a sandbox runs.
"""

import builtins
import json
import os
import sys
import types

LARGE = 2**63  # from there on whole numbers travel in hexadecimal: Python limits the digits of decimal ones
NO_ANSWER = "a value that is no plain data"


def encode(value):
    """Plain JSON for plain data; what JSON has no word for is an object of one key, the type. Raises TypeError."""
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value) if abs(value) < LARGE else {"int": hex(value)}
    if isinstance(value, float):
        return {"float": float.hex(value)}
    if isinstance(value, complex):
        return {"complex": [float.hex(value.real), float.hex(value.imag)]}
    if isinstance(value, bytes | bytearray):
        return {type(value).__name__: bytes(value).hex()}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encode(item) for item in value]}
    raise TypeError(f"{type(value).__name__} is {NO_ANSWER}")


def decode(data):
    """The value that `encode` had, built of the built-in types and nothing else. Raises for anything else."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    ((name, inner),) = data.items()
    match name:
        case "int":
            return int(inner, 16)
        case "float":
            return float.fromhex(inner)
        case "complex":
            return complex(*map(float.fromhex, inner))
        case "bytes" | "bytearray":
            return (bytes if name == "bytes" else bytearray).fromhex(inner)
        case "dict":
            return {decode(key): decode(item) for key, item in inner}
        case "tuple" | "set" | "frozenset":
            return {"tuple": tuple, "set": set, "frozenset": frozenset}[name](map(decode, inner))
    raise TypeError(name)


def channel():
    """Lines in and out; from here on, standard input is empty and what is printed is lost."""
    lines = os.fdopen(os.dup(0), encoding="utf-8", newline="\n")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)

    def say(message):
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    return lines, say


def serve(source, function):
    """The candidate's side: one line a call, [arguments, named arguments]; answered by value or error."""
    lines, say = channel()
    program = types.ModuleType("program")
    sys.modules["program"] = program
    problem = None
    try:
        exec(compile(source, "program.py", "exec"), program.__dict__)
    except BaseException as error:
        problem = error
    for line in lines:
        try:
            if problem is not None:
                raise problem
            arguments, named = decode(json.loads(line))
            reply = {"value": encode(getattr(program, function)(*arguments, **named))}
        except BaseException as error:
            reply = {"error": [_known_kind(error), str(error)[:200]]}
        say(reply)


def _known_kind(error):
    """The name of the nearest built-in class of an error."""
    return next((kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind), "")


def examine(preamble, test_program, function):
    """The examiner's side: says {"call": [arguments, named arguments]} and is told the answer; at last says
    {"verdict": …, "note": …}. A test program without check(candidate) is its own check; it calls `function`."""
    lines, say = channel()
    calls = 0

    def candidate(*arguments, **named):
        nonlocal calls
        calls += 1
        say({"call": encode((arguments, named))})
        reply = json.loads(next(lines))
        if "error" in reply:
            raise _error(*reply["error"])
        try:
            return decode(reply["value"])
        except Exception:
            raise RuntimeError(NO_ANSWER) from None

    tests = types.ModuleType("tests")
    sys.modules["tests"] = tests
    try:
        exec(compile(preamble, "preamble.py", "exec"), tests.__dict__)
        tests.__dict__[function] = candidate
        exec(compile(test_program, "tests.py", "exec"), tests.__dict__)
        if "check" in tests.__dict__:
            tests.check(candidate)
        say({"verdict": calls > 0, "note": "" if calls else "the test program calls nothing"})
    except BaseException as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        say({"verdict": False, "note": f"{text[:200]} (line {_line(error.__traceback__)} of the tests)"})


def _error(name, text):
    """What a test program would have caught; an Exception whatever the name."""
    kind = getattr(builtins, name, None)
    try:
        return kind(text) if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError(text)
    except Exception:  # some errors are made of more than a text
        return RuntimeError(text)


def _line(traceback):
    """The last line that ran of the test program; 0 for none."""
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "tests.py":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
