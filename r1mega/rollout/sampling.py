"""How the next token is chosen."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of one `Engine.generate` call.

    top_k is applied first, top_p to what it leaves. temperature 0 takes the likeliest token (log-probs are
    then those of temperature 1). A completion ends with a stop token (which is part of it) or after
    max_new_tokens.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    max_new_tokens: int = 256
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature={self.temperature} must be 0 (take the likeliest token) or above")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must be in (0, 1]; 1 turns it off")
        if self.top_k < 0:
            raise ValueError(f"top_k={self.top_k} must be 0 (off) or above")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens} must be at least 1")

    @property
    def filters(self) -> bool:
        """Whether some tokens are ruled out before drawing."""
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1)
