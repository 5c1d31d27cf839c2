"""Text for GitHub: what comes from a stack cannot become markup, and what is too long is cut where a line ends."""

import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

# GitHub takes 65,536 characters in a comment or an issue; the rest is for characters that it counts twice.
COMMENT_LENGTH = 60_000
_MARKUP = re.compile(r"([\\`*_\[\]#|~])")


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one job of a workflow has to say of its stack.

    Attributes:
        stack: its name.
        clean: there is nothing that anybody must do.
        text: Markdown, of lines that can be read without those after them.
    """

    stack: str
    clean: bool
    text: str

    def to_json(self) -> str:
        """For the job that posts it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Section":
        """What `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        match json.loads(text):
            case {"stack": str(stack), "clean": bool(clean), "text": str(body)}:
                return cls(stack=stack, clean=clean, text=body)
        raise ValueError("not a section")


def plain(text: str) -> str:
    """Text that GitHub shows as it is, and that notifies nobody."""
    return _MARKUP.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False)).replace("@", "@\u200b")


def code(text: str) -> str:
    """Text as code, also within a table."""
    return f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', chr(0xA6))}`"


def bullets(title: str, lines: Iterable[str]) -> Sequence[str]:
    """A titled list; nothing when it would be empty."""
    found = [f"- {line}" for line in lines]
    return [f"\n**{title}**", *found] if found else []


def join(head: str, sections: Sequence[Section], *, missing: Iterable[str] = (), length: int = COMMENT_LENGTH) -> str:
    """Sections under a head, the longest of them cut so that the whole is not too long.

    Args:
        head: what comes first.
        sections: in the order of their stacks' names.
        missing: stacks whose job ended without a section.
        length: of the whole at most, in characters.
    """
    lost = [f"### {plain(stack)}\nNo result: the run tells why." for stack in sorted(missing)]
    texts = [section.text for section in sorted(sections, key=lambda section: section.stack)]
    room = length - len(head) - sum(len(text) + 2 for text in lost)
    return "\n\n".join([head, *_cut(texts, room), *lost])


def _cut(texts: Sequence[str], room: int) -> Sequence[str]:
    """Each text, or as many whole lines of it as its share holds; what short ones leave is for the long ones."""
    shares: dict[int, int] = {}
    for number, index in enumerate(sorted(range(len(texts)), key=lambda index: len(texts[index]))):
        fair = (room - sum(shares.values())) // (len(texts) - number)
        shares[index] = min(len(texts[index]) + 2, fair)
    return [_shortened(text, shares[index] - 2) for index, text in enumerate(texts)]


def _shortened(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    lines = text.split("\n")
    kept: list[str] = []
    while lines and sum(len(line) + 1 for line in kept) + len(lines[0]) < length - len(_rest(len(lines))):
        kept.append(lines.pop(0))
    return "\n".join(kept) + _rest(len(lines))


def _rest(lines: int) -> str:
    return f"\n\n… and {lines} more lines, in the run."
