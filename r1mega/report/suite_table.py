"""The table of models and suites, as text and as Markdown; published figures in columns of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1mega.report.published import Published, PublishedRow
from r1mega.report.suite_result import SuiteResult, models, read_results

NONE = "-"


@dataclass(frozen=True)
class Table:
    """Texts only. `measured` is how many columns after the first were measured; the rest are published."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    measured: int
    notes: tuple[str, ...]


def suite_table(files: Sequence[Path]) -> str:
    """The text table of results files."""
    return text_table(read_results(files), None)


def build_table(results: Sequence[SuiteResult], published: Published | None) -> Table:
    """A row a suite and metric, a column a model; then the published columns, with the rows only they have."""
    columns = models(results)
    keys = list(dict.fromkeys((one.suite, metric) for one in results for metric in one.shown))
    suites = list(dict.fromkeys(suite for suite, _ in keys))
    keys.sort(key=lambda key: suites.index(key[0]))  # a suite's rows together
    by_key = {(one.suite, one.model): one for one in results}
    rows, used = [], set()
    for suite, metric in keys:
        of_suite = [by_key.get((suite, model)) for model in columns]
        known = next(one for one in of_suite if one is not None)
        theirs = None if published is None else published.find(known.paper_row, metric)
        used.add(id(theirs))
        rows.append((f"{known.title}, {metric}", *(_measured(one, metric) for one in of_suite),
                     *_published(theirs, published)))
    for row in () if published is None else published.rows:
        if id(row) not in used:
            rows.append((f"{row.row}, {row.published_metric}", *(NONE for _ in columns), *_published(row, published)))
    head = ("", *columns, *(f"{name} (published)" for name in ([] if published is None else published.columns)))
    return Table(head, tuple(rows), len(columns), tuple(_notes(results, published)))


def text_table(results: Sequence[SuiteResult], published: Published | None) -> str:
    """For a terminal: columns aligned, measured and published divided by a bar."""
    table = build_table(results, published)
    widths = [max(len(row[at]) for row in (table.head, *table.rows)) for at in range(len(table.head))]
    lines = [_aligned(row, widths, table.measured) for row in (table.head, *table.rows)]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:], rule, *table.notes])


def markdown_table(results: Sequence[SuiteResult], published: Published | None) -> str:
    """For a page; what stands in a cell cannot end it."""
    table = build_table(results, published)
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in (table.head, *table.rows)]
    lines.insert(1, "|---|" + "---:|" * (len(table.head) - 1))
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes)]) + "\n"


def _measured(one: SuiteResult | None, metric: str) -> str:
    """Percent with its interval."""
    if one is None or metric not in one.metrics:
        return NONE
    value, low, high = (100 * one.metrics[metric][key] for key in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def _published(row: PublishedRow | None, published: Published | None) -> tuple[str, ...]:
    if published is None:
        return ()
    values = (None,) * len(published.columns) if row is None else row.values
    return tuple(NONE if value is None else f"{value:.1f}" for value in values)


def _aligned(row: Sequence[str], widths: Sequence[int], measured: int) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    ours, theirs = cells[:measured + 1], cells[measured + 1:]
    return "  ".join(ours) + ("  |  " + "  ".join(theirs) if theirs else "")


def _notes(results: Sequence[SuiteResult], published: Published | None) -> list[str]:
    """What a reader must know to compare the figures."""
    notes = ["Percent.", *(f"{name}: {rule}." for name, rule in results[0].rules.items())]
    for suite in dict.fromkeys(one.suite for one in results):
        of_suite = [one for one in results if one.suite == suite]
        first = of_suite[0]
        samples = sorted({one.samples for one in of_suite})
        text = f"{first.title}: {first.problems} problems, {' or '.join(map(str, samples))} samples of each."
        if first.dropped:
            text += f" {first.dropped} problems are left out."
        if len({one.digest for one in of_suite}) > 1:
            text += " Not all models were asked exactly the same (another version of the suite, or another seed)."
        notes.append(f"{text} {first.note}".strip())
    if published is not None:
        notes.append(f"Published, not measured here: {published.source}.")
    return notes
