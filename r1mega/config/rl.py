"""Rollouts, rewards, the algorithm and the evaluation."""

from typing import Annotated, Literal

from pydantic import Field

from r1mega.config.preference import PreferenceReward
from r1mega.config.section import RelativePath, Section


class RolloutConfig(Section):
    """Defaults are R1-Zero's (arXiv 2501.12948): 32 questions a step, 16 outputs each, temperature 1."""

    problems_per_step: int = Field(32, ge=1)
    group_size: int = Field(16, ge=2)
    max_new_tokens: int = Field(ge=1)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    """0: off."""
    slots: int = Field(256, ge=1)
    """Sequences decoded at a time by one data-parallel replica; a finished one frees its slot."""


class CodeConfig(Section):
    """Problems of scorer "code": programs, run on hidden tests behind walls of their own."""

    sandbox: Literal["required", "none-i-accept-the-risk"] = "required"
    """required: where the kernel cannot confine a program, the run does not start. none-i-accept-the-risk: programs
    run as you, with your files and your network."""
    timeout_s: float = Field(4.0, gt=0)
    """Limit for one test, of all processes together: of the CPU, plus what they sleep."""
    memory_mb: int = Field(256, ge=32)
    """Of all processes together."""
    scratch_mb: int = Field(16, ge=1)
    """Of the folder they may write to, which is gone after each program."""
    processes: int = Field(16, ge=1)
    """Threads count."""
    max_output_kb: int = Field(256, ge=1)
    max_program_chars: int = Field(20_000, ge=1)


Language = Literal["ar", "be", "bg", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id",
                   "it", "ja", "kk", "ko", "mr", "ne", "nl", "no", "pl", "pt", "ro", "ru", "sr", "sv", "ta", "te", "th",
                   "tr", "uk", "ur", "vi", "zh"]  # ISO 639-1; what reward/language can tell apart


Form = Literal["answer", "summary"]


class RewardConfig(Section):
    """Weights of the parts; the total is their weighted sum."""

    accuracy: float = Field(1.0, ge=0)
    format: float = Field(1.0, ge=0)
    form: Form = "answer"
    """What earns the format reward. answer: the reasoning, then the answer in its tags and nothing else (R1-Zero's);
    summary: the reasoning, then a text for the reader with the answer's tags in it (that of cold-start data)."""
    language: float | None = Field(None, ge=0)
    """Language consistency: the share of the reasoning's words that are in the target language. 0: measured and logged,
    not paid; none: not measured."""
    target_language: Literal["problem", Language] = "en"
    """problem: each problem's own, which its data source must tell."""
    timeout_s: float = Field(2.0, gt=0)
    """Limit for checking one answer; past it the answer scores 0."""
    workers: int = Field(2, ge=1)
    memory_mb: int = Field(512, ge=64)
    """Address space a worker may add to its own start."""
    max_answer_chars: int = Field(2000, ge=1)
    """Of answers that are no programs."""
    code: CodeConfig = CodeConfig()
    preference: PreferenceReward | None = None


class GrpoConfig(Section):
    """Group relative policy optimisation (arXiv 2402.03300, equation 3; arXiv 2501.12948, equations 1-3)."""

    kind: Literal["grpo"] = "grpo"
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.2, gt=0)
    kl_coef: float = Field(0.001, ge=0)
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    dual_clip: float | None = Field(None, gt=1)
    """Where the advantage is negative, a ratio beyond this costs no more (arXiv 1912.09729)."""
    ratio: Literal["token", "sequence"] = "token"
    """sequence: the geometric mean of an output's ratios, for all its tokens (GSPO, arXiv 2507.18071)."""
    entropy_coef: float = Field(0.0, ge=0)
    """Times the entropy at each token, taken from the loss."""
    importance_cap: float | None = Field(None, gt=0)
    """Weigh each token by old / sampler probability, at most this (truncated importance sampling)."""
    reduction: Literal["per_output", "per_token", "constant"] = "per_output"
    """per_output: mean over an output's tokens, then over outputs (the paper's); per_token: over all tokens;
    constant: sum over an output's tokens divided by `constant_length`, mean over outputs (Dr. GRPO, 2503.20783)."""
    constant_length: int = Field(1024, ge=1)
    normalize_by_std: bool = True
    mini_batches: int = Field(1, ge=1)
    """A rollout is split at random into this many optimizer steps (R1-Zero: 16), one inner epoch."""
    reference_interval: int = Field(400, ge=0)
    """The reference becomes the policy every so many steps; 0: never."""
    old_log_probs: Literal["trainer", "sampler"] = "trainer"
    drop_equal_groups: bool = False
    """Leave out groups whose rewards are all equal (their advantages are all zero; the KL term goes with them)."""
    max_empty_steps: int = Field(20, ge=1)
    """So many steps in a row with every group left out end the run."""


class SuitesConfig(Section):
    """What stage evaluate, and `r1mega evaluate --recipe`, ask a finished model. Defaults are DeepSeek-R1's
    (arXiv 2501.12948)."""

    paths: list[Annotated[str, RelativePath()]] = []
    """Files of suites, e.g. configs/suites/aime-2024.toml."""
    name: str | None = Field(None, min_length=1)
    """Of the model in tables; by default its run and step."""
    samples: int | None = Field(None, ge=1)
    """Of each problem; by default as many as the suite says."""
    temperature: float = Field(0.6, ge=0)
    """0 takes the likeliest token."""
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int = Field(32768, ge=1)
    """At most; less where the model's context ends before."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of the samples, and of the order of options."""
    slots: int = Field(64, ge=1)
    """Sequences decoded at a time by one data-parallel replica."""
    keep_texts: bool = False
    """Keep every completion in the results, not only its answer."""


class EvaluationConfig(Section):
    """pass@1 on held-out problems while training, as the mean over samples; suites for finished models."""

    every: int = Field(0, ge=0)
    """Steps between evaluations; 0: only if asked at the end."""
    at_start: bool = True
    at_end: bool = True
    samples: int = Field(1, ge=1)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    suites: SuitesConfig = SuitesConfig()
