"""Where the Triton kernels run, and where they say why they do not."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from r1mega_kernels import GrpoOptions, GrpoTokens, grpo_loss, log_prob

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("cases", ["triton_cases.py", "grpo_triton_cases.py", "linear_triton_cases.py"])
@pytest.mark.parametrize("where", ["interpreter", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_cases_against_the_fp64_reference(cases: str, where: str):
    pytest.importorskip("triton")
    if where == "gpu" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    # Triton reads the variable when a kernel is defined, its own included: hence a fresh process
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning",
         str(Path(__file__).with_name(cases))],
        cwd=ROOT, env=os.environ | {"TRITON_INTERPRET": "1" if where == "interpreter" else "0", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )
    assert run.returncode == 0, run.stdout[-20000:] + run.stderr[-2000:]
    assert " passed" in run.stdout and "skipped" not in run.stdout


def by_log_prob(implementation: str) -> None:
    log_prob(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), implementation=implementation)


def by_grpo(implementation: str) -> None:
    tokens = GrpoTokens(torch.ones(2), torch.ones(2), torch.zeros(2))
    grpo_loss(torch.zeros(2), torch.zeros(2), tokens, GrpoOptions(), implementation)


BOTH = pytest.mark.parametrize("call", [by_log_prob, by_grpo])


@BOTH
def test_on_a_cpu_triton_is_refused_and_the_message_says_what_to_do(call: Callable[[str], None]):
    pytest.importorskip("triton")
    with pytest.raises(RuntimeError, match="needs a GPU.*cpu.*implementation='reference'.*TRITON_INTERPRET=1"):
        call("triton")


@BOTH
def test_without_triton_installed_it_is_refused_too(call: Callable[[str], None], monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("r1mega_kernels.log_prob_triton")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("r1mega_kernels.log_prob_triton", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(RuntimeError, match="package triton"):
        call("triton")


@BOTH
def test_an_unknown_implementation_is_refused(call: Callable[[str], None]):
    with pytest.raises(ValueError, match="implementation='cuda'; legal are 'reference' and 'triton'"):
        call("cuda")


def test_expanded_logits_cannot_be_overwritten_by_their_gradient():
    with pytest.raises(ValueError, match="inplace_backward=True.*expanded"):
        log_prob(torch.zeros(3).expand(2, 3), torch.zeros(2, dtype=torch.long), inplace_backward=True)
