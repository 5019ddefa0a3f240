"""How a problem of a suite is asked."""

import jinja2
import jinja2.sandbox

from r1mega.config.error import UserError
from r1mega.config.suite import SuiteConfig

DEFAULTS = {
    "maths": "{{ question }}\nReason step by step, and put the final answer inside \\boxed{}.",
    "choice": "{{ question }}\n\n{{ options }}\n\nReason step by step, then end with a line \"Answer: X\", where X is "
              "the letter of the right option.",
    "factual": "{% if context %}{{ context }}\n\n{% endif %}{{ question }}\nEnd with a line \"Answer: \" and the "
               "answer, as short as possible.",
    "instruction": "{{ question }}",
    "code": "{{ question }}\n{% if starter %}\nBegin with this code:\n```python\n{{ starter }}\n```\n{% endif %}"
            "Give the whole program in one Python code block.",
}


class PromptText:
    """The suite's prompt. Raises UserError where it is no template or never shows the question (or the options)."""

    def __init__(self, suite: SuiteConfig):
        self._template = _compiled(DEFAULTS[suite.kind] if suite.prompt is None else suite.prompt)
        marks = {"question": "\0question\0", "context": "", "options": "\0options\0", "starter": ""}
        shown = self.render(**marks)
        needed = ["question"] + (["options"] if suite.kind == "choice" else [])
        for name in needed:
            if marks[name] not in shown:
                raise UserError(f"prompt: does not show the {name}; write {{{{ {name} }}}} where it belongs")

    def render(self, **values: str) -> str:
        """The text of one problem from its question, context, options and starter."""
        try:
            return self._template.render(**values)
        except Exception as error:  # a template can run into any error of the expressions in it
            raise UserError(f"prompt: cannot be rendered ({error}); it sees question, context, options and starter"
                            ) from None


def _compiled(text: str) -> jinja2.Template:
    environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"prompt: line {error.lineno}: not a jinja2 template ({error.message})") from None
