"""Whether an answer equals the gold one, by kind. Pure; what takes symbolic work is asked of a function given in.

Comparing is three-valued: True, False, or None for "not without symbolic work". The same code runs twice: in the
caller's process with :func:`plain_atoms`, which decides nearly everything at once, and where that says None, in a
worker process with the symbolic comparison of :mod:`satori.grading.symbolic`.
"""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from satori.grading.forms import AnswerForm, AnswerKind
from satori.grading.kinds import parse_rational, read_choice, read_label, read_literal, same_cell, unseen
from satori.grading.latex import Atom, Equation, Group, Node, Values, names, parse
from satori.grading.limits import expands, workable
from satori.grading.numeric import same_value
from satori.grading.tokens import Tokens, is_text, render, tokenize
from satori.grading.units import same_words, unit_of, without_unit, words_only

LONGEST_ANSWER = 2000
"""Characters. A longer answer is never right."""
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
            return _same_equations(answer, gold, form, same_atoms)
        case Equation(), _ if names(gold.left.tokens):
            return same_nodes(answer, gold.right, form, same_atoms)
        case _, Equation(right=Atom()):
            return _same_last_side(answer, gold, form, same_atoms)
        case Values(), _:
            return _same_unordered(_listed(answer, gold.union), _flat(gold.items), form, same_atoms)
        case Group(open=r"\{"), _:
            listed = _listed(answer, union=False) if form.multiple else _set_items(answer)
            return _same_unordered(listed, _flat(gold.items), form, same_atoms)
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


def _same_equations(answer: Equation, gold: Equation, form: AnswerForm, same_atoms: SameAtoms) -> bool | None:
    if answer.middle or gold.middle:
        return False
    left = same_atoms(answer.left.tokens, gold.left.tokens, form)
    right = same_nodes(answer.right, gold.right, form, same_atoms)
    if left and (right or names(gold.left.tokens)):
        return right
    if isinstance(answer.right, Atom) and isinstance(gold.right, Atom):
        whole = (*answer.left.tokens, "=", *answer.right.tokens)
        return same_atoms(whole, (*gold.left.tokens, "=", *gold.right.tokens), form)
    return False if left is False or right is False else None


def _same_last_side(answer: Equation, gold: Node, form: AnswerForm, same_atoms: SameAtoms) -> bool | None:
    """An answer ``x = 5`` or ``2^3 = 8`` for a gold that is no equation: every side but a name must be the gold's."""
    assert isinstance(answer.right, Atom)
    sides = [*answer.middle, answer.right.tokens]
    if not names(answer.left.tokens):
        sides.append(answer.left.tokens)
        if exact_number(answer.right.tokens) is None:
            return False
    return _every(same_nodes(parse(side), gold, form, same_atoms) for side in sides)


def _listed(answer: Node, union: bool) -> Sequence[Node]:
    if isinstance(answer, Values) and answer.union == union:
        return _flat(answer.items)
    return [answer] if union else _set_items(answer)


def _set_items(answer: Node) -> Sequence[Node]:
    return _flat(answer.items) if isinstance(answer, Group) and answer.open == r"\{" else [answer]


def _flat(items: Sequence[Node]) -> list[Node]:
    """The items, with both values of a plus-minus in the place of it."""
    return [one for item in items for one in (item.items if isinstance(item, Values) and not item.union else [item])]


def _same_unordered(
    answers: Sequence[Node], golds: Sequence[Node], form: AnswerForm, same_atoms: SameAtoms
) -> bool | None:
    """Whether the answers are the golds in some order: as many of them, each gold matched by one of its own.

    Answers of different names (x = 5, y = 3) are no plain list.
    """
    lefts = {answer.left.tokens for answer in answers if isinstance(answer, Equation)}
    if len(answers) != len(golds) or (len(lefts) > 1 and not any(isinstance(gold, Equation) for gold in golds)):
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


def plain_atoms(answer: Tokens, gold: Tokens, form: AnswerForm) -> bool | None:
    """Equal as written, or as numbers; None where neither says, unless the answer is not to be worked out at all."""
    (answer, unit), (gold, gold_unit) = without_unit(answer), without_unit(gold)
    gold_unit = gold_unit or unit_of(form.unit)
    if unit and gold_unit and unit != gold_unit:
        return False
    if answer == gold:
        return True
    number, gold_number = exact_number(answer), exact_number(gold)
    if number is not None and gold_number is not None:
        return abs(number - gold_number) <= Fraction(str(form.tolerance))
    if is_text(answer) or is_text(gold):
        return words_only(answer) and words_only(gold) and same_words(answer, gold)
    if not (workable(answer) and workable(gold)) or (expands(answer) and not expands(gold)):
        return False
    return None if form.tolerance else same_value(answer, gold)


def exact_number(tokens: Tokens) -> Fraction | None:
    """The value of a plain number or a fraction of two; None for anything else."""
    side_by_side = any(a[0].isdigit() and (b[0].isdigit() or b[0] == ".") for a, b in pairwise(tokens))
    return None if side_by_side or not 0 < len(tokens) <= 10 else parse_rational(render(tokens).replace(" ", ""))


def read_number(text: str) -> Fraction | None:
    """A number as people box it: named, with a currency sign, a percent sign or a unit; None for anything else.

    What is left to work out is no number, and neither is one whose words scale it (5 million, 3 dozen).
    """
    node = parse(tokenize(text)) if not unseen(text) else None
    if isinstance(node, Equation) and names(node.left.tokens) and not node.middle:
        node = node.right
    return exact_number(without_unit(node.tokens)[0]) if isinstance(node, Atom) else None
