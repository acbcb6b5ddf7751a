"""Durations for people."""


def duration(seconds: float, exact: bool = False) -> str:
    """4:05 or 2 h 03 min; if `exact`, below 100 s as 12.3 s."""
    if exact and seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{rest:02}"
