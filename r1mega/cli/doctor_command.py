"""`r1mega doctor`: what is installed here, what is missing and what that costs."""

import argparse
from pathlib import Path

EPILOG = """\
ok: there. --: absent or not as it should be, and what that costs. !!: must be mended; the exit code is then 1.
example: r1mega doctor configs/tiny/zero.toml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="also say whether this recipe can run here")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")


def run(args: argparse.Namespace) -> int:
    from r1mega.cli.doctor import print_findings
    from r1mega.cli.doctor.machine import check_machine, check_torch
    from r1mega.cli.doctor.optional import check_optional
    from r1mega.cli.doctor.software import check_software

    resolved = None
    if args.recipe is not None:
        from r1mega.config.loader import resolve_recipe
        resolved = resolve_recipe(args.recipe, args.overrides)
    problems = print_findings("Software", check_software())
    problems += print_findings("Machine", check_machine(Path.cwd()))
    problems += print_findings("Devices and ranks", check_torch())
    problems += print_findings("Optional parts", check_optional())
    if resolved is not None:
        problems += print_findings(f"Recipe {resolved.recipe.name}", _fit(resolved.recipe))
    print(f"\n{problems} problem{'s' * (problems != 1)}" if problems else "\nNothing must be mended.")
    return 1 if problems else 0


def _fit(recipe):
    from r1mega.cli.doctor.finding import Finding, Level
    from r1mega.cli.doctor.fit import check_fit
    try:
        import torch
        num_gpus = torch.cuda.device_count()
        gpu_bytes = torch.cuda.get_device_properties(0).total_memory if num_gpus else 0
        yield from check_fit(recipe, num_gpus, gpu_bytes)
    except ImportError as error:
        yield Finding(Level.PROBLEM, "recipe", f"cannot be judged: {error}; run launch/setup")
