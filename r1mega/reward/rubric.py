"""A weighted sum that keeps its parts."""

from collections.abc import Mapping

from r1mega.record import Score


def weigh(parts: Mapping[str, float], weights: Mapping[str, float], notes: Mapping[str, str]) -> Score:
    """The score whose total is the sum of weight x part; `parts` (each in [0, 1]) stay unweighted.

    Raises ValueError where the names differ: a part without a weight would be lost without a sound.
    """
    if parts.keys() != weights.keys():
        raise ValueError(f"parts {sorted(parts)} and weights {sorted(weights)} must have the same names")
    return Score(
        total=sum(weights[name] * part for name, part in parts.items()), parts=dict(parts), notes=dict(notes)
    )
