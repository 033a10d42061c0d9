"""A generator's free text as COAT steps (paper section 4: a response is a sequence of reasoning steps).

Where a step begins is decided once for a text, by the first of these that occurs in it:

1. labels such as ``Step 2:``, ``**Step 2:**`` or ``### Step 2`` at the beginning of a line;
2. a numbered list, ``1.``, ``2.``, … in order, of two items or more;
3. blank lines;
4. line ends.

Labels are dropped everywhere: after a reflection and an exploration the count would jump, and the policy would learn to
number. Nothing else of a text is lost but blank space. No step begins inside a display formula, an environment or a
code block, nor with a display formula, which belongs to the sentence before it; a block that is never closed reaches to
the end of the text. A fragment too short to be a step goes to its neighbour.

What it leaves out: labels in other words than "Step", and numbers of list items within a step.
"""

import re
from collections.abc import Iterator

from satori.synthesis.agents import Steps

SHORTEST_STEP = 12
"""Characters, blank space not counted, that a step has at least."""

# Each repetition is bounded, so that no line takes more than linear time.
_SPACE = r"[ \t]{0,8}"
_MARK = r"(?:\*\*|__)?"
_NUMBER = r"step[ \t]{1,4}(?:\d{1,3}|n)"  # small models copy an n
_LABELS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # **Step 2:** or **Step 2**: or **Step 2**, the emphasis around the label alone
        rf"{_SPACE}(?:#{{1,6}}{_SPACE})?(?P<mark>\*\*|__){_SPACE}{_NUMBER}{_SPACE}(?:[:.)–—-]{_SPACE}(?P=mark)|"
        rf"(?P=mark){_SPACE}[:.)–—-]?)",
        # **Step 2: Add both.**, the emphasis around more than the label: it stays
        rf"{_SPACE}(?:#{{1,6}}{_SPACE})?(?P<kept>{_MARK}){_SPACE}{_NUMBER}{_SPACE}(?:[:)–—]|[.-](?!\d))",
        # Step 2 and nothing else on the line, or ### Step 2 Add both
        rf"{_SPACE}(?:#{{1,6}}{_SPACE})?{_NUMBER}{_SPACE}$",
        rf"{_SPACE}#{{1,6}}{_SPACE}{_NUMBER}(?!\w)",
    )
)
_ITEM = re.compile(rf"(?:#{{1,6}}{_SPACE})?(?P<kept>{_MARK})(?P<number>\d{{1,3}})[.)](?P<closed>{_MARK})(?=\s)")
_DISPLAY = re.compile(r"\$\$|\\\[|\\begin\b")
# An escape is one of the brackets, or eaten whole: `\\[2pt]` is a line break within a formula.
_BLOCK_MARK = re.compile(r"\\\[|\\\]|\\begin\b|\\end\b|\\.|\$\$")
_FENCES = ("```", "~~~")


def split_steps(text: str, shortest: int = SHORTEST_STEP, finished: bool = True) -> Steps:
    """The steps of a solution, without labels; empty where nothing stands in it.

    A text that is not ``finished`` was cut off: its last, broken piece is left out.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    free = list(_outside_blocks(lines))
    for begins in (_labelled, _numbered, _paragraphs):
        if beginnings := begins(lines, free):
            break
    else:
        beginnings = _each_line(lines, free)
    pieces = _cut(lines, beginnings)
    return _merge(pieces if finished else pieces[:-1], shortest)


def _outside_blocks(lines: list[str]) -> Iterator[bool]:
    """For each line, whether it begins outside all formulas and code blocks."""
    fence, dollars, brackets, environments = "", False, False, 0
    for line in lines:
        yield not (fence or dollars or brackets or environments)
        opening = line.lstrip()[:3]
        if fence:
            fence = "" if opening == fence else fence
            continue
        if opening in _FENCES:
            fence = opening
            continue
        for mark in _BLOCK_MARK.findall(line):
            if mark == "$$":
                dollars = not dollars
            elif mark in ("\\[", "\\]"):
                brackets = mark == "\\["
            elif mark == "\\begin":
                environments += 1
            elif mark == "\\end":
                environments = max(0, environments - 1)


def _labelled(lines: list[str], free: list[bool]) -> dict[int, str]:
    """The lines that open with a step's label, each without it."""
    found: dict[int, str] = {}
    for index, line in enumerate(lines):
        if free[index] and (match := next(filter(None, (label.match(line) for label in _LABELS)), None)):
            found[index] = (match.groupdict().get("kept") or "") + line[match.end() :].lstrip()
    return found


def _numbered(lines: list[str], free: list[bool]) -> dict[int, str]:
    """The items of a list that counts up by one, each without its number, and the paragraphs before and after them;
    nothing where there are less than two items."""
    found: dict[int, str] = {}
    last: int | None = None
    for index, line in enumerate(lines):
        match = _ITEM.match(line) if free[index] else None
        if match and last in (None, int(match["number"]) - 1):
            last = int(match["number"])
            found[index] = ("" if match["closed"] else match["kept"]) + line[match.end() :].lstrip()
    if len(found) < 2:
        return {}
    first, end = min(found), max(found)
    around = {
        i: line for i, line in _paragraphs(lines, free).items() if not first <= i <= end and not line[:1].isspace()
    }
    return {**around, **found}


def _paragraphs(lines: list[str], free: list[bool]) -> dict[int, str]:
    """The lines after blank ones."""
    return {i: line for i, line in _each_line(lines, free).items() if i and not lines[i - 1].strip()}


def _each_line(lines: list[str], free: list[bool]) -> dict[int, str]:
    """All lines that can begin a step."""
    return {i: line for i, line in enumerate(lines) if free[i] and line.strip() and not _DISPLAY.match(line.lstrip())}


def _cut(lines: list[str], beginnings: dict[int, str]) -> list[str]:
    """The pieces between the beginnings, blank ones left out."""
    pieces: list[list[str]] = [[]]
    for index, line in enumerate(lines):
        if index in beginnings:
            pieces.append([])
        pieces[-1].append(beginnings.get(index, line))
    return [text for piece in pieces if (text := "\n".join(piece).strip())]


def _merge(pieces: list[str], shortest: int) -> Steps:
    """Pieces as steps: one that is too short goes to the one before it, the first to the one after it."""
    steps: list[list[str]] = []
    length = 0
    for piece in pieces:
        size = len("".join(piece.split()))
        if steps and (size < shortest or length < shortest):
            steps[-1].append(piece)
            length += size
        else:
            steps.append([piece])
            length = size
    return tuple("\n".join(step) for step in steps)
