"""What the Triton kernels compile to for an H100, on any machine: Triton brings ptxas and cuobjdump along.

The launches are those of the package, on small CPU tensors; only the last step, running, is left out. T rows.
"""

import re
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton")

from r1mega_kernels import GrpoOptions, GrpoTokens, grpo_triton, log_prob_triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime import driver  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

SM90 = GPUTarget("cuda", 90, 32)
MAX_SHARED = 227 * 1024  # bytes a block can have on an H100
JIT = {name: value for module in (log_prob_triton, grpo_triton) for name, value in vars(module).items()
       if isinstance(value, JITFunction)}
KERNELS = {name for name in JIT if name.endswith("_kernel")}  # the others are parts of these


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
    for kernel in JIT.values():
        kernel.device_caches.pop(-1, None)
    monkeypatch.setattr(driver, "_active", _Sm90Driver())
    return launched


def launch_log_prob(
    logits_TV: Tensor, targets_T: Tensor, temperature: float = 1.0, first: int = 0, true_columns: int | None = None,
    ranks: int = 4,
) -> None:
    """Every kernel that log_prob and its fused losses start on one of several ranks, forward and backward."""
    columns = true_columns if true_columns is not None else logits_TV.shape[1]
    partials_PT4 = log_prob_triton.local_stats(logits_TV, targets_T, temperature, first, columns)
    merged_1T4 = log_prob_triton.merge(partials_PT4, temperature)
    log_probs_T, entropy_T, saved_T4 = log_prob_triton.finish(
        merged_1T4.expand(ranks, -1, -1), targets_T, temperature, 129280, -100
    )
    for e_T in (entropy_T, None):
        log_prob_triton.write_gradient(
            logits_TV, logits_TV, targets_T, saved_T4, (log_probs_T, e_T), temperature, (first, columns)
        )
    log_prob_triton.scale_rows(logits_TV, log_probs_T)


def launch_grpo(numbers_7T: Tensor, ids_T: Tensor, options: GrpoOptions, everything: bool = True) -> None:
    """The kernels of GRPO, with every input that may be there or with none."""
    log_probs_T, entropy_T, advantages_T, weights_T, *others = numbers_7T
    tokens = GrpoTokens(advantages_T, weights_T, *(others if everything else ()), sequence_ids_T=ids_T)
    grpo_triton.grpo_terms(log_probs_T, entropy_T, tokens, options)


