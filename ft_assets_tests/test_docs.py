"""The links between pages of the documentation are valid."""

import re
from pathlib import Path

import pytest

import ft_assets

PROJECT = Path(ft_assets.__file__).parent.parent
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """The links of a page to a file or a heading that does not exist."""
    found = []
    for name, anchor in _LINK.findall(page.read_text()):
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            found.append(f"{name}#{anchor}" if anchor else name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n\n[a](#one) [b](#two) [c](none.md) [d](page.md#one)\n")
    assert broken_links(page) == ["#two", "none.md"]


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {name for name, _ in _LINK.findall((PROJECT / "README.md").read_text())}
    assert {f"docs/{path.name}" for path in (PROJECT / "docs").glob("*.md")} <= linked
