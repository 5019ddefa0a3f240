"""From a question to the text of a prompt."""

import json
from functools import lru_cache
from pathlib import Path

import jinja2
import jinja2.sandbox
from pydantic import ValidationError

from r1mega.config.data import ChatTemplate
from r1mega.config.error import UserError

KEY = "tokenizer.template"
FILE = "prompt_template.json"  # beside a tokenizer's own files


def render_prompt(template: ChatTemplate, question: str) -> str:
    """The prompt for one question. Raises UserError when the template is not jinja2, fails, or contradicts
    its keys."""
    try:
        text = _compile(template.prompt).render(question=question)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{KEY}.prompt: line {error.lineno}: not a jinja2 template ({error.message}); "
                        "the question is written {{ question }}") from None
    except jinja2.UndefinedError as error:
        raise UserError(f"{KEY}.prompt: {error.message}; the only variable is {{{{ question }}}}") from None
    except Exception as error:  # a template can run into any error of the expressions in it
        raise UserError(f"{KEY}.prompt: cannot be rendered ({type(error).__name__}: {error})") from None
    if question.strip() not in text:
        raise UserError(f"{KEY}.prompt: does not show the question; write {{{{ question }}}} where it "
                        "belongs")
    ends_open = text.rstrip().endswith(template.think_open)
    if template.think_in_prompt and not ends_open:
        raise UserError(f"{KEY}.think_in_prompt=true, but the prompt does not end in "
                        f"{template.think_open!r}; end it so, or set think_in_prompt=false")
    if ends_open and not template.think_in_prompt:
        raise UserError(f"{KEY}.think_in_prompt=false, but the prompt ends in {template.think_open!r}, so no "
                        "completion could be well-formed; set think_in_prompt=true")
    return text


def save_template(template: ChatTemplate, folder: Path) -> None:
    """Write it into a tokenizer's folder, so that a model that takes the folder along knows how it is asked."""
    text = json.dumps(template.model_dump(), indent=2, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def load_template(folder: Path) -> ChatTemplate | None:
    """The template in a tokenizer's folder; None if there is none. Raises UserError."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return ChatTemplate.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); check its permissions") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{file}: {key}: {first['msg']}; copy it again") from None


@lru_cache(maxsize=8)
def _compile(prompt: str) -> jinja2.Template:
    environment = jinja2.sandbox.SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(prompt)
