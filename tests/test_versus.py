"""The command that compares fastnn with its peers: the tables that it writes, and those that the pages have."""

import pathlib
import re
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent.parent / "asv_bench"))
import versus
from work import all_work

ROOT = pathlib.Path(__file__).parent.parent


def row(name, group, ours, **others):
    """A row as `versus.summary` gives it, of microseconds."""
    best = {peer: (time * 1e-6, "eager") for peer, time in {"fastnn": ours, **others}.items()}
    ratio = min(others.values()) / ours
    return {"name": name, "group": group, "best": best, "ratio": ratio, "of_peak": 0.5}


ROWS = [
    row("a", "train", 2.0, numpy=4.0, torch=10.0),
    row("b", "train", 2.0, numpy=32.0, torch=16.0),
    row("c", "linear", 10.0, numpy=8.0, torch=9.0),
    row("d", "linear", 10.0, numpy=9.0),
    row("e", "linear", 10.0, torch=5.0),
    row("f", "linear", 10.0, torch=16.0),
]


def written(write, mark, tmp_path):
    """The lines between the marks of a page, behind its head."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- {mark} -->\nold\n<!-- end of {mark} -->\nafter\n")
    write(page, mark, ROWS, "CPU")
    before, begin, head, blank, *lines, end, after = page.read_text().splitlines()
    assert [before, begin, head, blank] == ["before", f"<!-- {mark} -->", "CPU", ""]
    assert [end, after] == [f"<!-- end of {mark} -->", "after"]
    return lines


def test_the_table_has_a_line_for_each_row_and_group(tmp_path):
    heads, rule, first, *_, train, linear = written(versus.write_markdown, "versus.py", tmp_path)
    assert heads.count("|") == rule.count("|") == first.count("|")
    assert first == "| a | 2.0 | 4.0 | 10.0 |  |  |  | 2.00 | 50% |"
    assert train == "- train: least 2.00, geometric mean 4.00; numpy 5.66; torch 6.32"
    assert linear.startswith("- linear: least 0.50, ")


def test_the_short_table_names_the_least_row_and_all_that_lose(tmp_path):
    heads, rule, *lines = written(versus.write_summary, "versus.py --summary", tmp_path)
    assert heads.count("|") == rule.count("|")
    assert lines == [
        "| train | 2 | 4.00 | 2.00: numpy, a | none |",
        "| linear | 4 | 0.87 | 0.50: torch, e | 0.80: numpy, c; 0.90: numpy, d |",
    ]


def test_a_page_without_markers_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- versus.py -->\n<!-- end of versus.py -->\n")
    monkeypatch.setattr(sys, "argv", ["versus.py", "--markdown", str(page), "--summary", str(page)])
    with pytest.raises(SystemExit):
        versus.main()
    assert "expected a file with the markers <!-- versus.py --summary -->" in capsys.readouterr().err


def between_marks(path, mark):
    """(head, {first cell: the other cells}) of the table there, and the lines behind it."""
    text = (ROOT / path).read_text(encoding="utf-8")
    head, _, *lines = text.split(f"<!-- {mark} -->\n")[1].split(f"\n<!-- end of {mark} -->")[0].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return head, {first: cells for first, *cells in table[2:]}, lines[len(table) :]


def test_the_readme_says_what_the_page_on_speed_says():
    head, rows, lines = between_marks("docs/speed.md", "versus.py")
    short_head, groups, _ = between_marks("README.md", "versus.py --summary")
    assert short_head == head
    assert list(rows) == [work.name for work in all_work()]
    ratio = {name: float(cells[-2]) for name, cells in rows.items()}
    said = dict(re.fullmatch(r"- (.*?): (least .*?);.*", line).groups() for line in lines if line)
    assert groups.keys() == said.keys() == {work.group for work in all_work()}
    for group, (count, mean, least, others) in groups.items():
        members = {work.name for work in all_work() if work.group == group}
        assert int(count) == len(members)
        assert said[group] == f"least {least.partition(':')[0]}, geometric mean {mean}"
        assert float(least.partition(":")[0]) == min(ratio[name] for name in members)
        named = re.findall(r"([\d.]+): (\w+), ([^;]+)", f"{least}; {others}")
        assert all(float(number) == ratio[name] for number, _, name in named)
        assert {name for name in members if ratio[name] < 1} <= {name for *_, name in named} <= members
