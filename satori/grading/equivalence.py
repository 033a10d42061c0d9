"""Whether an answer equals the gold one, by kind. Pure; what takes symbolic work is asked of a function given in.

Comparing is three-valued: True, False, or None for "not without symbolic work". The same code runs twice: in the
caller's process with :func:`plain_atoms`, which decides nearly everything at once, and where that says None, in a
worker process with the symbolic comparison of :mod:`satori.grading.symbolic`.
"""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

from satori.grading.extraction import LONGEST_ANSWER
from satori.grading.forms import AnswerForm, AnswerKind
from satori.grading.kinds import (
    parse_rational,
    read_choice,
    read_label,
    read_literal,
    read_number,
    same_cell,
    unseen,
    unwrap_text,
)
from satori.grading.latex import (
    Atom,
    Equation,
    Group,
    Node,
    Tokens,
    Values,
    expands,
    is_text,
    parse,
    render,
    tokenize,
    without_unit,
    workable,
)
from satori.grading.numeric import same_value

SameAtoms: TypeAlias = Callable[[Tokens, Tokens, AnswerForm], bool | None]
"""(answer, gold, form) -> whether two expressions are equal; None for not decided."""


class UnreadableGoldError(ValueError):
    """The gold answer is none of its kind."""


def equivalent(answer: str, gold: str, form: AnswerForm, same_atoms: SameAtoms) -> bool | None:
    """Whether ``answer`` equals ``gold``; None where ``same_atoms`` could not decide. Raises UnreadableGoldError."""
    if len(answer) > LONGEST_ANSWER or unseen(answer):
        return False
    match form.kind:
        case AnswerKind.LATEX:
            return _same_latex(answer, gold, form, same_atoms)
        case AnswerKind.TASK:
            return None
        case AnswerKind.CELL:
            return same_cell(answer, gold)
    given, wanted = (_value(text, form) for text in (answer, gold))
    if wanted is None:
        if answer.strip() == gold.strip() != "":
            return True
        raise UnreadableGoldError(f"gold answer {gold[:80]!r} is no {form.kind}")
    return given == wanted


def _value(text: str, form: AnswerForm) -> object | None:
    match form.kind:
        case AnswerKind.NUMBER:
            return read_number(text)
        case AnswerKind.CHOICE:
            return read_choice(text)
        case AnswerKind.LABEL:
            return read_label(text, form.labels)
        case _:
            return read_literal(text)


def _same_latex(answer: str, gold: str, form: AnswerForm, same_atoms: SameAtoms) -> bool | None:
    answer_tokens, gold_tokens = tokenize(answer), tokenize(gold)
    if not gold_tokens:
        raise UnreadableGoldError(f"gold answer {gold[:80]!r} is empty")
    if answer_tokens == gold_tokens:
        return True
    return same_nodes(parse(answer_tokens), parse(gold_tokens), form, same_atoms)


def same_nodes(answer: Node, gold: Node, form: AnswerForm, same_atoms: SameAtoms) -> bool | None:
    """Compare two trees. The gold's structure is followed: an answer that lists more than it is wrong."""
    match gold, answer:
        case Equation(), Equation():
            left = same_atoms(answer.left.tokens, gold.left.tokens, form)
            right = same_nodes(answer.right, gold.right, form, same_atoms)
            if left and (right or _names(gold.left)):
                return right
            if isinstance(answer.right, Atom) and isinstance(gold.right, Atom):
                whole = (*answer.left.tokens, "=", *answer.right.tokens)
                return same_atoms(whole, (*gold.left.tokens, "=", *gold.right.tokens), form)
            return _both(left, right)
        case Equation(), _ if _names(gold.left):
            return same_nodes(answer, gold.right, form, same_atoms)
        case _, Equation() if _names(answer.left):
            return same_nodes(answer.right, gold, form, same_atoms)
        case Values(), _:
            return _same_unordered(_listed(answer, gold.union), gold.items, form, same_atoms)
        case Group(open=r"\{"), _:
            listed = _listed(answer, union=False) if form.multiple else _set_items(answer)
            return _same_unordered(listed, gold.items, form, same_atoms)
        case _, Values(items=[single]) if form.multiple:
            return same_nodes(single, gold, form, same_atoms)
        case _, Group(open=r"\{", items=[single]) if form.multiple:
            return same_nodes(single, gold, form, same_atoms)
        case Group(), Group():
            if (gold.open, gold.close, len(gold.items)) != (answer.open, answer.close, len(answer.items)):
                return False
            pairs = zip(answer.items, gold.items, strict=True)
            return _every(same_nodes(one, other, form, same_atoms) for one, other in pairs)
        case Atom(), Atom():
            return same_atoms(answer.tokens, gold.tokens, form)
    return False


def _names(side: Atom) -> bool:
    """Whether a side of an equation only names the other: ``x``, ``a_1``, ``f(x)``, ``\\theta``."""
    tokens = tuple(token for token in side.tokens if token not in "_{}()',")
    return 0 < len(tokens) <= 3 and (tokens[0].isalpha() or tokens[0].startswith("\\")) and len(side.tokens) <= 6


def _listed(answer: Node, union: bool) -> Sequence[Node]:
    if isinstance(answer, Values) and answer.union == union:
        return answer.items
    return [answer] if union else _set_items(answer)


def _set_items(answer: Node) -> Sequence[Node]:
    return answer.items if isinstance(answer, Group) and answer.open == r"\{" else [answer]


def _same_unordered(
    answers: Sequence[Node], golds: Sequence[Node], form: AnswerForm, same_atoms: SameAtoms
) -> bool | None:
    """Whether the answers are the golds in some order: as many of them, each gold matched by one of its own."""
    if len(answers) != len(golds):
        return False
    left = list(answers)
    undecided = False
    for gold in golds:
        verdicts = [same_nodes(answer, gold, form, same_atoms) for answer in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True


def _every(verdicts: Iterable[bool | None]) -> bool | None:
    undecided = False
    for verdict in verdicts:
        if verdict is False:
            return False
        undecided |= verdict is None
    return None if undecided else True


def _both(one: bool | None, other: bool | None) -> bool | None:
    return False if one is False or other is False else None


def plain_atoms(answer: Tokens, gold: Tokens, form: AnswerForm) -> bool | None:
    """Equal as written, or as numbers; None where neither says, unless the answer is not to be worked out at all."""
    (answer, unit), (gold, gold_unit) = without_unit(answer), without_unit(gold)
    gold_unit = gold_unit or _unit(form)
    if unit and gold_unit and unit != gold_unit:
        return False
    if answer == gold:
        return True
    number, gold_number = exact_number(answer), exact_number(gold)
    if number is not None and gold_number is not None:
        return abs(number - gold_number) <= Fraction(str(form.tolerance or 0))
    if is_text(answer) and is_text(gold):
        return _letters(answer) == _letters(gold) != ""
    if not (workable(answer) and workable(gold)) or (expands(answer) and not expands(gold)):
        return False
    return None if form.tolerance else same_value(answer, gold)


def _unit(form: AnswerForm) -> str:
    tokens = tokenize(rf"1\text{{{unwrap_text(form.unit)}}}") if form.unit else ()
    return without_unit(tokens)[1]


def _letters(tokens: Tokens) -> str:
    return "".join(character for token in tokens for character in token if character.isalnum())


def exact_number(tokens: Tokens) -> Fraction | None:
    """The value of a plain number or a fraction of two; None for anything else."""
    return parse_rational(render(tokens).replace(" ", "")) if 0 < len(tokens) <= 10 else None
