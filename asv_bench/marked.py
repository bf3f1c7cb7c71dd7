"""What commands put into pages: text between two marks that name the command, and versions of what it ran with."""

import pathlib
from importlib.metadata import version


def replace(path, command, text):
    """Put text into a page, in the place of what stands between `<!-- command -->` and `<!-- end of command -->`."""
    path = pathlib.Path(path)
    begin, end = f"<!-- {command} -->", f"<!-- end of {command} -->"
    before, rest = path.read_text().split(begin)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def versions(*distributions):
    """Names of installed distributions, each with its version."""
    return ", ".join(f"{name} {version(name)}" for name in distributions)
