"""The doctor on machines that lack things, made of empty folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1mega.cli.doctor.finding import Level
from r1mega.cli.doctor.fit import cache_bytes_per_rank, check_fit, state_bytes_per_rank
from r1mega.cli.doctor.machine import GIB, num_cores
from r1mega.cli.doctor.optional import check_apex
from r1mega.cli.doctor.software import check_pins
from r1mega.config import resolve_recipe

ROOT = Path(__file__).parents[2]


def recipe(name: str, *overrides: str):
    return resolve_recipe(ROOT / f"configs/{name}/zero.toml", overrides, files=False).recipe


def apex_at(folder: Path, monkeypatch, *names: str):
    (folder / "apex").mkdir()
    (folder / "apex/__init__.py").write_text("raise RuntimeError('imported')\n")
    for name in names:
        (folder / "apex" / name).mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return check_apex()


def test_the_package_indexs_apex_is_named_an_impostor_and_not_imported(tmp_path: Path, monkeypatch) -> None:
    finding = apex_at(tmp_path, monkeypatch, "lib")
    assert finding.level is Level.PROBLEM
    assert "impostor" in finding.text and "pip uninstall apex" in finding.text and str(tmp_path) in finding.text


def test_nvidias_apex_without_its_extensions_is_said_to_be_so(tmp_path: Path, monkeypatch) -> None:
    finding = apex_at(tmp_path, monkeypatch, "optimizers", "normalization")
    assert finding.level is Level.OK
    assert "without its CUDA extensions" in finding.text


def test_versions_other_than_the_pinned_are_named(tmp_path: Path) -> None:
    import pydantic
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(f"# tested\npydantic=={pydantic.VERSION}\njinja2==0.1\nnot-installed==1.0\n")
    (finding,) = check_pins(constraints)
    assert finding.level is Level.ABSENT
    assert "jinja2" in finding.text and "tested: 0.1" in finding.text
    assert "pydantic" not in finding.text and "not-installed" not in finding.text


def test_state_of_the_small_model_is_18_bytes_a_parameter_and_a_reference_in_bf16() -> None:
    """One rank, bf16: weight 2, reference 2, fp32 gradient 4, fp32 master and two moments 12."""
    from r1mega.model.counts import count_parameters
    small = recipe("small")
    assert state_bytes_per_rank(small) == 20 * count_parameters(small.model).total
    without = recipe("small", "algorithm.kl_coef=0")
    assert state_bytes_per_rank(without) == 18 * count_parameters(small.model).total


def test_every_reward_model_is_one_more_copy_of_the_weights() -> None:
    """18 bytes a parameter and three times 2, in bf16: the reference and two reward models."""
    from r1mega.model.counts import count_parameters
    judged = recipe("small", "reward.preference={helpfulness='a', safety='b'}")
    assert state_bytes_per_rank(judged) == 24 * count_parameters(judged.model).total


def test_state_is_shared_out_over_the_ranks_that_split_it() -> None:
    """Eight ranks, experts over all of them: an eighth of each expert part with its whole optimizer state; of the
    other parameters a full copy, with an eighth of the optimizer state."""
    from r1mega.model.counts import count_parameters
    counts = count_parameters(recipe("small").model)
    spread = recipe("small", f"layout.extends={ROOT}/configs/layouts/h100-8.toml")
    experts = counts.routed_experts + counts.mtp_experts
    assert counts.mtp_experts > 0 and counts.mtp_experts * spread.model.num_moe_layers == counts.routed_experts
    assert state_bytes_per_rank(spread) == experts / 8 * 20 + (counts.total - experts) * (8 + 12 / 8)


def test_deepseek_v3_on_512_gpus_by_hand() -> None:
    """59 layers of 256 experts over 16 stages x 32 ranks, 20 bytes each; of the rest, a stage's share, 8 and 12/32."""
    experts = 59 * 256 * 44_040_192 / 16 / 32
    others = (682_636_487_424 - 59 * 256 * 44_040_192) / 16
    assert abs(state_bytes_per_rank(recipe("full")) - (experts * 20 + others * (8 + 12 / 32))) < 10
    assert 32.6 < state_bytes_per_rank(recipe("full")) / GIB < 32.8


