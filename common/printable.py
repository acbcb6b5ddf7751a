"""Makes text from workers, files and folders safe to show on a terminal or in a log."""

# Of a failure's message; longer ones are cut.
MOST_CHARACTERS = 2000


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""One line without effects: control characters are written as `\n`, `\x1b`, `\u202e`.

    These are all characters that `str.isprintable` excludes, among them line breaks, terminals'
    escapes and the marks that reverse the direction of text. Text beyond `most` characters is cut.
    """
    shown = text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
    if shown.isprintable():
        return shown
    return "".join(map(_escaped, shown))


def printable_lines(text: str) -> str:
    """The same for each line; those after the first are indented, so that none looks like another
    record of a log."""
    return "\n    ".join(printable(line) for line in text.splitlines())


def printable_json(encoded: str) -> str:
    """JSON in which such characters are escaped as JSON does."""
    if encoded.isprintable():
        return encoded
    return "".join(each if each.isprintable() else _of_json(each) for each in encoded)


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _of_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
