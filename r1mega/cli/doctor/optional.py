"""Parts that need not be there: what each buys, and impostors of the same name. Nothing is imported to find out."""

import importlib.util
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from r1mega.cli.doctor.finding import Finding, Level

MODULES = {  # name of the part: (module, distribution, what its presence brings, what its absence costs)
    "Transformer Engine": ("transformer_engine", "transformer-engine", "; not used yet: nothing differs with it",
                           "absent: nothing is lost, it is not used yet"),
    "Weights & Biases": ("wandb", "wandb", "", "absent: log.wandb_project is refused; metrics.jsonl, TensorBoard and "
                                               "the report are there; pip install 'r1mega[wandb]'"),
}
PROGRAMS = {  # program: what its absence costs
    "srun": "absent: no Slurm here; runs start on this machine",
    "nvcc": "absent: no CUDA toolkit; only extensions built from source need it",
    "g++": "absent: torch.compile cannot build CPU kernels; r1mega does not use it on a CPU",
}


def check_optional() -> Iterator[Finding]:
    """One finding a part."""
    for subject, (module, distribution, note, cost) in MODULES.items():
        if _found(module):
            yield Finding(Level.OK, subject, _version(distribution) + note)
        else:
            yield Finding(Level.ABSENT, subject, cost)
    yield check_apex()
    for program, cost in PROGRAMS.items():
        place = shutil.which(program)
        yield Finding(Level.OK if place else Level.ABSENT, program, place or cost)


def check_apex() -> Finding:
    """NVIDIA Apex, which is built from source; the package index's `apex` is another project of that name."""
    spec = _spec("apex")
    if spec is None:
        return Finding(Level.ABSENT, "NVIDIA Apex", "absent: PyTorch's own AdamW and norms, somewhat slower on GPUs")
    folders = [Path(place) for place in spec.submodule_search_locations or []]
    if any((folder / "optimizers").is_dir() and (folder / "normalization").is_dir() for folder in folders):
        fused = "with CUDA extensions" if _found("amp_C") else "without its CUDA extensions: no fused optimizer"
        return Finding(Level.OK, "NVIDIA Apex", fused)
    where = folders[0] if folders else spec.origin
    return Finding(Level.PROBLEM, "apex", f"an impostor: {where} is the package index's `apex`, not NVIDIA's, and "
                                          "Megatron-Core would import it; pip uninstall apex")


def _spec(module: str):
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None


def _found(module: str) -> bool:
    return _spec(module) is not None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "there, of unknown version"
