"""The documents say what the code says: their tables, and what they refer to."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from places import ROOT

from benches.harness import document, report, rows
from benches.studies import traffic
from flic_kernels.ops import OPERATIONS
from flic_kernels.ops.positional_encoding import from_windows, to_windows

KERNELS, PERFORMANCE, RANS = (
    ROOT / "docs" / f"{name}.md" for name in ("kernels", "performance", "rans")
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [
    path
    for folder in ("flic", "flic_kernels", "benches", "tests")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".h", ".cpp", ".cu", ".cuh")
]


def cells(lines: str) -> list[tuple[str, ...]]:
    """A Markdown table's rows, its head and rule left out."""
    table = takewhile(lambda line: line.startswith("|"), lines.splitlines())
    return [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in table][2:]


def test_the_operation_table_has_every_operation_and_no_other():
    text = KERNELS.read_text()
    rows = cells(text[text.index("| operation |") :])
    assert sorted(row[0].strip("`") for row in rows) == sorted(OPERATIONS)


def test_the_byte_tables_are_what_the_command_prints(capsys):
    traffic.main([])
    assert document.part(KERNELS, "traffic") == capsys.readouterr().out.strip("\n")


@pytest.mark.parametrize(
    ("part", "name"), [("bench", ""), ("compile", "-compile"), ("training", "-training")]
)
def test_the_tables_of_times_are_what_their_rows_say(part, name):
    found = rows.read(ROOT / "benches" / "results" / f"epyc-2-cores{name}.jsonl")
    assert document.part(PERFORMANCE, part) == report.markdown(found).strip("\n")


def test_every_table_of_measurements_is_made_by_make_measure():
    """And none of them is empty, nor two tables one part's."""
    recipe = (ROOT / "Makefile").read_text().partition("\nmeasure:")[2].partition("\n\n")[0]
    recipe = re.sub(r"\\\n\s*", "", recipe)
    pages = {"$(PAGE)": PERFORMANCE, "docs/kernels.md": KERNELS, "docs/rans.md": RANS}
    made = [("$(PAGE)", part) for part in re.findall(r"\$\(call EVALUATED,(\w+),", recipe)]
    for study, place in re.findall(r"\$\(STUDY\) (\w+).* --write (\S+)", recipe):
        page, _, part = place.partition(":")
        made.append((page, part or ("bench" if study == "training" else study)))
    made.append(("docs/kernels.md", "aot"))
    assert len(set(made)) == len(made)
    there = {
        (page, part)
        for page, path in pages.items()
        for part in re.findall(r"<!-- ([\w-]+): begin -->", path.read_text())
    }
    assert set(made) == there
    assert all(
        document.part(pages[page], part).startswith(("|", "AMD", "Triton")) for page, part in made
    )


def test_the_byte_tables_count_the_copy_from_windows():
    windows = to_windows(torch.zeros(1, 16, 24, 6), 8)
    assert from_windows(windows, 16, 24).data_ptr() != windows.data_ptr()
    ((eager, fused),) = (row[1:] for row in traffic.tca_layer() if "from windows" in row[0])
    product, copy, addition = 2, 2, 3
    assert eager == fused == product + copy + addition


def test_the_registers_table_lists_the_launches_as_they_are():
    pytest.importorskip("triton")
    from benches.harness.launches import every_launch
    from benches.studies import aot

    rows = cells(document.part(KERNELS, aot.PART).split("\n\n")[1])
    expected = [
        (name, aot.label(launch), str(dtype).removeprefix("torch."), str(launch.num_warps))
        for name, dtype, launch in every_launch(80)
    ]
    assert [row[:4] for row in rows] == expected


def test_some_rows_of_the_registers_table_are_replaced_and_no_others(tmp_path):
    pytest.importorskip("triton")
    from benches.studies import aot

    def row(case, kernel, warps, cell):
        return (case, kernel, "float16", warps, cell)

    first, twice = row("a", "k", "4", "1 / 0 / 0.0"), row("b", "k", "4", "2 / 0 / 0.0")
    path = tmp_path / "page.md"
    path.write_text("above\n<!-- aot: begin -->\n<!-- aot: end -->\nbelow\n")
    aot.write(path, [first, twice, twice], [90], whole=True)
    new = [row("b", "k", "8", "3 / 0 / 0.0"), row("b", "k", "8", "4 / 0 / 0.0")]
    aot.write(path, new, [90], whole=False)
    rows = cells(document.part(path, aot.PART).split("\n\n")[1])
    assert rows == [first, *new]
    text = path.read_text()
    assert text.startswith("above\n<!--") and text.endswith("-->\nbelow\n")
    with pytest.raises(ValueError, match="has not these kernels"):
        aot.write(path, new[:1], [90], whole=False)
    with pytest.raises(ValueError, match="another Triton or other targets"):
        aot.write(path, new, [80], whole=False)
    path.write_text("nothing")
    with pytest.raises(ValueError, match="aot: begin"):
        aot.write(path, new, [90], whole=True)


def headings(path: Path) -> list[str]:
    """Of a page, those in code blocks left out."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ (.+?) *$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not fragment or fragment in map(anchor, headings(path)), target


def cited(page: Path) -> list[tuple[str, str]]:
    """(page, section) of what looks so: docs/format.md, "Tiles"."""
    return re.findall(r'([\w./-]+\.md)\)?, (?:section )?"([^"\n]+)"', page.read_text())


def test_sections_that_are_cited_exist():
    found = [(page, *citation) for page in PAGES + SOURCES for citation in cited(page)]
    assert len(found) >= 4
    for page, name, section in found:
        places = [place / name for place in (page.parent, ROOT) if (place / name).exists()]
        assert places and section in headings(places[0]), (page, name, section)