def test_triton_kernels_without_a_gpu_are_a_problem_before_the_run() -> None:
    asked = recipe("tiny", 'head.implementation="triton"')
    (head,) = [finding for finding in check_fit(asked, num_gpus=0, gpu_bytes=0) if finding.subject == "head"]
    assert head.level is Level.PROBLEM and 'head.implementation="reference"' in head.text
    assert not [finding for finding in check_fit(asked, num_gpus=2, gpu_bytes=80 * GIB) if finding.subject == "head"]


def test_the_rollouts_cache_is_counted_and_its_keys_are_named_where_it_does_not_fit() -> None:
    """4 layers of a stage x rows x (1,024 + 32,768) positions x (512 + 64) latents x 2 bytes."""
    full = recipe("full", "rollout.slots=200")
    assert cache_bytes_per_rank(full) == 4 * 200 * 33_792 * 576 * 2
    assert cache_bytes_per_rank(recipe("full", "rollout.slots=9999")) == 4 * 256 * 33_792 * 576 * 2  # a replica's share
    assert cache_bytes_per_rank(recipe("full", "rollout.slots=200", "rollout.max_new_tokens=8192")) == (
        4 * 200 * 9216 * 576 * 2)
    for gpu, level in ((80, Level.OK), (60, Level.PROBLEM)):
        (memory,) = [finding for finding in check_fit(full, 512, gpu * GIB) if finding.subject == "memory"]
        assert memory.level is level and "29.0 of the rollout's cache" in memory.text
        assert ("rollout.slots=200" in memory.text) == (level is Level.PROBLEM)


def test_a_model_too_large_for_the_gpu_is_a_problem_that_names_the_keys_to_turn() -> None:
    findings = list(check_fit(recipe("small"), num_gpus=1, gpu_bytes=24 * GIB))
    (memory,) = [finding for finding in findings if finding.subject == "memory"]
    assert memory.level is Level.PROBLEM
    assert "expert_parallel" in memory.text
    findings = list(check_fit(recipe("small"), num_gpus=1, gpu_bytes=80 * GIB))
    assert all(finding.level is Level.OK for finding in findings)


def test_more_ranks_than_gpus_says_how_many_machines() -> None:
    ranks = next(check_fit(recipe("full"), num_gpus=8, gpu_bytes=80 * GIB))
    assert ranks.level is Level.ABSENT and "64 such machines" in ranks.text
    crowded = next(check_fit(recipe("tiny", f"layout.data_parallel={4 * num_cores()}",
                                    f"rollout.problems_per_step={4 * num_cores()}"), num_gpus=0, gpu_bytes=0))
    assert crowded.level is Level.ABSENT and "take turns" in crowded.text


def test_nothing_missing_makes_it_crash(tmp_path: Path) -> None:
    """A Python that finds r1mega's source and none of the packages: no torch, no psutil, no metadata."""
    program = (f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [{str(ROOT)!r}]\n"
               "from r1mega.cli.main import main; sys.exit(main(['doctor']))")
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, cwd=tmp_path,
                          env={"PATH": "", "HOME": os.environ.get("HOME", "/")})
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1
    assert "launch/setup" in done.stdout
    done = subprocess.run([sys.executable, "-S", "-c", program.replace("'doctor'", "'run', 'x.toml'")], cwd=tmp_path,
                          capture_output=True, text=True, env={"PATH": ""})
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "pydantic is missing" in done.stderr


def test_the_doctor_tries_the_sandbox_and_says_what_a_refusal_costs() -> None:
    """Inside a user namespace without room for another one there is none."""
    code = "from r1mega.cli.doctor.machine import check_sandbox as f; found = f(); print(found.level.value, found.text)"
    full = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    refused = ["unshare", "--user", "--map-root-user", "sh", "-c", full, "sh"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = [subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, text=True, env=environment)
            for prefix in ([], refused)]
    if said[1].returncode != 0 or said[0].stdout.startswith("-- none"):
        pytest.skip(f"NOT TESTED: {said[1].stderr.strip()[-200:] or said[0].stdout}")
    assert said[0].stdout.startswith("ok programs get a user, processes, mounts, a network")
    assert said[1].stdout.startswith("-- none (user namespaces: ")
    assert 'reward.code.sandbox="none-i-accept-the-risk"' in said[1].stdout
