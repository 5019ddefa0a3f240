"""The benchmarks, as far as a CPU can try them: the whole command on tiny sizes, and each part with made-up peers."""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from r1mega_kernels.benchmarks import driver, selfcheck, worker
from r1mega_kernels.benchmarks.__main__ import main
from r1mega_kernels.benchmarks.clock import Clock, quantile
from r1mega_kernels.benchmarks.collective import modelled_ms
from r1mega_kernels.benchmarks.driver import new_record, without_folder
from r1mega_kernels.benchmarks.exact import exact, looked_at
from r1mega_kernels.benchmarks.measure import measure
from r1mega_kernels.benchmarks.peer import Collective, Peer, Result, by_autograd, installed_version
from r1mega_kernels.benchmarks.peers import peers_of
from r1mega_kernels.benchmarks.plan import HEADLINE, Plan, Shape
from r1mega_kernels.benchmarks.problem import LinearProblem, LogitsProblem
from r1mega_kernels.benchmarks.record import Record
from torch import Tensor

CPU = torch.device("cpu")
OPERATIONS = ("logits", "linear", "grpo")


def test_the_whole_command_is_rehearsed_on_a_cpu_and_measures_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "r1mega_kernels.benchmarks", "all", "--quick", "--device", "cpu", "--tokens", "8",
               "--vocab", "512,64", "--hidden", "16", "--peers", "r1mega,eager,liger", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "rehearsal on CPU" in done.stdout and "Nothing of this is a measurement" in done.stdout
    verdicts = {line.split()[0] for line in done.stdout.splitlines() if line.startswith(("pass", "fail", "unmeasured"))}
    assert verdicts == {"unmeasured"}

    data = json.loads((tmp_path / "all.json").read_text())
    assert data["kind"] == "rehearsal on CPU" and str(tmp_path) not in data["command"]
    assert data["ceilings"]["copy_bytes_per_s"] > 0 and all(check["passed"] for check in data["self_check"])
    rows = {(row["operation"], row["vocab"], row["peer"]): row for row in data["rows"]}
    for operation, vocab in (("logits", 512), ("logits", 64), ("linear", 512), ("linear", 64), ("grpo", 512)):
        for peer in ("r1mega reference", "torch eager"):
            row = rows[operation, vocab, peer]
            assert row["status"] == "ok" and row["both"]["median_ms"] > 0 and row["peak_bytes"] is None
        assert rows[operation, vocab, "r1mega triton"]["status"] == "not run: needs a GPU"
    liger = rows["logits", 512, "Liger vocab-parallel CE"]["status"]
    assert liger == ("not installed" if installed_version("liger-kernel") is None else "not run: needs a GPU")
    assert rows["logits", 64, "r1mega reference"]["modelled_collective_ms"] > 0  # 512 / 8
    assert rows["logits", 512, "r1mega reference"]["modelled_collective_ms"] is None

    assert "### Not compared" in (tmp_path / "table.md").read_text()
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        "all-logits-512.svg", "all-logits-64.svg", "all-linear-512.svg", "all-linear-64.svg", "all-grpo-512.svg"}


def test_nonsense_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["table", str(tmp_path)]) == 2
    assert "no record" in capsys.readouterr().err
    assert main(["logits", "--out", str(tmp_path), "--tokens", "0"]) == 2
    assert "1 or more" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["all", "--out", str(tmp_path), "--device", "cuda"]) == 2
        assert "no GPU" in capsys.readouterr().err


def peer(name: str, forward, **fields) -> Peer:
    fields = {"package": "torch", "operation": "logits", "computes": "", "needs_gpu": False} | fields
    return Peer(name=name, load=lambda _: forward, **fields)


def eager(problem: LogitsProblem) -> Result:
    log_p_TV = problem.logits_TV.float().log_softmax(1)
    return by_autograd(-log_p_TV.gather(1, problem.targets_T[:, None])[:, 0], problem)


def ruinous(problem: LogitsProblem) -> Result:
    """Right, but the logits are gone behind it."""
    result = eager(problem)

    def gradients() -> tuple[Tensor, ...]:
        (gradient_TV,) = result.gradients()
        with torch.no_grad():
            problem.logits_TV.zero_()
        return (gradient_TV,)
    return result._replace(gradients=gradients)


def shifted(problem: LogitsProblem) -> Result:
    result = eager(problem)
    return result._replace(loss=result.loss + 0.5)


def broken(problem: LogitsProblem) -> Result:
    raise ValueError("no such\nluck")


def hungry(problem: LogitsProblem) -> Result:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate a lot.")


def without_gradient(problem: LogitsProblem) -> Result:
    return eager(problem)._replace(gradients=lambda: (torch.zeros_like(problem.logits_TV),))


@pytest.mark.parametrize(("forward", "status"), [
    (eager, "ok"), (ruinous, "ok"), (broken, "failed: ValueError: no such"), (hungry, "failed: out of memory"),
    (shifted, "wrong: loss off by 0.5"), (without_gradient, "wrong: gradient off by 1"),
])
def test_a_peer_is_checked_before_it_is_timed_and_its_failure_is_only_its_own(forward, status: str) -> None:
    problem = LogitsProblem(8, 64, CPU, 0)
    truth, clock = exact("logits", problem), Clock(CPU, 0.0)
    found = measure(peer("first", forward, overwrites=True), lambda: forward, problem, truth, clock)
    assert found["status"] == status and ("both" in found) == (status == "ok")
    # whatever the first has done to the logits, the next gets them as they were
    assert measure(peer("next", eager), lambda: eager, problem, truth, clock)["status"] == "ok"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_package_that_is_missing_is_not_imported(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)
    monkeypatch.setattr("r1mega_kernels.benchmarks.peer.metadata.version", nothing)
    others = [peer for peer in peers_of(operation, 1 << 20) if not peer.ours]
    assert len(others) > 2
    assert {worker.why_not(peer, CPU) for peer in others} == {"not installed"}


