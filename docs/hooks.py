"""What the documents need to be a site as well as files: links, pages from elsewhere, flags.

Links in Markdown lead to files as they lie in the repository. On the site those to other pages stay
what they are; those to sources lead to copies of them, as text. README.md, WORKSPACE.md and
CHANGELOG.md are pages. Nothing that the built pages need is fetched from elsewhere.
"""

import pathlib
import posixpath
import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parent.parent

# Pages whose files lie beside docs/, and what stands for a folder.
_PAGES = {"README.md": "index.md", "WORKSPACE.md": "map.md", "CHANGELOG.md": "changelog.md"}
_FOLDERS = {"examples": "examples.md"}
_REPOSITORY_PATHS = {page: path for path, page in _PAGES.items()}
_SOURCES = "sources"
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_COMMANDS_HERE = "<!-- the flags of every command -->"
# What a browser fetches of itself; links that a reader follows may lead anywhere.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"'\s>]*"
    r"|<link\b(?![^>]*\brel=[\"']?canonical)[^>]*\bhref=[\"']?(?:https?:)?//[^\"'\s>]*"
    r"|@import\s+[\"'](?:https?:)?//[^\"']*|url\([\"']?(?:https?:)?//[^)\"']*"
)


def on_config(config: MkDocsConfig) -> None:
    """Shows the rooms under the package's name to what reads docstrings, as `make check` does.

    It cannot look through an editable install.
    """
    del config
    package = ROOT / ".typing" / "kipper"
    package.mkdir(parents=True, exist_ok=True)
    for room in ("__init__.py", "common", "server", "workers", "launch"):
        if not (package / room).is_symlink():
            (package / room).symlink_to(f"../../{room}")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie elsewhere, and every source that some page links to."""
    for path, page in _PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    linked = {
        target
        for file in files.documentation_pages()
        for path, _ in _LINK.findall(file.content_string)
        if (target := _resolved(path, file.src_uri)) is not None
    }
    for target in sorted(linked):
        if _on_site(target) == _copy_of(target) and (ROOT / target).is_file():
            copied = File.generated(config, _copy_of(target), abs_src_path=str(ROOT / target))
            files.append(copied)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to where things are on the site; puts the flags of every command in."""
    del config, files
    here = page.file.src_uri

    def led(match: re.Match[str]) -> str:
        target = _resolved(match[1], here)
        if target is None:
            return match[0]
        on_site = posixpath.relpath(_on_site(target), posixpath.dirname(here) or ".")
        return on_site + (match[2] or "")

    if _COMMANDS_HERE in markdown:
        markdown = markdown.replace(_COMMANDS_HERE, _commands())
    return _LINK.sub(led, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuses a site that would fetch something from elsewhere."""
    for page in pathlib.Path(config.site_dir).rglob("*"):
        if page.suffix in (".html", ".css") and (found := _FETCHED.search(page.read_text())):
            raise PluginError(f"{page.name} fetches something from elsewhere: {found[0]}")


def _resolved(link: str, page: str) -> str | None:
    """The path in the repository that a link on a page leads to; None if it leads elsewhere."""
    if "://" in link or link.startswith(("mailto:", "/")):
        return None
    lies = _REPOSITORY_PATHS.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(lies), link))


def _on_site(target: str) -> str:
    """Where a file or folder of the repository is found on the site."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return _PAGES.get(target) or _FOLDERS.get(target) or _copy_of(target)


def _copy_of(target: str) -> str:
    # As text, which browsers show; a .py they would save.
    return f"{_SOURCES}/{target}.txt"


def _commands() -> str:
    """The flags of every command, as Markdown, from the classes that flags are made from."""
    import dataclasses

    from kipper.launch.commands.table import COMMANDS

    sections = []
    for command in COMMANDS.values():
        rows = [
            _flag(field) for settings in command.settings for field in dataclasses.fields(settings)
        ]
        table = ["| flag | | what |", "| --- | --- | --- |", *rows]
        sections.append("\n".join([f"## kipper {command.name}", "", command.summary, "", *table]))
    return "\n\n".join(sections)


def _flag(field: Any) -> str:
    """A row: the flag, its choices or its default, its help."""
    from kipper.launch.flag_sets import shown_default

    default = f"`{shown_default(field)}`" if shown_default(field) else ""
    choices = ", ".join(f"`{choice}`" for choice in field.metadata["choices"] or ())
    values = f"{choices} [{default}]" if choices and default else choices or default
    text = field.metadata["help"].replace("|", "\\|")
    return f"| `--{field.name}` | {values} | {text} |"
