"""What a section of the README tells a person to do."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from tests.system.room import ROOT

_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section, as text and as commands.

    Attributes:
        text: Everything below the heading.
        commands: The words of each command in its code blocks, in order.
    """

    text: str
    commands: list[list[str]]

    def found(self, pattern: str) -> tuple[str, ...]:
        """Return the groups of a pattern that the text must match once; line breaks count as spaces."""
        matches = re.findall(pattern, " ".join(self.text.split()))
        assert len(matches) == 1, f"{pattern} stands {len(matches)} times in this section"
        return tuple(matches[0]) if isinstance(matches[0], tuple) else (matches[0],)


def section(file: str, heading: str) -> Section:
    """Read the section below a heading of the second level."""
    content = (ROOT / file).read_text(encoding="utf-8")
    _, _, rest = content.partition(f"\n## {heading}\n")
    assert rest, f"{file} has no section {heading!r}"
    text = rest.partition("\n## ")[0]
    lines = [line for block in _BLOCK.findall(text) for line in block.splitlines() if line.strip()]
    return Section(text=text, commands=[shlex.split(line, comments=True) for line in lines])
