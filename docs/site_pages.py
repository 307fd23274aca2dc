"""A hook of mkdocs: files that lie outside of this folder become pages of the site, and links to them lead there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        f"simulator/models/weights/{path.name}": f"models/{path.name.replace('@', '-')}"
        for path in sorted((ROOT / "simulator" / "models" / "weights").glob("*.md"))
    },
}
"""File of the repository -> page of the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to the files, which work in the repository, into links to their pages."""
    up = "../" * page.file.src_uri.count("/")
    for source, target in PAGES.items():
        markdown = markdown.replace(f"](../{up}{source})", f"]({up}{target})")
    return markdown
