"""Templates of the HTML pages that kipper writes."""

import functools
import pathlib

import jinja2


@functools.cache
def html_page(path: pathlib.Path) -> jinja2.Template:
    """A template that escapes what it shows and refuses a name that it was not given.

    Args:
        path: its file. What it includes lies beside it.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)
