"""Runs inside the sandbox, in the program's own process: calls its function with what arrives on standard input.

Nothing here is trusted: a program may rewrite all of it, and all it gains is another way to give its answers. Which
answers are right is known outside only.

In: one line with the function's name, then one line of JSON a call, a list of arguments. Out: one line of JSON a
call: {"value": …} or {"error": "…"}.
"""

import json
import os
import sys
import types


def main() -> None:
    requests = os.fdopen(os.dup(0), encoding="utf-8", newline="\n")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # what the program prints is no reply
    names = requests.readline().strip().split(".")
    program = types.ModuleType("program")
    sys.modules["program"] = program
    problem = None
    try:
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py"), encoding="utf-8") as file:
            exec(compile(file.read(), "program.py", "exec"), program.__dict__)
    except BaseException as error:
        problem = error
    for line in requests:
        try:
            if problem is not None:
                raise problem
            target = getattr(program, names[0])
            if len(names) > 1:  # "Solution.solve" is a method of a fresh object
                target = getattr(target(), names[1])
            reply = json.dumps({"value": target(*json.loads(line))})
        except BaseException as error:
            reply = json.dumps({"error": f"{type(error).__name__}: {error}"[:200]})
        replies.write(reply + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