def test_a_row_left_by_a_process_that_died_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "self_check", lambda *_: [])
    monkeypatch.setattr(worker, "peers_of", lambda *_: [peer("killer", broken), peer("next", eager)])
    plan = Plan(operations=("logits",), tokens=(4,), vocabs=(16,), device="cpu", seconds=0.0)
    record = new_record(plan, tmp_path / "logits.json", [])
    shape = Shape("logits", 4, 16, 0)
    record.put(shape._asdict() | {"peer": "killer", "status": worker.CLAIM})
    worker.Worker(plan, record).run()
    again = Record.read(tmp_path / "logits.json")
    assert again.row(shape, "killer")["status"] == worker.CLAIM and again.row(shape, "next")["status"] == "ok"


def test_what_is_not_begun_in_time_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "self_check", lambda *_: [])
    plan = Plan(operations=("logits",), tokens=(4,), vocabs=(16,), device="cpu", peers=("eager",), minutes=0.0)
    record = new_record(plan, tmp_path / "logits.json", [])
    record.data["deadline"] = time.time() - 1
    worker.Worker(plan, record).run()
    assert [row["status"] for row in record.data["rows"]] == [worker.LATE]


def test_an_operation_that_has_no_inputs_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_) -> None:
        raise RuntimeError("no room")
    monkeypatch.setattr(worker, "self_check", lambda *_: [])
    monkeypatch.setattr(worker, "LinearProblem", fails)
    plan = Plan(operations=("logits", "linear"), tokens=(4,), vocabs=(16,), hidden=8, device="cpu",
                peers=("eager",), seconds=0.0)
    record = new_record(plan, tmp_path / "all.json", [])
    worker.Worker(plan, record).run()
    statuses = {row["operation"]: row["status"] for row in record.data["rows"]}
    assert statuses == {"logits": "ok", "linear": "failed before it began: RuntimeError: no room"}


def test_the_truth_of_a_linear_problem_is_that_of_fp64_autograd() -> None:
    problem = LinearProblem(6, 40, 8, CPU, 0)
    truth = exact("linear", problem)
    x, w = (leaf.detach().double().requires_grad_() for leaf in problem.leaves)
    loss_T = -(x @ w.T).log_softmax(1).gather(1, problem.targets_T[:, None])[:, 0]
    expected = torch.autograd.grad(loss_T.sum(), (x, w))
    torch.testing.assert_close(truth.loss_R, loss_T.detach())
    torch.testing.assert_close(truth.gradients[0], expected[0])
    torch.testing.assert_close(truth.gradients[1].double(), expected[1], rtol=1e-6, atol=1e-6)  # kept in fp32


def test_many_rows_are_looked_at_in_part_the_last_one_too() -> None:
    assert looked_at(256, CPU).tolist() == list(range(256))
    rows = looked_at(32768, CPU).tolist()
    assert len(rows) == 32 and rows[0] == 0 and rows[-1] == 32767


def test_the_last_of_many_rows_is_compared_with_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "FAR_ROWS", 9)
    monkeypatch.setattr(selfcheck, "FAR_VOCAB", 33)
    assert selfcheck._far_row(CPU, "reference", 0)["passed"]


def test_a_modelled_message_is_latency_and_bytes_over_bandwidth() -> None:
    plan = Plan(operations=("logits",), tp=8, latency_us=10.0, gigabytes_per_s=100.0)
    # 8192 tokens of 16 bytes from each of 7 others: 917,504 bytes in 9.2 us
    assert modelled_ms((Collective("all-gather", 16),), 8192, plan) == pytest.approx(0.010 + 0.00917504)
    # 4 bytes, 2 x 7 / 8 of 32,768 bytes: 0.6 us; two of them
    assert modelled_ms((Collective("all-reduce", 4),) * 2, 8192, plan) == pytest.approx(2 * (0.010 + 0.00057344))


def test_the_headline_comes_first_and_sizes_grow_away_from_it() -> None:
    shapes = list(Plan(operations=OPERATIONS).shapes())
    assert {shape.tokens for shape in shapes[:5]} == {HEADLINE}
    assert [shape.operation for shape in shapes[:5]] == ["logits", "logits", "linear", "linear", "grpo"]
    assert shapes[-1].tokens == 256 and len(shapes) == 8 * 5


def takes_the_process_along(problem: LogitsProblem) -> Result:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_on_the_way(plan: Plan, path: Path) -> None:
    """As `work`, in the process that the driver starts."""
    worker.peers_of = lambda *_: [peer("killer", takes_the_process_along), peer("next", eager)]
    worker.self_check = lambda *_: []
    worker.work(plan, path)


def test_a_process_that_dies_costs_the_peer_that_ran_and_another_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "work", killed_on_the_way)
    plan = Plan(operations=("logits",), tokens=(4,), vocabs=(16,), device="cpu", seconds=0.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    record = driver.run(plan, tmp_path / "logits.json", [])
    statuses = {row["peer"]: row["status"] for row in record.data["rows"]}
    assert statuses == {"killer": worker.CLAIM, "next": "ok"}


def test_small_things() -> None:
    assert [quantile([3.0, 1.0, 2.0], part) for part in (0.1, 0.5, 0.9)] == [1.0, 2.0, 3.0]
    assert without_folder(["all", "--out", "somewhere", "--quick"]) == ["all", "--quick"]
    assert without_folder(["all", "--out=somewhere"]) == ["all"]
    assert Plan(operations=("logits",)).is_shard(16160) and not Plan(operations=("logits",)).is_shard(129280)
