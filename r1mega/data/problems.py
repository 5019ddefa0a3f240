"""Problems from all the sources of a recipe."""

from pathlib import Path

from r1mega.config.data import (
    BilingualSource,
    DataConfig,
    FilesSource,
    GeneralSource,
    HuggingFaceSource,
    ReasoningGymSource,
)
from r1mega.config.error import UserError
from r1mega.data.bilingual_problems import bilingual_problems
from r1mega.data.file_problems import file_problems
from r1mega.data.general_problems import general_problems
from r1mega.data.hugging_face_problems import hugging_face_problems
from r1mega.data.reasoning_gym_problems import reasoning_gym_problems
from r1mega.record import Problem


def load_problems(config: DataConfig, base_dir: Path) -> list[Problem]:
    """All problems of `config.sources`, in the order of the sources; duplicates are left for `split` to
    remove.

    `base_dir` is the recipe's folder, against which relative paths are read. Every problem's metadata has an
    `origin` ("problems.jsonl:17") for messages. Raises UserError for anything wrong in the recipe or the
    files.
    """
    problems: list[Problem] = []
    for number, source in enumerate(config.sources):
        where = f"data.sources[{number}]"
        match source:
            case ReasoningGymSource():
                found = reasoning_gym_problems(source, where)
            case HuggingFaceSource():
                found = hugging_face_problems(source, base_dir, where)
            case FilesSource():
                found = file_problems(source, base_dir, where)
            case BilingualSource():
                found = bilingual_problems(source, where)
            case GeneralSource():
                found = general_problems(source, where)
        if not found:
            raise UserError(f"{where}: kind={source.kind} holds no problems; check its path or split")
        problems += found
    return problems
