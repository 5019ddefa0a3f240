"""Published figures, as data with their source."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1mega.config import UserError

FOLDER = Path(__file__).parent / "published"


@dataclass(frozen=True)
class PublishedRow:
    row: str
    """The benchmark, as suites name it in `paper_row`."""
    published_metric: str
    metric: str | None
    """Which of our metrics stands beside it; None: none does."""
    values: tuple[float | None, ...]
    """Percent, one a column; None where the table has no figure."""


@dataclass(frozen=True)
class Published:
    source: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]

    def find(self, row: str | None, metric: str) -> PublishedRow | None:
        """The row that stands beside one of ours."""
        return next((one for one in self.rows if one.row == row and one.metric == metric), None)


def published_names() -> Sequence[str]:
    """What `read_published` knows."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_published(name: str) -> Published:
    """The table of that name. Raises UserError."""
    if name not in published_names():
        raise UserError(f"command line: --published={name}: not known; legal: {', '.join(published_names())}")
    tree = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    rows = tuple(PublishedRow(row["row"], row["published_metric"], row["metric"], tuple(row["values"]))
                 for row in tree["rows"])
    return Published(tree["source"], tuple(tree["columns"]), rows)
