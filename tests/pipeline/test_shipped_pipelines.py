"""The pipelines in configs/ load, resolve and validate, stage by stage."""

from pathlib import Path

from r1mega.pipeline import load_stages

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_the_tiny_pipeline_has_every_stage_of_r1_in_the_papers_order():
    stages = {stage.name: stage for stage in load_stages(CONFIGS / "tiny/r1.toml")}
    order = ["base", "zero", "cold_start_data", "cold_start", "reasoning", "reasoning_data", "sft", "r1"]
    assert [name for name in stages if name in order] == order
    assert stages["r1"].start == stages["helpfulness"].start == "sft"
    # As in the paper, both supervised stages begin at the base.
    assert stages["cold_start"].start == stages["sft"].start == "base"
    assert {stage.recipe.model.architecture for stage in stages.values()} == {"deepseek_v3", "qwen2", "llama"}
    evaluated = {name.partition(".")[2] for name in stages if name.startswith("evaluate.")}
    assert evaluated == {name for name, stage in stages.items() if stage.recipe.stage in ("pretrain", "sft", "rl")}


def test_the_full_pipeline_resolves_with_six_students():
    stages = {stage.name: stage for stage in load_stages(CONFIGS / "full/r1.toml", files=False)}
    students = [stage for stage in stages.values() if stage.recipe.model.architecture != "deepseek_v3"
                and stage.recipe.stage == "sft"]
    assert len(students) == 6
    assert all(stage.inputs == {"sft.sources.0.paths": "reasoning_data"} for stage in students)
    assert stages["r1"].inputs == {"start.model": "sft", "reward.preference.helpfulness": "helpfulness",
                                   "reward.preference.safety": "safety"}
