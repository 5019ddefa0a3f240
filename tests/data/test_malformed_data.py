"""Mistakes in data files, sources, tokenizers and templates: each is told in one or two lines that name where
and how to mend it. A case is (what is written, what the message must hold)."""

import json
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from r1mega.config import UserError
from r1mega.config.data import (
    ChatTemplate,
    DataConfig,
    Fields,
    FilesSource,
    HuggingFaceSource,
    ReasoningGymSource,
)
from r1mega.data import (
    Tokenizer,
    check_step_size,
    encode_prompts,
    load_problems,
    render_prompt,
    split,
    train_tokenizer,
)
from r1mega.record import Problem

GOOD = b'{"question": "1+1?", "answer": "2"}\n'


def message_of(action) -> str:
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert message and message.count("\n") <= 1 and "Traceback" not in message
    assert len(message) < 600
    return message


def load_files(folder: Path, *paths: str, **fields: str) -> list[Problem]:
    source = FilesSource(paths=list(paths), fields=Fields(**fields))
    return load_problems(DataConfig(sources=[source]), folder)


BAD_LINES = {
    "a comma missing": (
        GOOD + b'{"question": "1+1?" "answer": "2"}\n',
        r"p\.jsonl:2: column 21: bad JSON "
        r".*one JSON object",
    ),
    "a line cut short": (GOOD * 2 + b'{"question": "1+', r"p\.jsonl:3: column \d+: bad JSON"),
    "one list over many lines": (
        b'[\n{"question": "1", "answer": "2"}\n]',
        r"p\.jsonl:1: .*one object a "
        r"line, not one list",
    ),
    "a list on a line": (
        b'["1+1?", "2"]\n',
        r'p\.jsonl:1: expected an object such as \{"question".*found a list',
    ),
    "a text on a line": (b'"1+1?"\n', r"p\.jsonl:1: expected an object .*found text"),
    "null on a line": (GOOD + b"null\n", r"p\.jsonl:2: expected an object .*found null"),
    "question misspelt": (
        b'{"questoin": "1+1?", "answer": "2"}\n',
        r"p\.jsonl:1: no field 'question' .*did "
        r"you mean 'questoin'",
    ),
    "answer missing": (
        GOOD + b"\n" + b'{"question": "1+1?"}\n',
        r"p\.jsonl:3: no field 'answer' "
        r"\(fields\.answer.*legal: question",
    ),
    "question a number": (
        b'{"question": 11, "answer": "2"}\n',
        r"p\.jsonl:1: field 'question' is a number "
        r"\(11\).*text",
    ),
    "answer a list": (
        b'{"question": "1", "answer": ["2"]}\n',
        r"p\.jsonl:1: field 'answer' is a list; "
        r".*text or a number",
    ),
    "answer an object": (
        b'{"question": "1", "answer": {"a": 1}}\n',
        r"p\.jsonl:1: field 'answer' is an "
        r"object",
    ),
    "answer true": (
        b'{"question": "1", "answer": true}\n',
        r"p\.jsonl:1: field 'answer' is a boolean "
        r"\(True\)",
    ),
    "answer not a number": (GOOD + b'{"question": "1", "answer": NaN}\n', r"p\.jsonl:2: field 'answer' is nan"),
    "answer infinite": (b'{"question": "1", "answer": -Infinity}\n', r"p\.jsonl:1: field 'answer' is -inf"),
    "answer null": (b'{"question": "1", "answer": null}\n', r"p\.jsonl:1: field 'answer' is null"),
    "question blank": (
        GOOD + b'{"question": " \\n", "answer": "2"}\n',
        r"p\.jsonl:2: field 'question' is "
        r"empty; .*remove this row",
    ),
    "answer blank": (b'{"question": "1", "answer": ""}\n', r"p\.jsonl:1: field 'answer' is empty"),
    "not UTF-8": (GOOD + b'{"question": "caf\xe9", "answer": "2"}\n', r"p\.jsonl:2: byte 18 is not UTF-8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), r"p\.jsonl:1: byte 1 is not UTF-8"),
    "a lone surrogate": (
        b'{"question": "a\\ud800b", "answer": "2"}\n',
        r"p\.jsonl:1: .*lone surrogate "
        r"\(U\+D800\) at character 1",
    ),
    "ten thousand digits": (
        b'{"question": "1", "answer": ' + b"9" * 10_000 + b"}\n",
        r"p\.jsonl:1: bad JSON "
        r".*as text",
    ),
    "ten thousand brackets": (b"[" * 100_000 + b"\n", r"p\.jsonl:1: JSON nested too deeply"),
    "no byte": (b"", r"p\.jsonl: no problems in it"),
    "only blank lines": (b"\n \n\n", r"p\.jsonl: no problems in it"),
}


@pytest.mark.parametrize(("content", "expected"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_named_by_file_and_number(tmp_path, content, expected):
    (tmp_path / "p.jsonl").write_bytes(content)
    assert re.search(expected, message_of(lambda: load_files(tmp_path, "p.jsonl")))


def test_a_file_that_is_missing_a_folder_or_of_an_unknown_kind_is_named(tmp_path):
    assert re.search(r"data\.sources\[0\]: paths='none\.jsonl': no such file .*relative to the recipe",
                     message_of(lambda: load_files(tmp_path, "none.jsonl")))
    (tmp_path / "folder").mkdir()
    assert re.search(
        r"paths='folder' is a folder; .*huggingface", message_of(lambda: load_files(tmp_path, "folder"))
    )
    (tmp_path / "p.csv").write_text("question,answer\n1,2\n")
    assert re.search(
        r"unknown ending '\.csv'; legal: \.jsonl", message_of(lambda: load_files(tmp_path, "p.csv"))
    )


def test_a_mapping_to_a_field_that_is_not_there_suggests_the_nearest(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b'{"problem": "1", "solution": "2"}\n')
    message = message_of(lambda: load_files(tmp_path, "p.jsonl", question="problems", answer="solution"))
    assert re.search(r"p\.jsonl:1: no field 'problems' \(fields\.question='problems'\).*did you mean "
                     r"'problem'\?", message)


def test_parquet_mistakes_name_file_and_row(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 this is no parquet")
    assert re.search(
        r"broken\.parquet: not a readable parquet file",
        message_of(lambda: load_files(tmp_path, "broken.parquet")),
    )
    pyarrow.parquet.write_table(
        pyarrow.table({"question": ["1", None], "answer": ["2", "3"]}), tmp_path / "null.parquet"
    )
    assert re.search(
        r"null\.parquet: row 2: field 'question' is null",
        message_of(lambda: load_files(tmp_path, "null.parquet")),
    )
    pyarrow.parquet.write_table(pyarrow.table({"question": [], "answer": []}), tmp_path / "empty.parquet")
    assert "empty.parquet: no problems in it" in message_of(lambda: load_files(tmp_path, "empty.parquet"))


GYM = {
    "task misspelt": (
        dict(task="chain_sums"),
        r"data\.sources\[0\]: task='chain_sums' .*did you mean "
        r"'chain_sum'\?",
    ),
    "task unknown": (dict(task="qqqq"), r"task='qqqq' is not one of reasoning-gym's \d+; legal: .* more"),
    "task composite": (dict(task="composite"), r"one source for each of its tasks"),
    "option misspelt": (
        dict(task="chain_sum", options={"max_term": 3}),
        r"no option 'max_term'; did you "
        r"mean 'max_terms'\?",
    ),
    "option out of range": (
        dict(task="chain_sum", options={"min_terms": 9, "max_terms": 3}),
        r"task='chain_sum' refuses options=.*max_terms",
    ),
    "option of a wrong type": (
        dict(task="chain_sum", options={"min_terms": "three"}),
        r"task='chain_sum' "
        r"refuses options=",
    ),
    "size among the options": (
        dict(task="chain_sum", options={"size": 9}),
        r"options\.size is set by the "
        r"source's own key",
    ),
    "seed among the options": (
        dict(task="chain_sum", options={"seed": 9}),
        r"options\.seed is set by the "
        r"source's own key",
    ),
    "options that only fail when used": (
        dict(task="simple_equations", options={"operators": ["+", "-"]}),
        r"cannot make item \d+ .*weights",
    ),
    "not a number": (dict(task="chain_sum", options={"min_terms": float("nan")}), r"only numbers, texts"),
}


@pytest.mark.parametrize(("source", "expected"), GYM.values(), ids=GYM.keys())
def test_a_reasoning_gym_source_that_cannot_work_says_what_would(source, expected):
    config = DataConfig(sources=[ReasoningGymSource(size=3, **source)])
    assert re.search(expected, message_of(lambda: load_problems(config, Path())))


def test_hugging_face_mistakes_name_path_and_split(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def load(**source):
        return load_problems(DataConfig(sources=[HuggingFaceSource(**source)]), tmp_path)

    (tmp_path / "set").mkdir()
    assert re.search(r"path='set': the folder is empty", message_of(lambda: load(path="set")))
    (tmp_path / "set" / "train.jsonl").write_bytes(GOOD)
    assert [problem.answer for problem in load(path="set")] == ["2"]
    assert re.search(r"path='set': split='test': .*test", message_of(lambda: load(path="set", split="test")))
    assert re.search(r"set\[train\] row 1: no field 'problem'",
                     message_of(lambda: load(path="set", fields=Fields(question="problem"))))
    assert re.search(r"path='\./none': no such folder", message_of(lambda: load(path="./none")))
    assert re.search(r"path='nobody/no-such-set': (the hub cannot be reached|not found|cannot be "
                     r"loaded).*folder|check path",
                     message_of(lambda: load(path="nobody/no-such-set")))


TEMPLATES = {
    "a brace not closed": (
        dict(prompt="{{ question }"),
        r"tokenizer\.template\.prompt: line 1: not a jinja2 template",
    ),
    "an unknown tag": (dict(prompt="a\n{% wrong %}{{ question }}"), r"line 2: not a jinja2 template .*wrong"),
    "a variable misspelt": (
        dict(prompt="{{ quesion }}"),
        r"'quesion' is undefined; the only variable is "
        r"\{\{ question \}\}",
    ),
    "a filter that does not exist": (dict(prompt="{{ question | shout }}"), r"not a jinja2 template .*shout"),
    "arithmetic on text": (dict(prompt="{{ question / 2 }}"), r"cannot be rendered \(TypeError"),
    "a way out of the sandbox": (
        dict(prompt="{{ question.__class__.__mro__ }}{{ question }}"),
        r"prompt: .*unsafe",
    ),
    "the question left out": (dict(prompt="Solve it."), r"does not show the question"),
    "think_in_prompt without the tag": (
        dict(prompt="{{ question }}", think_in_prompt=True),
        r"think_in_prompt=true, but",
    ),
    "the tag without think_in_prompt": (dict(prompt="{{ question }} <think>\n"), r"set think_in_prompt=true"),
}


@pytest.mark.parametrize(("template", "expected"), TEMPLATES.values(), ids=TEMPLATES.keys())
def test_a_template_that_cannot_make_prompts_says_why(template, expected):
    assert re.search(expected, message_of(lambda: render_prompt(ChatTemplate(**template), "1+1?")))


def test_tags_that_cannot_be_told_apart_are_refused():
    for tags in (
        dict(think_open="<answer>"),
        dict(answer_close=""),
        dict(think_close="<think>x"),
        dict(think_open=" a"),
    ):
        with pytest.raises(ValueError, match="could not tell them apart|white space"):
            ChatTemplate(**tags)


def test_tokenizer_mistakes_name_the_file_or_the_key(tmp_path):
    template = ChatTemplate()
    assert re.search(r"no text to train on", message_of(lambda: train_tokenizer([], 128, template)))
    wide = ["".join(chr(0x4E00 + i) for i in range(200))]
    assert re.search(r"vocab_size=128 is too small: the texts have 210 different .*at least 217, or 512",
                     message_of(lambda: train_tokenizer(wide, 128, template)))
    assert re.search(r"path='\./none': no such folder", message_of(lambda: Tokenizer.load("./none")))
    train_tokenizer(["one two"], 128, template).save(tmp_path / "tokenizer")
    about = tmp_path / "tokenizer" / "tokenizer_config.json"
    good = json.loads(about.read_text())
    about.write_text(json.dumps(good | {"eos_token": None}))
    assert re.search(
        r"no end-of-sequence token; set eos_token in",
        message_of(lambda: Tokenizer.load(tmp_path / "tokenizer")),
    )
    about.write_text(json.dumps(good | {"eos_token": "<end>"}))
    assert re.search(
        r"'<end>' is not in the vocabulary", message_of(lambda: Tokenizer.load(tmp_path / "tokenizer"))
    )
    about.write_text("{")
    assert re.search(
        r"tokenizer_config\.json: bad JSON", message_of(lambda: Tokenizer.load(tmp_path / "tokenizer"))
    )
    about.unlink()
    assert re.search(
        r"tokenizer_config\.json: missing", message_of(lambda: Tokenizer.load(tmp_path / "tokenizer"))
    )
    (tmp_path / "tokenizer" / "tokenizer.json").write_text('{"model": 3}')
    assert re.search(
        r"tokenizer\.json: not a tokenizer", message_of(lambda: Tokenizer.load(tmp_path / "tokenizer"))
    )


def test_prompts_over_the_limit_name_the_problem_or_are_counted(tmp_path):
    template = ChatTemplate(prompt="{{ question }}")
    (tmp_path / "p.jsonl").write_bytes(GOOD + b'{"question": "1+1+1+1+1?", "answer": "5"}\n')
    problems = load_files(tmp_path, "p.jsonl")
    tokenizer = train_tokenizer([problem.question for problem in problems], 64, template)

    def encode(limit: int, overlong: str):
        config = DataConfig(
            sources=[FilesSource(paths=["p.jsonl"])], max_prompt_tokens=limit, overlong_prompts=overlong
        )
        return encode_prompts(problems, tokenizer, template, config)

    assert re.search(r"p\.jsonl:2: the prompt has 10 tokens, data\.max_prompt_tokens=4; .*drop",
                     message_of(lambda: encode(4, "error")))
    kept = encode(4, "drop")
    assert [problem.answer for problem in kept.problems] == ["2"] and kept.dropped == 1
    assert re.search(
        r"max_prompt_tokens=3: all 2 prompts are longer \(up to 10", message_of(lambda: encode(3, "drop"))
    )


def test_a_question_that_holds_a_special_token_is_refused():
    template = ChatTemplate(prompt="{{ question }}")
    tokenizer = train_tokenizer(["what now"], 64, template)
    problem = Problem("p", "what <eos> now", "1", metadata={"origin": "p.jsonl:7"})
    config = DataConfig(sources=[FilesSource(paths=["p.jsonl"])])
    assert re.search(r"p\.jsonl:7: .*special token '<eos>'",
                     message_of(lambda: encode_prompts([problem], tokenizer, template, config)))


def test_too_few_problems_for_the_split_or_the_step_are_refused():
    problems = [Problem("p", f"{i % 5}", "1") for i in range(9)]
    assert re.search(r"data\.heldout_problems=5 leaves nothing .*5 different problems \(4 duplicates "
                     r"removed\)",
                     message_of(lambda: split(problems, 5)))
    assert re.search(
        r"pretrain.documents_per_step=6 is more than the 5",
        message_of(lambda: check_step_size("pretrain.documents_per_step", 6, 5)),
    )


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "p.jsonl").write_bytes(GOOD)

    def refuse(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert re.search(r"p\.jsonl: cannot be read \(Permission denied\); check",
                     message_of(lambda: load_files(tmp_path, "p.jsonl")))


def test_a_parquet_text_that_is_not_utf_8_is_named_with_its_row(tmp_path):
    answers = pyarrow.array([b"2", b"caf\xe9"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"question": ["a", "b"], "answer": answers}), tmp_path / "p.parquet")
    assert re.search(r"p\.parquet: row 2: byte 4 of a text is not UTF-8",
                     message_of(lambda: load_files(tmp_path, "p.parquet")))


def test_a_file_where_a_dataset_folder_belongs_is_called_a_file(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(GOOD)
    config = DataConfig(sources=[HuggingFaceSource(path="./p.jsonl")])
    assert re.search(r"is a file; .*kind=files", message_of(lambda: load_problems(config, tmp_path)))
