"""Pages that are made from the code are current, and what pages name is there."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("[0-9]*.py"))


def test_the_reference_has_a_page_for_every_room():
    pages = runpy.run_path(str(ROOT / "docs" / "reference_pages.py"))["pages"]()
    rooms = {path.parent.name for path in (ROOT / "beats_jax").glob("*/__init__.py")}
    assert {name.removesuffix(".md") for name in pages} == {"index", *rooms}
    for name, text in pages.items():
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == text, "run: python docs/reference_pages.py"


def test_every_page_of_the_site_is_there():
    names = re.findall(r"^  - .*?: (\S+)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert len(names) > 8
    for name in names:
        assert (ROOT / "docs" / name).exists(), name


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_tutorials_are_valid_and_listed():
    index = (ROOT / "docs" / "tutorials" / "index.md").read_text(encoding="utf-8")
    assert len(TUTORIALS) == 5
    for path in TUTORIALS:
        text = path.read_text(encoding="utf-8")
        compile(text, path.name, "exec")
        assert text.startswith("# %% [markdown]\n# # ")
        assert f"]({path.name})" in index
