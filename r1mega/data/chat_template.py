"""From a question to the text of a prompt."""

from functools import lru_cache

import jinja2
import jinja2.sandbox

from r1mega.config.data import ChatTemplate
from r1mega.config.error import UserError

KEY = "tokenizer.template"


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


@lru_cache(maxsize=8)
def _compile(prompt: str) -> jinja2.Template:
    environment = jinja2.sandbox.SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(prompt)
