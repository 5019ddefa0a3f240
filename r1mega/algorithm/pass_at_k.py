"""pass@k: how likely it is that at least one of k samples of a problem is right."""


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """The unbiased estimate of pass@k from n samples of one problem, c of them right: 1 - C(n-c, k) / C(n, k).

    Chen et al. (arXiv 2107.03374), equation 1. The two binomials overflow for n in the thousands and lose every digit
    in their difference; their ratio is a product of n - c + 1 .. n of factors in [0, 1), which does neither. With k = 1
    it is c / n exactly.
    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= num_right <= num_samples or not 1 <= k <= num_samples:
        raise ValueError(f"pass@k of num_samples={num_samples}, num_right={num_right}, k={k}: needs 0 <= num_right <= "
                         "num_samples and 1 <= k <= num_samples")
    if k == 1:
        return num_right / num_samples
    if num_samples - num_right < k:
        return 1.0
    none_right = 1.0
    for i in range(num_samples - num_right + 1, num_samples + 1):
        none_right *= 1.0 - k / i
    return 1.0 - none_right


def ks_for(num_samples: int) -> list[int]:
    """The k that are worth reporting of so many samples: 1, the powers of two, and the number itself."""
    return sorted({2**power for power in range(num_samples.bit_length())} | {num_samples})
