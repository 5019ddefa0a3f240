"""What the Triton log_prob compiles to for an H100, on any machine: Triton brings ptxas and cuobjdump along.

The launches are those of log_prob_triton, on small CPU tensors; only the last step, running, is left out. T rows.
"""

import re
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton")

from r1mega_kernels import log_prob_triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime import driver  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

SM90 = GPUTarget("cuda", 90, 32)
MAX_SHARED = 227 * 1024  # bytes a block can have on an H100


class _Sm90Driver:
    """As much of a driver as compiling asks for."""

    def get_current_target(self) -> GPUTarget:
        return SM90

    def get_current_device(self) -> int:
        return -1  # no real device, so that compiled kernels are kept apart from those of one

    def get_current_stream(self, device: int) -> int:
        return 0


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, object]]:
    """(name, compiled kernel) of every launch from now on, for sm_90."""
    if log_prob_triton.INTERPRETED:
        pytest.skip("TRITON_INTERPRET is set: nothing is compiled")
    for tool in ("ptxas", "cuobjdump"):
        try:
            getattr(triton.knobs.nvidia, tool)
        except RuntimeError as error:
            pytest.skip(f"this Triton has no {tool}: {error}")
    launched = []
    run = JITFunction.run

    def compile_only(self: JITFunction, *args, grid, warmup, **options):
        launched.append((self.__name__, run(self, *args, grid=grid, warmup=True, **options)))

    monkeypatch.setattr(JITFunction, "run", compile_only)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for kernel in vars(log_prob_triton).values():
        if isinstance(kernel, JITFunction):
            kernel.device_caches.pop(-1, None)
    monkeypatch.setattr(driver, "_active", _Sm90Driver())
    return launched


def launch_all(logits_TV: Tensor, targets_T: Tensor, temperature: float = 1.0, first: int = 0,
               true_columns: int | None = None) -> None:
    """Every kernel that log_prob starts on one of several ranks, forward and backward."""
    columns = true_columns if true_columns is not None else logits_TV.shape[1]
    partials_PT4 = log_prob_triton.local_stats(logits_TV, targets_T, temperature, first, columns)
    merged_1T4 = log_prob_triton.merge(partials_PT4, temperature)
    log_probs_T, entropy_T, saved_T4 = log_prob_triton.finish(
        merged_1T4.expand(4, -1, -1), targets_T, temperature, 129280, -100
    )
    for e_T in (entropy_T, None):
        log_prob_triton.write_gradient(
            logits_TV, logits_TV, targets_T, saved_T4, (log_probs_T, e_T), temperature, (first, columns)
        )


def resources(kernel: object, path: Path) -> dict[str, int]:
    """What cuobjdump says a kernel uses."""
    path.write_bytes(kernel.asm["cubin"])
    shown = subprocess.run([triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(path)], capture_output=True,
                           text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", shown)}


@pytest.mark.parametrize(
    ("columns", "dtype", "vector"),
    [
        (129280, torch.bfloat16, True),
        (16160, torch.float32, True),
        (50257, torch.bfloat16, False),  # rows begin at odd addresses: no wide loads
    ],
)
def test_no_spills_no_stack_and_wide_loads(
    columns: int, dtype: torch.dtype, vector: bool, launches: list, tmp_path: Path
):
    launch_all(torch.zeros(2, columns, dtype=dtype), torch.zeros(2, dtype=torch.long))
    assert {name for name, _ in launches} == {"_stats_kernel", "_merge_kernel", "_finish_kernel", "_gradient_kernel"}
    for name, kernel in launches:
        used = resources(kernel, tmp_path / "kernel.cubin")
        print(f"{name} V={columns} {dtype}: {used['REG']} registers, {kernel.metadata.shared} bytes shared, "
              f"{kernel.metadata.num_warps} warps")
        assert used["STACK"] == used["LOCAL"] == 0 and kernel.metadata.shared <= MAX_SHARED
        assert not re.search(r"\b(ld|st)\.local\b", kernel.asm["ptx"])
        if name == "_gradient_kernel":
            wide = re.search(r"ld\.global\.v4", kernel.asm["ptx"]) and re.search(r"st\.global\.v4", kernel.asm["ptx"])
            assert bool(wide) == vector
        if name == "_stats_kernel":
            assert ("cp.async.cg.shared.global" in kernel.asm["ptx"]) == vector


def test_the_gradient_is_rounded_to_the_nearest_and_logarithms_are_not_approximated(launches: list):
    launch_all(torch.zeros(2, 512, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.long))
    ptx = {name: kernel.asm["ptx"] for name, kernel in launches}
    assert "cvt.rn.bf16" in ptx["_gradient_kernel"] and "cvt.rz.bf16" not in ptx["_gradient_kernel"]
    assert "lg2.approx" not in ptx["_finish_kernel"] and "div.full" not in ptx["_finish_kernel"]


def test_nothing_is_compiled_anew_for_other_rows_temperatures_ranks_or_targets(launches: list):
    logits_TV, targets_T = torch.zeros(48, 512), torch.zeros(49, dtype=torch.long)
    launch_all(logits_TV, targets_T[:48])
    compiled = {(name, id(kernel)) for name, kernel in launches}
    assert len(compiled) == 5  # the gradient comes with and without the entropy's
    for rows in (1, 2, 16, 17, 48):
        for temperature in (0.3, 1.0, 2.0):
            launch_all(logits_TV[:rows], targets_T[1 : rows + 1], temperature)
    for first, true_columns in ((512, 512), (3 * 512, 100), (1, 1), (7 * 512, 0)):
        launch_all(logits_TV, targets_T[:48], first=first, true_columns=true_columns)
    expanded_T = torch.zeros(()).expand(48)
    log_prob_triton.write_gradient(logits_TV, logits_TV, targets_T[1:], torch.zeros(48, 4), (expanded_T, expanded_T),
                                   1.0, (0, 512))
    assert {(name, id(kernel)) for name, kernel in launches} == compiled
