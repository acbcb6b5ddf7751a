"""Durations in words. The live page has the same formats (launch/page/script/words.js)."""


def duration(seconds: float, exact: bool = False) -> str:
    """12 s, 4 min 05 s or 2 h 03 min; if `exact`, below 100 s as 12.3 s."""
    if exact and seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
