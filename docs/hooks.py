"""MkDocs hooks that turn the documents into a site: links, pages outside docs/, flags.

Links in Markdown are relative to the repository. On the site, links to other pages stay relative,
and links to sources lead to copies of them as text. README.md, CONTRIBUTING.md, WORKSPACE.md and
CHANGELOG.md become pages. The built pages fetch nothing from other sites.
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

# Pages whose files lie outside docs/, and the pages that folders map to.
_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "WORKSPACE.md": "map.md",
    "CHANGELOG.md": "changelog.md",
}
_FOLDERS = {"examples": "examples.md"}
_REPOSITORY_PATHS = {page: path for path, page in _PAGES.items()}
_SOURCES = "sources"
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_COMMANDS_PLACEHOLDER = "<!-- the flags of every command -->"
# Resources that a browser fetches by itself; links for readers may lead anywhere.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"'\s>]*"
    r"|<link\b(?![^>]*\brel=[\"']?canonical)[^>]*\bhref=[\"']?(?:https?:)?//[^\"'\s>]*"
    r"|@import\s+[\"'](?:https?:)?//[^\"']*|url\([\"']?(?:https?:)?//[^)\"']*"
)


def _link_rooms() -> None:
    """Links the rooms under the package's name, as `make check` does.

    mkdocstrings cannot read them through an editable install.
    """
    package = ROOT / ".typing" / "kipper"
    package.mkdir(parents=True, exist_ok=True)
    for room in ("__init__.py", "__init__.pyi", "common", "server", "workers", "launch"):
        if not (package / room).is_symlink():
            (package / room).symlink_to(f"../../{room}")


_link_rooms()  # on import: mkdocstrings looks for the folder before any event of mkdocs


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside docs/, and every source that a page links to."""
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
    """Rewrites links for the site, and inserts the flags of every command."""
    del config, files
    here = page.file.src_uri

    def rewritten(match: re.Match[str]) -> str:
        target = _resolved(match[1], here)
        if target is None:
            return match[0]
        on_site = posixpath.relpath(_on_site(target), posixpath.dirname(here) or ".")
        return on_site + (match[2] or "")

    if _COMMANDS_PLACEHOLDER in markdown:
        markdown = markdown.replace(_COMMANDS_PLACEHOLDER, _commands())
    return _LINK.sub(rewritten, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Rejects a site that would fetch a resource from another site."""
    for page in pathlib.Path(config.site_dir).rglob("*"):
        if page.suffix in (".html", ".css") and (found := _FETCHED.search(page.read_text())):
            raise PluginError(f"{page.name} fetches from another site: {found[0]}")


def _resolved(link: str, page: str) -> str | None:
    """The repository path that a link on a page leads to; None for links to other sites."""
    if "://" in link or link.startswith(("mailto:", "/")):
        return None
    source = _REPOSITORY_PATHS.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _on_site(target: str) -> str:
    """The path on the site of a file or folder of the repository."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return _PAGES.get(target) or _FOLDERS.get(target) or _copy_of(target)


def _copy_of(target: str) -> str:
    # As text, because browsers show .txt and download .py.
    return f"{_SOURCES}/{target}.txt"


def _commands() -> str:
    """The flags of every command as Markdown, from the settings classes."""
    import dataclasses

    from kipper.launch.commands.table import COMMANDS

    sections = []
    for name, command in COMMANDS.items():
        rows = [
            _flag(field) for settings in command.settings for field in dataclasses.fields(settings)
        ]
        table = ["| flag | values | meaning |", "| --- | --- | --- |", *rows]
        sections.append("\n".join([f"## kipper {name}", "", command.summary, "", *table]))
    return "\n\n".join(sections)


def _flag(field: Any) -> str:
    """A table row: the flag, its choices and default, its help."""
    from kipper.common.settings import choices_of
    from kipper.launch.flag_sets import shown_default

    default = f"`{shown_default(field)}`" if shown_default(field) else ""
    choices = ", ".join(f"`{choice}`" for choice in choices_of(field))
    values = f"{choices} [{default}]" if choices and default else choices or default
    text = field.metadata["help"].replace("|", "\\|")
    return f"| `--{field.name}` | {values} | {text} |"
