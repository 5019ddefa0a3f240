"""From R1-Zero's outputs to cold-start samples: what is kept, how it reads, where it is from."""

import json
from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.config.data import ChatTemplate
from r1mega.config.sft import SampleFiles, SftConfig
from r1mega.data.sft_load import load_demonstrations
from r1mega.record import Completion, Problem, Rollout, RolloutGroup, Score
from r1mega.rollout import Engine, Sampling, sample_seed
from r1mega.stage.cold_start import Sampled, from_rollouts, merge_files, write_rows
from r1mega.stage.model_rewriter import EngineText, ModelRewriter
from r1mega.stage.readable import RuleRewriter, Rules, expression_of, repeated_share, steps_of, wrong_equations

TEMPLATE = ChatTemplate()
REWRITE = RuleRewriter(TEMPLATE)
GOOD = "<think> 3-8=-5 -5+4=-1 </think> <answer> -1 </answer>"
SAMPLED = Sampled("runs/zero/checkpoints/step-60", run_seed=3, step=60)


def group(question: str, *texts: str, right: bool = True, finish: str = "stop", tokens: int = 5) -> RolloutGroup:
    problem = Problem("chain_sum", question, "-1")
    return RolloutGroup(problem, tuple(
        Rollout(problem, index, (1,), Completion([0] * tokens, [0.0] * tokens, finish), text,
                Score(2.0, {"accuracy": float(right), "format": 1.0}, {})) for index, text in enumerate(texts)))


def test_a_good_output_becomes_steps_and_a_summary_with_its_provenance():
    found = from_rollouts([group("What is 3 - 8 + 4 =", GOOD)], SAMPLED, TEMPLATE, REWRITE)
    (row,) = found.rows
    assert row["response"] == "<think>\n3-8=-5\n-5+4=-1\n</think>\n3 - 8 + 4 = <answer> -1 </answer>"
    problem = Problem("chain_sum", "What is 3 - 8 + 4 =", "-1")
    assert row["provenance"] == {
        "model": "runs/zero/checkpoints/step-60", "problem": problem.id, "task": "chain_sum", "sample": 0,
        "seed": sample_seed(3, 60, problem.id, 0), "step": 60,
        "filters": ["correct", "well_formed", "complete", "within_length", "has_reasoning", "no_repetition",
                    "equations_hold"]}
    assert row["prompt"] == "What is 3 - 8 + 4 =" and not found.dropped


def test_other_questions_get_a_sentence_or_the_bare_tags():
    text = "<think> It is 4.\nIt is 4.\nSo 4. </think><answer>4</answer>"
    assert REWRITE("How many?", text) == "<think>\nIt is 4.\nSo 4.\n</think>\nThe result is <answer> 4 </answer>"
    assert RuleRewriter(TEMPLATE, sentence=None)("3 + 1 =", text).endswith("</think>\n<answer> 4 </answer>")
    inside = TEMPLATE.model_copy(update={"think_in_prompt": True})
    assert RuleRewriter(inside)("How many?", text).startswith("It is 4.\n")


@pytest.mark.parametrize(("bad", "reason"), [
    (group("q", GOOD, right=False), "failed correct"), (group("q", GOOD, finish="length"), "failed complete"),
    (group("q", GOOD, tokens=101), "failed within_length"),
    (group("q", "<think> x </think>"), "failed well_formed"),
    (group("q", "<think>  </think><answer>4</answer>"), "failed has_reasoning"),
    (group("q", f"<think> {'again and ' * 20} </think><answer>4</answer>"), "failed no_repetition"),
    (group("q", "<think> 3-8=-4 -4+3=-1 </think><answer>-1</answer>"), "failed equations_hold"),
])
def test_every_bad_output_is_dropped_for_its_own_reason(bad: RolloutGroup, reason: str):
    found = from_rollouts([bad], SAMPLED, TEMPLATE, REWRITE, Rules(max_tokens=100))
    assert found.rows == [] and found.dropped == {reason: 1}


def test_the_shortest_outputs_of_a_problem_are_kept_up_to_the_cap():
    problem = group("q", GOOD).problem
    texts = [f"<think> {word} </think><answer>-1</answer>" for word in ("long", "short", "short", "longest")]
    rollouts = tuple(
        Rollout(problem, index, (1,), Completion([0] * length, [0.0] * length, "stop"), text,
                Score(2.0, {"accuracy": 1.0, "format": 1.0}, {}))
        for index, (text, length) in enumerate(zip(texts, (7, 5, 6, 9), strict=True)))
    found = from_rollouts([RolloutGroup(problem, rollouts)], SAMPLED, TEMPLATE, REWRITE, per_problem=2)
    assert [row["provenance"]["sample"] for row in found.rows] == [1, 0]
    assert found.dropped == {"duplicate": 1, "beyond per_problem": 1}


