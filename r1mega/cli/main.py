"""The command `r1mega`: finds the subcommand, calls it, and prints a user's mistake in one or two lines.

Nothing heavy is imported here, and only the module of the subcommand that was asked for: `--help` is instant.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

COMMANDS = {
    "run": "train what a recipe says, or go on where an earlier run of it stopped",
    "status": "how far a pipeline is, and why a stage has to run",
    "show": "print a recipe with everything filled in, and where each value comes from",
    "sample": "talk to a model: sample completions of a question",
    "score": "log-probabilities of given token ids",
    "import": "make a model folder from Hugging Face DeepSeek-V3 weights",
    "export": "write a model folder as Hugging Face DeepSeek-V3 weights",
    "evaluate": "pass@k and majority votes of a model on suites of problems",
    "search": "Monte-Carlo tree search beside plain sampling, at equal numbers of tokens",
    "steps": "label the steps of completions, for a process reward model",
    "compare": "a table and a plot of evaluations, several models side by side",
    "report": "one self-contained HTML page about one or more runs",
    "doctor": "what is installed here, what is missing and what that costs",
}
MISTAKE, INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    try:
        from r1mega.config.error import UserError
    except ModuleNotFoundError as error:
        return _without_dependencies(words, error)
    try:
        return _dispatch(words)
    except UserError as error:
        print("\n".join(f"r1mega: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("r1mega: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # e.g. `r1mega show R | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _without_dependencies(words: list[str], error: ModuleNotFoundError) -> int:
    """Where packages are missing only the doctor works, and says which."""
    if words[0] == "doctor":
        return _dispatch(["doctor"])
    print(f"r1mega: the package {error.name} is missing; run launch/setup, or `r1mega doctor` to see what else is",
          file=sys.stderr)
    return MISTAKE


class OneLineParser(argparse.ArgumentParser):
    """Mistakes on the command line are said like all others: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        from r1mega.config.error import UserError
        raise UserError(f"command line: {message}; see `{self.prog} --help`")


def _dispatch(words: list[str]) -> int:
    name = words[0]
    if name == "--version":
        from importlib.metadata import version
        print(f"r1mega {version('r1mega')}")
        return 0
    if name not in COMMANDS:
        raise _unknown_command(name)
    module = importlib.import_module(f"r1mega.cli.{name}_command")
    parser = OneLineParser(prog=f"r1mega {name}", description=f"{COMMANDS[name].capitalize()}.",
                           formatter_class=argparse.RawDescriptionHelpFormatter, epilog=getattr(module, "EPILOG", None))
    module.add_arguments(parser)
    return module.run(parser.parse_intermixed_args(words[1:])) or 0


def _unknown_command(name: str) -> Exception:
    import difflib

    from r1mega.config.error import UserError
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    fix = f"did you mean '{near[0]}'?" if near else f"use {', '.join(COMMANDS)}"
    if name.endswith(".toml"):
        fix = f"write `r1mega run {name}`"
    return UserError(f"command line: {name}: no such command; {fix}")


def _help() -> str:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return ("usage: r1mega COMMAND ...\n\nDeepSeek-R1, end to end, on Megatron-Core.\n\ncommands:\n" + listing
            + "\n\n`r1mega COMMAND --help` says more of one; `r1mega --version` says which r1mega this is.")


if __name__ == "__main__":
    sys.exit(main())
