"""`r1mega show`: a recipe with everything filled in, and where each value comes from."""

import argparse
import json
import sys

from r1mega.config.error import UserError

EPILOG = "example:\n  r1mega show configs/tiny/zero.toml optimizer.lr=3e-6"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a TOML file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. optimizer.lr=3e-6")
    parser.add_argument("--json", action="store_true", help="as JSON: {key: {value, origin}}")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of recipes instead")


def run(args: argparse.Namespace) -> None:
    if args.schema:
        from r1mega.config.schema import recipe_schema
        sys.stdout.write(recipe_schema())
        return
    if args.recipe is None:
        raise UserError("command line: no recipe; write e.g. `r1mega show configs/tiny/zero.toml`")
    from r1mega.config.loader import dump_recipe, resolve_recipe
    resolved = resolve_recipe(args.recipe, args.overrides, files=False)
    if args.json:
        print(json.dumps(_with_origins(resolved.recipe.model_dump(), (), resolved), indent=2, default=str))
    else:
        sys.stdout.write(dump_recipe(resolved))


def _with_origins(value, path, resolved):
    """Tables stay tables; every other value becomes {"value": …, "origin": …}."""
    if isinstance(value, dict) and (value or path == ()):
        return {name: _with_origins(item, (*path, name), resolved) for name, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_with_origins(item, (*path, index), resolved) for index, item in enumerate(value)]
    return {"value": value, "origin": str(resolved.origin(path))}
