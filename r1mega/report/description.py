"""What ran, in words: from the recipe and environment.json, as far as they tell."""

from collections.abc import Sequence

from r1mega.report.run import Run, labels

STAGES = {"rl": "reinforcement learning with GRPO", "pretrain": "pretraining of the stand-in base model",
          "sft": "supervised fine-tuning", "rejection_sampling": "a dataset by rejection sampling",
          "evaluate": "evaluation on suites"}
LAYOUT = {"data_parallel": "DP", "tensor_parallel": "TP", "pipeline_parallel": "PP", "virtual_stages": "VPP",
          "context_parallel": "CP", "expert_parallel": "EP", "expert_tensor_parallel": "ETP"}


def title(runs: Sequence[Run]) -> tuple[str, str]:
    """Heading and the line under it."""
    names = list(dict.fromkeys(str(run.recipe.get("name") or run.name) for run in runs))
    stages = list(dict.fromkeys(STAGES.get(run.stage, run.stage) for run in runs if run.stage))
    line = ", ".join(stages)
    if len(runs) > 1:
        line += f"{'; ' if line else ''}{len(runs)} runs: {', '.join(labels(runs))}"
    return ", ".join(names), line


def facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """(what, value) pairs of the header; several runs join their different values."""
    collected: dict[str, list[str]] = {}
    for run in runs:
        for name, value in _facts(run):
            values = collected.setdefault(name, [])
            if value not in values:
                values.append(value)
    return [(name, "; ".join(values)) for name, values in collected.items()]


def _facts(run: Run) -> list[tuple[str, str]]:
    environment, packages = run.environment, run.environment.get("packages") or {}
    commit = str(environment.get("git_commit") or "")
    found = {
        "model": _model(run),
        "layout": _layout(run),
        "data": _data(run),
        "seed": str(run.recipe.get("seed", "")),
        "machine": _machine(run),
        "versions": ", ".join(f"{name} {packages[name]}" for name in ("r1mega", "torch", "megatron-core")
                              if name in packages),
        "commit": commit[:12] + ("+changes" if commit.endswith("+changes") else ""),
        "started": str(environment.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
        "resumed": _resumed(run),
        "command": " ".join(map(str, environment.get("command") or ())),
    }
    return [(name, value) for name, value in found.items() if value]


def _model(run: Run) -> str:
    model, parts = run.recipe.get("model") or {}, []
    if parameters := run.environment.get("parameters"):
        parts.append(_millions(parameters) + " parameters")
    if active := run.environment.get("active_parameters"):
        parts.append(_millions(active) + " active")
    if "num_layers" in model and "hidden_size" in model:
        parts.append(f"{model['num_layers']} layers of width {model['hidden_size']}")
    if "num_experts" in model:
        parts.append(f"{model['num_experts']} experts, {model.get('num_experts_per_token', '?')} a token")
    return ", ".join(parts)


def _layout(run: Run) -> str:
    layout = run.recipe.get("layout") or {}
    sizes = [f"{short}{layout[key]}" for key, short in LAYOUT.items() if layout.get(key, 1) != 1]
    ranks = run.environment.get("world_size")
    text = f"{ranks} rank{'s' if ranks != 1 else ''}" if ranks else ""
    return " ".join(filter(None, [text, f"({' · '.join(sizes)})" if sizes else ""]))


def _data(run: Run) -> str:
    sources = (run.recipe.get("data") or {}).get("sources")
    names = [str(source.get("task") or source.get("path") or _joined(source.get("paths")) or source.get("kind"))
             for source in (sources if isinstance(sources, list) else ()) if isinstance(source, dict)]
    return ", ".join(dict.fromkeys(filter(None, names)))


def _joined(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _machine(run: Run) -> str:
    environment = run.environment
    devices = [str(device) for device in environment.get("devices") or () if device != "cpu"]
    parts = [*devices, str(environment.get("processor") or "")]
    if cores := environment.get("cores"):
        parts.append(f"{cores} cores")
    if memory := environment.get("memory_gib"):
        parts.append(f"{memory:g} GiB")
    return ", ".join(filter(None, parts))


def _resumed(run: Run) -> str:
    times = len(run.environment.get("resumed") or ())
    return f"{times} time{'s' if times != 1 else ''}" if times else ""


def _millions(count: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:g}"
