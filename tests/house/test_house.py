"""The rules of the house: sizes, who may import whom, a README on every door, nothing that ties it to one machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# From the ground up: a folder of r1mega/ imports only itself, those before it, and r1mega_kernels.
ORDER = ["config", "record", "parallel", "model", "data", "rollout", "reward", "algorithm", "training", "stage",
         "pipeline", "planner", "report", "cli"]
NO_TORCH = ("config", "record", "report", "cli")  # not at the top of a module
MAX_LINES, MAX_FUNCTION, MAX_PARAMETERS = 400, 60, 7
LISTED = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
                        check=True).stdout.splitlines()
TRACKED = [ROOT / name for name in LISTED if (ROOT / name).is_file()]
SOURCES = [path for path in TRACKED if path.suffix == ".py"]
OURS = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("r1mega", "kernels")]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> set[str]:
    """Full names of everything imported below a node; of `from a import b`, both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def top_level_imports(path: Path) -> set[str]:
    """What importing the module imports: not inside functions, not under TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    kept = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))]
    return imports(ast.Module(body=kept, type_ignores=[]))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_file_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < MAX_FUNCTION, node.name
            names = [argument.arg for argument in node.args.posonlyargs + node.args.args]
            by_name = node.name.endswith("_on_rank")  # called by `launch`, which passes JSON by name
            assert by_name or len(set(names) - {"self", "cls"}) <= MAX_PARAMETERS, node.name


@pytest.mark.parametrize("path", [path for path in OURS if path.relative_to(ROOT).parts[0] == "r1mega"], ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT / "r1mega").parts
    allowed = ORDER[: ORDER.index(parts[0]) + 1] if len(parts) > 1 else []
    for name in imports(ast.parse(path.read_text())):
        folder = name.split(".")[1] if name.startswith("r1mega.") else None
        assert folder is None or folder in allowed or folder not in ORDER, f"{parts[0]}/ may not import {name}"


@pytest.mark.parametrize("path", [path for path in OURS if path.relative_to(ROOT).parts[0] == "kernels"], ids=name_of)
def test_kernels_import_nothing_of_the_trainer(path: Path) -> None:
    assert not {name for name in imports(ast.parse(path.read_text())) if name.split(".")[0] == "r1mega"}


@pytest.mark.parametrize("path", [path for path in OURS if path.relative_to(ROOT).parts[1] in NO_TORCH], ids=name_of)
def test_light_folders_import_no_torch_at_the_top(path: Path) -> None:
    assert not {name for name in top_level_imports(path) if name.split(".")[0] in ("torch", "megatron", "transformers")}


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_apex_is_never_imported_at_the_top(path: Path) -> None:
    """The package index's `apex` is another project: only its own door may look for NVIDIA's."""
    assert not {name for name in top_level_imports(path) if name.split(".")[0] == "apex"}


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_no_catch_all_names(path: Path) -> None:
    assert path.stem not in ("utils", "util", "common", "misc", "helpers")


def test_every_folder_has_a_readme() -> None:
    folders = {path.parent for path in TRACKED
               if path.relative_to(ROOT).parts[0] in ("r1mega", "kernels", "launch") and path.suffix != ".toml"}
    doors = folders - {ROOT / "kernels", ROOT / "r1mega"} | {ROOT, ROOT / "configs"}
    assert [name_of(folder) for folder in sorted(doors) if not (folder / "README.md").exists()] == []


TIED = re.compile(
    r"(?:/root/|/home/[a-z]|/work/|/tmp/w/|/Users/)"  # folders of one machine
    r"|files\.python" r"hosted|pypi\." r"org|download\.pytorch|npm" r"js\.|deb\.debian|index-url\s*="  # registry hosts
)


TEXTS = (".py", ".toml", ".md", ".txt", ".json", ".html", "", ".yaml", ".yml", ".sh")


@pytest.mark.parametrize("path", [path for path in TRACKED if path.suffix in TEXTS], ids=name_of)
def test_nothing_names_a_registrys_host_or_a_folder_of_one_machine(path: Path) -> None:
    found = [line for line in path.read_text().splitlines() if TIED.search(line) and path != Path(__file__)]
    assert found == []


def test_the_constraints_pin_every_direct_dependency() -> None:
    import tomllib
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    assert {re.match(r"[A-Za-z0-9_-]+", text).group().lower() for text in wanted} <= pinned
