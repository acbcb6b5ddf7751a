"""The page that shows a run: served while it goes on, and as one file afterwards.

Both are the template `page.html` with the same script and the same style. The script is written in
parts, which share their names as if they were one file, and is one file for a browser.
"""

import base64
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from kipper.server.html_page import html_page
from kipper.server.watch.snapshot import as_json

_FOLDER = pathlib.Path(__file__).parent
_PAGE = _FOLDER / "page.html"
# In the order in which they need each other.
_SCRIPT = ("words", "marks", "summary", "curves", "matrix", "timeline", "workers", "live")


def render_live() -> str:
    """The page that connects to the server it comes from; holds nothing of the run itself."""
    return html_page(_PAGE).render(ended=None)


@functools.cache
def script() -> str:
    """What the page calls page.js."""
    parts = (_FOLDER / "script" / f"{name}.js" for name in _SCRIPT)
    return "\n".join(part.read_text(encoding="utf-8") for part in parts)


@functools.cache
def style() -> str:
    """What the page calls page.css."""
    return (_FOLDER / "page.css").read_text(encoding="utf-8")


def render_file(
    state: Mapping[str, Any], records: Sequence[Mapping[str, Any]], image_png: bytes | None
) -> str:
    """The page of a run that has ended, which refers to nothing outside itself.

    Its content security policy lets nothing run but the one script, and nothing be loaded.

    Args:
        state: the last of what /api/state served.
        records: the lines of metrics.jsonl.
        image_png: the newest distilled images as a PNG file.
    """
    image = None
    if image_png is not None:
        image = "data:image/png;base64," + base64.b64encode(image_png).decode()
    shown = {"state": state, "records": records, "image": image}
    return html_page(_PAGE).render(
        ended=_json_in_html(shown),
        script=Markup(script()),
        style=Markup(style()),
        policy=(
            f"default-src 'none'; script-src {_allowed(script())}; style-src {_allowed(style())}; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
    )


def _allowed(source: str) -> str:
    """How a content security policy names an inline script or style, to the last character."""
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json_in_html(value: Any) -> Markup:
    """JSON that is safe within a script element: no text of the run can end that element."""
    text = as_json(value).decode()
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