def resources(kernel: object, path: Path) -> dict[str, int]:
    """What cuobjdump says a kernel uses."""
    path.write_bytes(kernel.asm["cubin"])
    shown = subprocess.run([triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(path)], capture_output=True,
                           text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", shown)}


def assert_fits(name: str, kernel: object, case: str, folder: Path) -> None:
    used = resources(kernel, folder / "kernel.cubin")
    print(f"{name} {case}: {used['REG']} registers, {kernel.metadata.shared} bytes shared, "
          f"{kernel.metadata.num_warps} warps")
    assert used["STACK"] == used["LOCAL"] == 0 and kernel.metadata.shared <= MAX_SHARED
    assert not re.search(r"\b(ld|st)\.local\b", kernel.asm["ptx"])


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
    launch_log_prob(torch.zeros(2, columns, dtype=dtype), torch.zeros(2, dtype=torch.long))
    assert {name for name, _ in launches} == {name for name in KERNELS if name in vars(log_prob_triton)}
    for name, kernel in launches:
        assert_fits(name, kernel, f"V={columns} {dtype}", tmp_path)
        if name in ("_gradient_kernel", "_scale_kernel"):
            wide = re.search(r"ld\.global\.v4", kernel.asm["ptx"]) and re.search(r"st\.global\.v4", kernel.asm["ptx"])
            assert bool(wide) == vector
        if name == "_stats_kernel":
            assert ("cp.async.cg.shared.global" in kernel.asm["ptx"]) == vector


def test_the_gradient_is_rounded_to_the_nearest_and_logarithms_are_not_approximated(launches: list):
    launch_log_prob(torch.zeros(2, 512, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.long))
    ptx = {name: kernel.asm["ptx"] for name, kernel in launches}
    assert "cvt.rn.bf16" in ptx["_gradient_kernel"] and "cvt.rz.bf16" not in ptx["_gradient_kernel"]
    assert "lg2.approx" not in ptx["_finish_kernel"] and "div.full" not in ptx["_finish_kernel"]


@pytest.mark.parametrize("kl_estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("everything", [True, False])
def test_grpo_has_no_spills_and_no_stack(
    kl_estimator: str, ratio: str, everything: bool, launches: list, tmp_path: Path
):
    options = GrpoOptions(ratio=ratio, kl_estimator=kl_estimator, kl_coef=0.1, dual_clip=3.0,
                          entropy_coef=0.1 if everything else 0.0)
    launch_grpo(torch.zeros(7, 64), torch.zeros(64, dtype=torch.long), options, everything)
    sequences = {"_sequence_kernel"} if ratio == "sequence" else set()
    assert {name for name, _ in launches} == {"_terms_kernel"} | sequences
    for name, kernel in launches:
        assert_fits(name, kernel, f"{options.kl_estimator} {ratio} everything={everything}", tmp_path)


def test_every_kernel_is_among_those_looked_at(launches: list):
    launch_log_prob(torch.zeros(2, 512), torch.zeros(2, dtype=torch.long))
    launch_grpo(torch.zeros(7, 64), torch.zeros(64, dtype=torch.long), GrpoOptions(ratio="sequence"))
    assert {name for name, _ in launches} == KERNELS
    assert len(KERNELS) == 7


def test_nothing_is_compiled_anew_for_other_rows_temperatures_ranks_or_targets(launches: list):
    logits_TV, targets_T = torch.zeros(48, 512), torch.zeros(49, dtype=torch.long)
    launch_log_prob(logits_TV, targets_T[:48])
    compiled = {(name, id(kernel)) for name, kernel in launches}
    assert len(compiled) == 6  # the gradient comes with and without the entropy's
    for rows in (1, 2, 16, 17, 48):
        for temperature in (0.3, 1.0, 2.0):
            launch_log_prob(logits_TV[:rows], targets_T[1 : rows + 1], temperature)
    for ranks in (1, 2, 8, 16):
        launch_log_prob(logits_TV, targets_T[:48], ranks=ranks)
    for first, true_columns in ((512, 512), (3 * 512, 100), (1, 1), (7 * 512, 0)):
        launch_log_prob(logits_TV, targets_T[:48], first=first, true_columns=true_columns)
    expanded_T = torch.zeros(()).expand(48)
    log_prob_triton.write_gradient(logits_TV, logits_TV, targets_T[1:], torch.zeros(48, 4), (expanded_T, expanded_T),
                                   1.0, (0, 512))
    log_prob_triton.scale_rows(logits_TV[1:], expanded_T[1:])
    assert {(name, id(kernel)) for name, kernel in launches} == compiled


def test_grpo_is_not_compiled_anew_for_other_tokens_or_numbers(launches: list):
    numbers_7T, ids_T = torch.zeros(7, 48), torch.zeros(48, dtype=torch.long)
    launch_grpo(numbers_7T, ids_T, GrpoOptions(ratio="sequence", entropy_coef=0.1))
    compiled = {(name, id(kernel)) for name, kernel in launches}
    assert len(compiled) == 2
    for count in (1, 2, 15, 16, 17, 33):
        launch_grpo(numbers_7T[:, 1 : count + 1], ids_T[1 : count + 1], GrpoOptions(ratio="sequence", entropy_coef=0.1))
    for numbers in ({"clip_low": 0.0, "clip_high": 0.0}, {"clip_low": 1, "clip_high": 16, "kl_coef": 1},
                    {"dual_clip": 3}, {"dual_clip": 3.5, "kl_coef": 0.04}, {"entropy_coef": 1}, {"entropy_coef": -0.5}):
        launch_grpo(numbers_7T, ids_T, GrpoOptions(**{"ratio": "sequence", "entropy_coef": 0.1} | numbers))
    assert {(name, id(kernel)) for name, kernel in launches} == compiled