@pytest.mark.parametrize(("text", "wrong"), [
    ("3-8=-5 -5+4=-1", []), ("3 - 8 = -4, then", ["3 - 8 = -4"]), ("1+2+3=6", []), ("1 + 2 + 3 = 7", []),
    ("2*3=7", ["2*3=7"]), ("7/2=3.5 and 1/3=0.33", []), ("1/3=0.34", ["1/3=0.34"]), ("5/0=1", ["5/0=1"]),
    ("3+4=9-2", []), ("3+4=9 - 2", []), ("0.1+0.2=0.3", []), ("x2+3=9", []), ("9" * 5000 + "+1=2", []),
    ("2+2=5apples", []),
])
def test_equations_of_two_numbers_are_checked_and_longer_ones_left_alone(text: str, wrong: list[str]):
    assert wrong_equations(text) == wrong


def test_hostile_texts_are_read_in_no_time():
    import time
    begun = time.perf_counter()
    for text in ("1" * 200_000, "1 " * 100_000, "1+" * 100_000, "-" * 200_000, "1" + " " * 200_000, "1=" * 100_000):
        wrong_equations(text), steps_of(text), repeated_share(text, 8), expression_of(text + "=")
    assert time.perf_counter() - begun < 20


def test_repetition_by_hand():
    """Ten words a b a b a b a b a b have nine pairs, of which two differ: 7 of 9 were there before."""
    assert repeated_share("a b " * 5, 2) == pytest.approx(7 / 9)
    assert repeated_share("a b c d", 2) == 0 and repeated_share("a", 8) == 0
    assert repeated_share("五" * 100, 8) > 0.9


def test_steps_are_a_line_each():
    assert steps_of("3-8=-5 -5+4=-1") == ["3-8=-5", "-5+4=-1"]
    assert steps_of("First 3-8=-5, then -5+4=-1.") == ["First 3-8=-5, then -5+4=-1."]
    assert steps_of("a\n\n a \nb\na") == ["a", "b", "a"]
    assert expression_of("Compute: 2 * (3 + 4) = ?") == "2 * (3 + 4)" and expression_of("x + 1 = 4, x?") is None
    assert expression_of("what =") is None


def test_any_callable_can_rewrite_and_what_it_loses_is_dropped():
    asked = []

    def model(text: str) -> str:
        asked.append(text)
        return answers.pop()

    answers = ["<think> clean </think> So <answer>-1</answer>", "<think> clean </think> So <answer>1</answer>", "no"]
    rewrite = ModelRewriter(model, TEMPLATE)
    problems = [group(f"question {number}", GOOD) for number in range(3)]
    found = from_rollouts(problems, SAMPLED, TEMPLATE, rewrite)
    assert found.dropped == {"rewriting lost the reasoning": 1, "rewriting changed the answer": 1}
    assert [row["response"] for row in found.rows] == ["<think> clean </think> So <answer>-1</answer>"]
    assert "question 2" in asked[2] and "3-8=-5 -5+4=-1" in asked[2] and "<answer> -1 </answer>" in asked[2]


def test_users_files_are_merged_and_what_is_written_is_what_sft_reads(tmp_path: Path):
    (tmp_path / "mine.jsonl").write_text(
        json.dumps({"prompt": "Who?", "response": "Me.", "id": "mine-1", "source": "by hand"}) + "\n"
        + json.dumps({"prompt": "held  out", "response": "x"}) + "\n")
    found = from_rollouts([group("3 - 8 + 4 =", GOOD)], SAMPLED, TEMPLATE, REWRITE)
    mine = SampleFiles(name="user", paths=["mine.jsonl"])
    merged = merge_files(found, [mine], tmp_path, heldout={"held out"})
    assert merged.dropped == {"held-out question": 1}
    about = write_rows(merged, tmp_path / "out/cold.jsonl")
    assert about["rows"] == 2 and about["by_source"] == {"rollouts": 1, "by-hand": 1}
    source = SampleFiles(name="cold", paths=["out/cold.jsonl"])
    read = [sample for _, sample in load_demonstrations(SftConfig(sources=[source]), tmp_path)]
    assert [(sample.source, sample.id) for sample in read] == [
        ("rollouts", found.rows[0]["id"]), ("by-hand", "mine-1")]
    assert read[1].turns == (("Who?", "Me."),)
    assert merged.rows[1]["provenance"]["file"].endswith("mine.jsonl:1")
    with pytest.raises(ValueError, match="1 ids are there twice"):
        write_rows(merge_files(merged, [mine], tmp_path), tmp_path / "out/cold.jsonl")
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"mine\.jsonl:1"):
        merge_files(found, [mine], tmp_path)


def test_our_own_engine_is_a_callable_from_text_to_text(groups):
    from r1mega.config import load_recipe
    from r1mega.data import train_tokenizer
    from r1mega.model import build_policy
    from tests.stage.supervised import ROOT

    recipe = load_recipe(ROOT / "configs/tiny/base.toml", ["layout={tensor_parallel=1}", "model.num_layers=2"])
    template = recipe.tokenizer.template
    tokenizer = train_tokenizer(["abc 123\n"], 128, template)
    engine = Engine(build_policy(recipe.model, groups, seed=1), groups, recipe.model, 2)
    sampling = Sampling(max_new_tokens=6, stop_ids=(tokenizer.eos_id,))
    ask = EngineText(engine, tokenizer, template, sampling, seed=0)
    said = [ask("abc 1"), ask("abc 2"), ask("abc 1")]
    assert said[0] == said[2] and all(isinstance(text, str) for text in said)
