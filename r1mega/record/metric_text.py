"""Numbers as a person reads them."""


def number(value: float | None, kind: str) -> str:
    """`value` as a percent, count, number (3 decimals), small (as loss and KL need) or seconds."""
    if value is None:
        return "n/a"
    match kind:
        case "percent":
            return f"{100 * value:.1f}%"
        case "count":
            return f"{value:,.0f}"
        case "seconds":
            return duration(value)
        case "small" if value and not 1e-3 <= abs(value) < 1e4:
            return f"{value:.1e}"
        case "small":
            return f"{value:.4f}"
    return f"{value:.3f}"


def duration(seconds: float) -> str:
    """e.g. 8.3 s, 4m 05s, 3h 12m, 2d 4h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"
