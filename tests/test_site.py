"""The documentation site is whole: every page is in its navigation once, every API page shows modules that exist, and
the home page's command is the README's.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def outside() -> dict[str, str]:
    """Files outside of the folder that are pages."""
    spec = importlib.util.spec_from_file_location("site_pages", DOCS / "site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PAGES


def entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(part)


def test_navigation__names_every_page_once_and_no_other(outside) -> None:
    written = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(entries(CONFIG["nav"])) == sorted([*written, *outside.values()])
    assert all((ROOT / source).is_file() for source in outside)


def test_site__loads_nothing_from_other_hosts() -> None:
    assert CONFIG["theme"]["font"] is False
    assert not {"repo_url", "extra_javascript"} & set(CONFIG)
    assert not any("//" in sheet for sheet in CONFIG["extra_css"])


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=lambda page: page.stem)
def test_reference__shows_modules_that_exist(page) -> None:
    shown = re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown
    for module in shown:
        assert importlib.util.find_spec(module), module


def test_home__installs_as_the_readme_does() -> None:
    command = r"```sh\n(python3 -m venv .* run)\n```"
    (here,) = re.findall(command, (DOCS / "index.md").read_text(encoding="utf-8"))
    assert here in re.findall(command, (ROOT / "README.md").read_text(encoding="utf-8"))
