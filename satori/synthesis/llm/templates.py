"""The six prompts of demonstration synthesis (paper sections 4.1 and C), in our own words, as text files.

A user's folder may hold any of the six; the others come from this package. A file is the user turn, or the system turn
and the user turn with a line ``---`` between them (not every model takes a system turn; ours have none). ``{{name}}``
is filled with what it names, in one pass: inserted text is never looked at again, so a problem that itself holds
``{{steps}}`` stays as it is. What a template may name, and what it must, is checked when it is read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


class Prompt(StrEnum):
    """What is asked; the value is the file's name."""

    SOLVE = "solve"
    CONTINUE_VERIFIED = "continue_verified"
    CONTINUE_CORRECTED = "continue_corrected"
    VERIFY = "verify"
    FIND_MISTAKE = "find_mistake"
    FIND_MISTAKE_AGAIN = "find_mistake_again"


class TemplateError(ValueError):
    """A prompt template that cannot be used; the message names the file and the line."""


@dataclass(frozen=True)
class _Places:
    """Placeholders: of each of ``required`` (alternatives with a bar between) one must occur."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def allowed(self) -> tuple[str, ...]:
        return tuple(name for group in (*self.required, *self.optional) for name in group.split("|"))


_CRITIC = ("question", "steps", "reference|answer")
_PLACES = {
    Prompt.SOLVE: _Places(("question",)),
    Prompt.CONTINUE_VERIFIED: _Places(("question", "steps", "review"), ("next",)),
    Prompt.CONTINUE_CORRECTED: _Places(("question", "steps", "review", "direction"), ("next",)),
    Prompt.VERIFY: _Places(_CRITIC),
    Prompt.FIND_MISTAKE: _Places(_CRITIC),
    Prompt.FIND_MISTAKE_AGAIN: _Places((*_CRITIC, "first")),
}
_OPENING = re.compile(r"\{\{(?:([^{}\n]{0,80})\}\})?")
_SUFFIX = ".md"
_NOT_A_TEMPLATE = "README.md"


@dataclass(frozen=True)
class Template:
    """One prompt: the turns' texts, with their placeholders."""

    user: str
    system: str = ""

    def messages(self, values: Mapping[str, str]) -> list[dict[str, str]]:
        """The conversation that asks it. ``values`` has all the placeholders' names that the template may use."""
        turns = (("system", self.system), ("user", self.user))
        return [{"role": role, "content": _fill(text, values)} for role, text in turns if text]


Templates = Mapping[Prompt, Template]


def load_templates(folder: Path | None = None) -> Templates:
    """The six prompts; those that the folder has come from there. Raises TemplateError."""
    own = _own_files(folder) if folder else {}
    packaged = files(__package__) / "templates"
    sources: dict[Prompt, Path | Traversable] = {p: own.get(p, packaged / (p + _SUFFIX)) for p in Prompt}
    return {prompt: read_template(prompt, _text(source), str(source)) for prompt, source in sources.items()}


def read_template(prompt: Prompt, text: str, name: str) -> Template:
    """A template's text, checked; ``name`` is the file's, for the message. Raises TemplateError."""
    places = _PLACES[prompt]
    allowed = f"allowed in {prompt}{_SUFFIX} are {', '.join(f'{{{{{place}}}}}' for place in places.allowed)}"
    found = set()
    for number, line in enumerate(text.split("\n"), 1):
        for match in _OPENING.finditer(line):
            place = (match[1] or "").strip()
            if not place:
                raise TemplateError(f"{name}, line {number}: {{{{ opens no placeholder; {allowed}")
            if place not in places.allowed:
                raise TemplateError(f"{name}, line {number}: unknown placeholder {{{{{place}}}}}; {allowed}")
            found.add(place)
    for group in places.required:
        if found.isdisjoint(group.split("|")):
            missing = " or ".join(f"{{{{{place}}}}}" for place in group.split("|"))
            raise TemplateError(f"{name}: {missing} is missing (lines 1 to {text.count(chr(10)) + 1}); {allowed}")
    return _turns(text, name)


def _own_files(folder: Path) -> dict[Prompt, Path]:
    """The templates of a user's folder. A file that is none of the six is an error: its name may be misspelt."""
    if not folder.is_dir():
        raise TemplateError(f"{folder} is no folder of prompt templates")
    found = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        if path.name == _NOT_A_TEMPLATE:
            continue
        if path.stem not in list(Prompt):
            names = ", ".join(prompt + _SUFFIX for prompt in Prompt)
            raise TemplateError(f"{path} is none of the prompt templates {names}")
        found[Prompt(path.stem)] = path
    if not found:
        raise TemplateError(f"{folder} holds no prompt template: expected one or more of {', '.join(Prompt)}{_SUFFIX}")
    return found


def _text(source: Path | Traversable) -> str:
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{source} cannot be read as text: {error}") from error


def _turns(text: str, name: str) -> Template:
    """A checked text as turns."""
    lines = text.split("\n")
    cuts = [index for index, line in enumerate(lines) if line.rstrip() == "---"]
    if len(cuts) > 1:
        raise TemplateError(f"{name}, line {cuts[1] + 1}: a second line ---; one may part the system and the user turn")
    system, user = (
        "\n".join(part).strip() for part in ((lines[: cuts[0]], lines[cuts[0] + 1 :]) if cuts else ([], lines))
    )
    if not user:
        raise TemplateError(f"{name}, line {len(lines)}: the user turn is empty")
    return Template(user, system)


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _OPENING.sub(lambda match: values[match[1].strip()], text)
