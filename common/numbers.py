"""Numbers for people: the same quantity looks the same in the terminal, the report and figures.

The live page has the same formats in launch/page/script/words.js.
"""

from collections.abc import Mapping

_UNITS = "kB", "MB", "GB", "TB"


def percent(share: float) -> str:
    """A share of 1, such as an accuracy: 85.5 %."""
    return f"{100 * share:.1f} %"


def r_squared(value: float) -> str:
    """A coefficient of determination: 0.855; far below zero -1.2e+03."""
    return f"{value:.3f}" if value > -100 else f"{value:.2g}"


def significant(value: float) -> str:
    """A loss or another quantity of any size, to six digits: 0.0198862."""
    return f"{value:.6g}"


def amount(count: int) -> str:
    """A count, to three digits if it is large: 955,860, or 17.5 million."""
    for name, unit in (("billion", 1e9), ("million", 1e6)):
        if count >= max(1e7, unit):
            return f"{float(f'{count / unit:.3g}'):,g} {name}"
    return f"{count:,}"


def byte_count(count: int) -> str:
    """An amount of bytes in powers of a thousand: 180.6 MB."""
    if count < 1000:
        return f"{count} B"
    value, unit = count / 1000, 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}"


def field_text(name: str, value: object) -> str:
    """The value of a field of a record: accuracies in percent, R² and other numbers as above."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float() if "accuracy" in name:
            return percent(value)
        case float() if "r2" in name:
            return r_squared(value)
        case float():
            return significant(value)
        case int():
            return f"{value:,}"
        case Mapping():
            return ", ".join(f"{key} {field_text(str(key), each)}" for key, each in value.items())
        case list() | tuple():
            return ", ".join(field_text(name, each) for each in value)
    return str(value)
