"""The report as a reader gets it: parsed from the HTML, with numbers worked by hand from the records."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.report import write_report
from tests.report.synthetic import write_run

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements by name, the text of each class, and whether every tag was closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.by_class: dict[str, list[str]] = {}
        self.text = ""
        self._open: list[tuple[str, str]] = []
        self.feed(self.source)
        assert self._open == [], f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += attrs
        name = dict(attrs).get("class") or ""
        if tag not in VOID:
            self._open.append((tag, name))
            self.by_class.setdefault(name, []).append("")

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open and self._open[-1][0] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        if any(tag in ("style", "script") for tag, _ in self._open):
            return
        self.text += data
        for _, name in self._open:
            self.by_class[name][-1] += data


def run_of(folder: Path, *records: dict, samples: tuple[dict, ...] = ()) -> Path:
    folder.mkdir()
    for name, objects in (("metrics.jsonl", records), ("samples.jsonl", samples)):
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in objects))
    return folder


def cards(page: Page) -> dict[str, tuple[str, str]]:
    return {name: (value, about) for name, value, about in
            zip(page.by_class["name"], page.by_class["value"], page.by_class["about"], strict=True)}


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Page:
    folder = write_run(tmp_path_factory.mktemp("one") / "tiny-zero", steps=60)
    return Page(write_report([folder]))


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Page:
    root = tmp_path_factory.mktemp("three")
    runs = [write_run(root / f"run-{seed}", steps=60, seed=seed) for seed in range(3)]
    return Page(write_report(runs, root / "out" / "all.html"))


def test_headline_figures_are_those_worked_by_hand(tmp_path):
    run = run_of(
        tmp_path / "r",
        {"step": 0, "stage": "rl", "wall_s": 10.0, "heldout_pass_at_1": 0.125, "heldout_problems": 256,
         "heldout_samples": 4},
        {"step": 1, "stage": "rl", "wall_s": 20.0, "tokens": 1000, "tokens_per_s": 100.0, "reward": 0.25,
         "response_tokens": 50.0},
        {"step": 2, "stage": "rl", "wall_s": 30.0, "tokens": 500, "tokens_per_s": 300.0, "reward": 1.75,
         "response_tokens": 90.4},
        {"step": 2, "stage": "rl", "wall_s": 65.0, "heldout_pass_at_1": 0.75, "heldout_pass_at_1_low": 0.701,
         "heldout_pass_at_1_high": 0.798, "heldout_problems": 256, "heldout_samples": 4})
    assert cards(Page(write_report([run]))) == {
        "held-out pass@1": ("12.5% → 75.0%", "95% interval 70.1 to 79.8%; 256 problems × 4"),
        "reward": ("0.25 → 1.75", "first and last 5% of steps"),
        "response length": ("50 → 90", "tokens a completion"),
        "steps": ("2", "1,500 tokens trained on"),
        "time": ("2m 05s", "300 tokens/s (median step)"),
    }


def test_several_runs_are_averaged_and_listed(tmp_path):
    runs = [run_of(tmp_path / f"r{i}",
                   {"step": 0, "stage": "rl", "wall_s": 5.0, "heldout_pass_at_1": first},
                   {"step": 9, "stage": "rl", "wall_s": 55.0, "heldout_pass_at_1": last,
                    "heldout_problems": 300})
            for i, (first, last) in enumerate([(0.1, 0.7), (0.2, 0.8), (0.3, 0.9)])]
    page = Page(write_report(runs, tmp_path / "report.html"))
    assert cards(page)["held-out pass@1"] == ("20.0% → 80.0%", "3 runs end at 70.0 to 90.0%; 300 problems")
    assert cards(page)["time a run"][0] == "1m 00s"
    rows = re.findall(r"<tr><td><span[^>]*></span>(r\d)</td>\s*<td>([^<]*)</td><td><b>([^<]*)</b>",
                      page.source)
    assert rows == [("r0", "10.0%", "70.0%"), ("r1", "20.0%", "80.0%"), ("r2", "30.0%", "90.0%")]


def test_one_run_has_every_plot_samples_recipe_and_what_ran(one):
    headings = re.findall(r"<h3[^>]*>([^<]+)</h3>", one.source)
    assert headings == [
        "Held-out pass@1", "reward and its parts", "reward and held-out truth", "pass rate", "held-out format", "loss",
        "MTP loss", "response length", "truncated", "entropy", "KL", "groups dropped", "gradient norm", "learning rate",
        "clipped", "log-prob gap", "expert imbalance", "time per phase", "tokens/s"]
    assert one.tags["svg"] == len(headings) == one.tags["figure"]
    for text in ("tiny-zero", "reinforcement learning with GRPO", "1.63M parameters", "2 ranks (DP2 · EP2)",
                 "megatron-core 0.19.2", "Example CPU, 2 cores, 24 GiB", "configs/tiny/zero.toml",
                 "0123456789ab", "2026-01-02 03:04:05 UTC", 'name = "tiny-zero"',
                 "Not recorded, hence not shown: held-out length"):
        assert text in one.text, text


def test_several_runs_share_plots_with_a_legend_and_a_mean(three):
    assert three.tags["svg"] == 20  # the reward's two parts have plots of their own
    for text in ("seed 0", "seed 1", "seed 2", "mean of 3", "lowest to highest",
                 "3 runs: seed 0, seed 1, seed 2"):
        assert text in three.text, text


def test_nothing_in_the_page_points_outside_it(one, three):
    for page in (one, three):
        assert "://" not in page.source
        assert not re.search(r"@import|<script|<link|<img|<iframe|javascript:", page.source)
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page.source))
        assert all(value.startswith("#") for name, value in page.attributes if name in ("href", "src"))
        assert "default-src 'none'" in page.source


def test_ids_are_unique_and_every_reference_has_its_target(three):
    ids = [value for name, value in three.attributes if name == "id"]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', three.source))
    assert len(ids) == len(set(ids))
    assert used == set(ids)


def test_the_same_runs_give_the_same_bytes(tmp_path):
    run = write_run(tmp_path / "tiny-zero", steps=30)
    first = write_report([run], tmp_path / "a.html").read_bytes()
    assert write_report([run], tmp_path / "b.html").read_bytes() == first


def test_a_hostile_completion_is_shown_as_text(tmp_path):
    text = ("</pre><script>alert(1)</script><img src=//evil.example/x>\x1b[2J\x00\ud800 \u202egnp "
            "<answer>7</answer>")
    sample = {"split": "heldout", "problem": "p", "question": "<b>q</b>", "answer": "7", "text": text,
              "reward": 2.0, "parts": {"accuracy": 1.0}}
    run = run_of(tmp_path / "r", {"step": 0, "stage": "rl"}, {"step": 9, "stage": "rl"},
                 samples=({"step": 0, **sample}, {"step": 9, **sample}))
    page = Page(write_report([run]))
    assert "script" not in page.tags and "img" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert not re.search("[\x00\x1b\u202e\ud800]", page.source)
    assert "<i>&lt;answer&gt;</i><b>7</b><i>&lt;/answer&gt;</i>" in page.source


@pytest.mark.parametrize("records", [(), ({"step": 0, "stage": "rl"},),
                                     ({"step": 1, "stage": "pretrain", "loss": 4.0, "grad_norm": None},)])
def test_a_run_of_no_or_one_step_has_a_report(tmp_path, records):
    page = Page(write_report([run_of(tmp_path / "r", *records)]))
    assert ("No step has been recorded yet" in page.text) is (not records)
    assert page.tags.get("svg", 0) == sum("loss" in record for record in records)


def test_a_pretraining_run_leads_with_its_loss(tmp_path):
    run = run_of(tmp_path / "r", *({"step": step, "stage": "pretrain", "wall_s": 1.0, "loss": 6.0 / step,
                                    "mtp_loss": 7.0 / step, "tokens": 10} for step in range(1, 4)))
    page = Page(write_report([run]))
    assert cards(page)["loss"] == ("6.00 → 2.00", "first and last 5% of steps")
    assert "held-out pass@1" in page.by_class["note"][-1]  # among what was not recorded


def test_a_damaged_line_is_named(tmp_path):
    run = run_of(tmp_path / "r", {"step": 0, "stage": "rl"}, {"step": 1, "stage": "rl"})
    content = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([content[0][:9], content[1], ""]))
    with pytest.raises(UserError, match=r"metrics\.jsonl:1: damaged line"):
        write_report([run])


def test_a_last_line_still_being_written_is_left_out(tmp_path):
    run = run_of(tmp_path / "r", {"step": 1, "stage": "rl"}, {"step": 2, "stage": "rl"})
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "sta')
    assert cards(Page(write_report([run])))["steps"][0] == "2"


def write(run: Path, name: str, first_line: str) -> None:
    """With a whole line after it: a damaged last line is one still being written."""
    after = "" if name.endswith((".toml", ".json")) else '{"step": 2}\n'
    (run / name).write_text(first_line + "\n" + after)


def test_a_number_that_is_none_is_left_out_and_the_rest_is_drawn(tmp_path):
    run = run_of(tmp_path / "r", {"step": 1, "stage": "rl"})
    write(run, "metrics.jsonl", '{"step": 1, "loss": NaN, "tokens": NaN, "wall_s": Infinity, "heldout_pass_at_1": NaN}')
    assert cards(Page(write_report([run])))["steps"][0] == "2"


@pytest.mark.parametrize(("prepare", "message"), [
    (lambda run: run.joinpath("metrics.jsonl").unlink(), "no metrics.jsonl in it"),
    (lambda run: run.joinpath("recipe.toml").write_text("a =\nb = 1"), r"recipe\.toml: .*line 1"),
    (lambda run: run.joinpath("environment.json").write_text("[]"), r"environment\.json: not a JSON object"),
    (lambda run: run.joinpath("samples.jsonl").write_text("{}\n{}\n"), r"samples\.jsonl:1: damaged line"),
    (lambda run: run.joinpath("report.html").mkdir(), r"report\.html: cannot be written"),
    (lambda run: write(run, "metrics.jsonl", '{"step": 1, "wall_s": "x"}'), r"metrics\.jsonl:1: .*wall_s is not"),
    (lambda run: write(run, "metrics.jsonl", '{"step": 1, "reward_x": [1]}'), r"metrics\.jsonl:1: .*reward_x is not"),
    (lambda run: write(run, "metrics.jsonl", '{"step": -1}'), r"metrics\.jsonl:1: .*step=-1"),
    (lambda run: write(run, "metrics.jsonl", f'{{"step": 1, "loss": {10**400}}}'), r"metrics\.jsonl:1: damaged"),
    (lambda run: write(run, "metrics.jsonl", '{"step": 1, "heldout_problems": -3}'), r"metrics\.jsonl:1: .*below 0"),
    (lambda run: write(run, "metrics.jsonl", '{"step": 1, "stage": []}'), r"metrics\.jsonl:1: .*stage is"),
    (lambda run: write(run, "samples.jsonl", '{"step": 1, "parts": [1]}'), r"samples\.jsonl:1: .*parts is"),
    (lambda run: write(run, "samples.jsonl", '{"step": 1, "reward": {}}'), r"samples\.jsonl:1: .*reward is"),
    (lambda run: run.joinpath("recipe.toml").mkdir(), r"recipe\.toml: cannot be read \(Is a directory\)"),
    (lambda run: write(run, "recipe.toml", "seed = 1\ntokenizer = 3"), r"recipe\.toml:2: tokenizer is not a table"),
    (lambda run: write(run, "recipe.toml", "[tokenizer]\ntemplate = []"), r"recipe\.toml:2: tokenizer\.template is"),
    (lambda run: write(run, "recipe.toml", "seed = []"), r"recipe\.toml:1: seed is not a whole number"),
    (lambda run: write(run, "environment.json", '{"packages": 3}'), r"environment\.json: packages is a int"),
    (lambda run: write(run, "environment.json", f'{{"cores": {10**400}}}'), r"environment\.json: cores is no number"),
    (lambda run: write(run, "environment.json", '{"memory_gib": "x"}'), r"environment\.json: memory_gib is a str"),
])
def test_what_cannot_be_read_or_written_is_named(tmp_path, prepare, message):
    run = run_of(tmp_path / "r", {"step": 1, "stage": "rl"})
    prepare(run)
    with pytest.raises(UserError, match=message):
        write_report([run])


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such run folder"):
        write_report([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no run given"):
        write_report([])


def test_importing_the_report_loads_neither_matplotlib_nor_torch():
    script = "import sys, r1mega.report; print({'matplotlib', 'torch', 'megatron'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_reward_and_what_no_reward_sees_are_in_one_figure_with_the_alarms(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=20, evaluate_every=5)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record["reward_preference"] = 0.5 + record["step"] / 50
        if "heldout_pass_at_1" in record:
            record |= {"heldout_general_helpful": 0.6, "heldout_general_helpful_low": 0.5,
                       "heldout_general_helpful_high": 0.7, "hacking_alarm": float(record["step"] == 10)}
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    text = write_report([run]).read_text()
    assert "reward and held-out truth" in text and "the preference reward of training" in text
    for label in ("reward: preference", "held-out truly helpful", ">alarm<"):
        assert label in text.replace("\n", "")
