"""What is worked out at all: known notation, of a size that a final answer has.

An answer beyond these limits is equal to the gold one only where it is written the same.
"""

from itertools import pairwise

from satori.grading.tokens import FUNCTIONS, GREEK, Tokens, closing, is_monstrous, is_text

_KNOWN = (
    {f"\\{name}" for name in FUNCTIONS | GREEK}
    | set(r"\frac \cdot \leq \geq \neq \binom \cup \in \infty \pm \mp \lfloor \rfloor \lceil \rceil".split())
    | set("+-/^_!|()[]{}=<>,")
)
_LONGEST_NUMBER = 40
_LARGEST_EXPONENT = 100_000
_LARGEST_FACTORIAL = 200
_LARGEST_IN_BINOMIAL = 10_000
_HIGHEST_POWER_OF_SUM = 20


def workable(tokens: Tokens) -> bool:
    """Whether an expression may be worked out.

    Two numbers side by side are none (5 3 is not 53, nor 15), and a base below a number has no value here.
    """
    if is_monstrous(tokens) or is_text(tokens) or not all(map(_is_known, tokens)):
        return False
    for before, token in pairwise(tokens):
        if before[0].isdigit() and (token[0].isdigit() or token[0] == "." or token == "_"):
            return False
    return not _towers(tokens)


def _is_known(token: str) -> bool:
    if token[0].isdigit() or token[0] == ".":
        return token.isascii() and len(token) <= _LONGEST_NUMBER
    return token in _KNOWN or (len(token) == 1 and token.isascii() and token.isalpha())


def expands(tokens: Tokens) -> bool:
    """Whether it holds high powers of sums with letters: multiplied out, they have more terms than memory holds."""
    product = 1
    for index in range(1, len(tokens) - 1):
        if tokens[index] == "^" and tokens[index - 1] in (")", "}"):
            exponent = tokens[index + 2 : closing(tokens, index + 1)]
            product *= max((int(part) for part in exponent if part.isdigit()), default=1)
    return product > _HIGHEST_POWER_OF_SUM and any(len(t) == 1 and t.isalpha() for t in tokens)


def _towers(tokens: Tokens) -> bool:
    """Powers of powers, factorials of factorials, exponents and factorials that nobody writes out."""
    if tokens.count("!") > 2 or tokens.count(r"\binom") > 4:
        return True
    product = 1
    for index, token in enumerate(tokens):
        if token == "!" and not _small_factorial(tokens[:index]):
            return True
        if token == "^" and tokens[index + 1 : index + 2] == ("{",):
            exponent = tokens[index + 2 : closing(tokens, index + 1)]
            if "^" in exponent and not any(t.isalpha() for t in exponent):
                return True
            for part in exponent:
                product *= max(1, int(part)) if part.isdigit() else 1
        if r"\binom" in tokens and token.isdigit() and int(token) > _LARGEST_IN_BINOMIAL:
            return True
    return product > _LARGEST_EXPONENT


def _small_factorial(before: Tokens) -> bool:
    """Whether the factorial of what stands before is of a letter, a small number, or a small sum of them."""
    last = before[-1] if before else ""
    if last != ")":
        return last.isalpha() or (last.isdigit() and int(last) <= _LARGEST_FACTORIAL)
    start = len(before) - before[::-1].index("(") if "(" in before else 0
    inner = before[start:-1]
    return all(t in "+-" or t.isalpha() or (t.isdigit() and int(t) <= _LARGEST_FACTORIAL) for t in inner)
