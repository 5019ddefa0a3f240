"""Which samples a supervised step trains on: a pure function of the step, so the position in the data is the step.

An epoch takes from every source without replacement: all of it, or, where sources have weights, as many as the weights
say, the most that no source has to give one twice. What an epoch leaves of a source, the next ones take first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from r1mega.config.error import UserError
from r1mega.data.order import problem_batch

SOURCE_SEEDS = 2**32  # seeds of runs are smaller, so that no source's order is that of an epoch


@dataclass(frozen=True)
class Mix:
    """Sources of `sizes` samples, numbered through; `weights` (None: whole sources) say their shares of an epoch."""

    sizes: tuple[int, ...]
    weights: tuple[float, ...] | None
    epochs: int
    samples_per_step: int
    seed: int
    section: str = "sft"  # of the recipe, for messages

    @property
    def taken(self) -> tuple[int, ...]:
        """Samples an epoch takes from each source."""
        if self.weights is None:
            return self.sizes
        most = min(size / weight for size, weight in zip(self.sizes, self.weights, strict=True))
        return tuple(min(size, int(most * weight + 1e-9))
                     for size, weight in zip(self.sizes, self.weights, strict=True))

    @property
    def epoch_samples(self) -> int:
        return sum(self.taken)

    @property
    def steps(self) -> int:
        """The last one may be smaller: nothing is left over."""
        return -(-self.epochs * self.epoch_samples // self.samples_per_step)

    def check(self) -> None:
        """Raises UserError for a mix that leaves a source out, or has no full step."""
        for number, (count, size) in enumerate(zip(self.taken, self.sizes, strict=True)):
            if count == 0:
                raise UserError(f"{self.section}.sources.{number}.weight={self.weights[number]}: an epoch takes none "
                                f"of its {size} samples, since the smallest source against its weight sets the size of "
                                "an epoch; raise this weight, or enlarge that source")
        if self.samples_per_step > self.epoch_samples:
            raise UserError(f"{self.section}.samples_per_step={self.samples_per_step} is more than the "
                            f"{self.epoch_samples} samples of an epoch; lower it or enlarge the sources")

    def batch(self, step: int) -> list[int]:
        """Numbers of the samples of step `step` (from 0). Over all steps every epoch's samples come once each."""
        places = problem_batch(step, self.epoch_samples, self.samples_per_step, self.seed)
        first = step * self.samples_per_step
        places = places[:self.epochs * self.epoch_samples - first]
        return [epoch_numbers(self, (first + at) // self.epoch_samples)[place] for at, place in enumerate(places)]


@lru_cache(maxsize=2)
def epoch_numbers(mix: Mix, epoch: int) -> Sequence[int]:
    """The samples an epoch takes, by source."""
    numbers, begin = [], 0
    for source, (size, count) in enumerate(zip(mix.sizes, mix.taken, strict=True)):
        chosen = problem_batch(epoch, size, count, mix.seed + SOURCE_SEEDS * (source + 1))
        numbers += [begin + number for number in sorted(chosen)]
        begin += size
    return numbers
