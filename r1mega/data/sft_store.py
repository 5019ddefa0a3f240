"""Supervised samples as tokens on disk: written once, as they are read, then mapped by every rank.

800k reasoning samples are some 30 GB of tokens, more than eight ranks of a machine could each hold.

    tokens.i32, marks.u8     all samples end to end: token ids, and 1 where a token is learned
    index.npz                begins[N+1], source[N], label[N], heldout[N]
    about.json               labels, and what was left out and why
    ids.jsonl                id, origin and questions of every sample
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from r1mega.config.error import UserError
from r1mega.data.preference_row import Judgement
from r1mega.data.sft_encode import Encoded
from r1mega.data.sft_row import Demonstration
from r1mega.record import TrainSample

MAX_LABELS = 32  # each is a metric
LABEL = "source"  # of a TrainSample: the number of its label


@dataclass(frozen=True)
class SampleStore:
    """Samples of all sources, mapped. Numbers count training samples, source by source; `heldout` the others."""

    folder: Path
    labels: tuple[str, ...]
    dropped: Mapping[str, int]
    sizes: tuple[int, ...]  # training samples of each source of the recipe
    train: np.ndarray  # [sum(sizes)] places on disk
    heldout: np.ndarray  # places of the held-out samples
    begins: np.ndarray
    label: np.ndarray
    asked: frozenset[str] | None = None  # None: to be read from the folder

    @classmethod
    def open(cls, folder: Path) -> Self:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            return cls._of(folder, about, {name: index[name] for name in index.files})

    @classmethod
    def _of(cls, folder: Path, about: Mapping[str, Any], index: Mapping[str, np.ndarray],
            asked: frozenset[str] | None = None) -> Self:
        train = np.flatnonzero(~index["heldout"])
        sizes = np.bincount(index["source"][train], minlength=about["sources"]).tolist()
        return cls(folder, tuple(about["labels"]), about["dropped"], tuple(sizes), train,
                   np.flatnonzero(index["heldout"]), index["begins"], index["label"], asked)

    def questions(self) -> frozenset[str]:
        """All that is asked, white space evened out: what a model trained on these samples has seen."""
        if self.asked is not None:
            return self.asked
        with (self.folder / "ids.jsonl").open(encoding="utf-8") as lines:
            return frozenset(question for line in lines for question in json.loads(line)["questions"])

    def samples(self, numbers: Sequence[int]) -> list[TrainSample]:
        """Training samples by number."""
        return self._read(self.train[list(numbers)])

    def heldout_samples(self) -> list[TrainSample]:
        return self._read(self.heldout)

    def ids(self) -> list[str]:
        """The id of every training sample, by number."""
        lines = (self.folder / "ids.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(lines[place])["id"] for place in self.train]

    def _read(self, places: np.ndarray) -> list[TrainSample]:
        if not len(places):
            return []
        tokens = np.memmap(self.folder / "tokens.i32", np.int32, "r")
        marks = np.memmap(self.folder / "marks.u8", np.uint8, "r")
        samples = []
        for place in places.tolist():
            here = slice(int(self.begins[place]), int(self.begins[place + 1]))
            samples.append(TrainSample(token_ids=array("i", tokens[here].tobytes()), loss_mask=marks[here].tobytes(),
                                       per_sample={LABEL: float(self.label[place])}))
        return samples


@dataclass
class StoreWriter:
    """Takes samples one by one, and writes them to `folder` unless that is None."""

    folder: Path | None
    num_sources: int
    section: str = "sft"  # of the recipe, for messages
    dropped: Counter = field(default_factory=Counter)
    _labels: dict[str, int] = field(default_factory=dict)
    _begins: list[int] = field(default_factory=lambda: [0])
    _source: list[int] = field(default_factory=list)
    _label: list[int] = field(default_factory=list)
    _question: list[int] = field(default_factory=list)
    _asked: set[str] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)

    def __enter__(self) -> Self:
        self._files = []
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._files = [(self.folder / name).open("wb") for name in ("tokens.i32", "marks.u8", "ids.jsonl")]
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def is_new(self, demonstration: Demonstration | Judgement) -> bool:
        """Whether no sample before said the same; a repetition is counted as dropped."""
        digest = _hash("sample", *demonstration.said)
        if digest in self._seen:
            self.dropped["duplicates"] += 1
            return False
        self._seen.add(digest)
        return True

    def add(self, source: int, demonstration: Demonstration | Judgement, encoded: Encoded) -> None:
        ids, marks = encoded
        label = self._labels.setdefault(demonstration.source, len(self._labels))
        if label >= MAX_LABELS:
            raise UserError(f"{demonstration.origin}: source={demonstration.source!r} is the {MAX_LABELS + 1}th there "
                            f"is, and each becomes a metric; set sft.sources.{source}.fields.source = \"\" to call all "
                            "rows by the source's name")
        self._begins.append(self._begins[-1] + len(ids))
        self._source.append(source)
        self._label.append(label)
        questions = demonstration.questions
        self._question.append(_hash("heldout", questions[0]))
        self._asked.update(questions)
        if self._files:
            about = {"id": demonstration.id, "origin": demonstration.origin, "questions": questions}
            for file, content in zip(self._files, (ids.tobytes(), marks, json.dumps(about).encode() + b"\n"),
                                     strict=True):
                file.write(content)

    def finish(self, heldout_samples: int) -> SampleStore:
        """Hold samples out, and write the index. The questions of least hash are held out, all samples of each, until
        there are `heldout_samples`: the choice depends on the contents alone, and no held-out question is trained on.
        """
        count, questions = Counter(self._question), set()
        held = 0
        for question in sorted(count):
            if held >= heldout_samples:
                break
            questions.add(question)
            held += count[question]
        if 0 < len(self._question) <= held:
            raise UserError(f"{self.section}.heldout_samples={heldout_samples} leaves nothing to train on: the sources "
                            f"hold {len(self._question)} different samples; lower it or enlarge the sources")
        index = {"begins": np.array(self._begins, np.int64), "source": np.array(self._source, np.int32),
                 "label": np.array(self._label, np.int32),
                 "heldout": np.array([question in questions for question in self._question], bool)}
        about = {"labels": list(self._labels), "dropped": dict(self.dropped), "sources": self.num_sources}
        if self.folder is not None:
            np.savez(self.folder / "index.npz", **index)
            (self.folder / "about.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
        return SampleStore._of(self.folder or Path(), about, index, frozenset(self._asked))


def _hash(*words: str) -> int:
    """The first 63 bits of SHA-256 over the words as JSON."""
    return int.from_bytes(hashlib.sha256(json.dumps(words).encode()).digest()[:8]) >> 1
