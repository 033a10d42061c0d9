"""Texts that must not become part of a demonstration (paper section 4.1: the critic sees the reference solution but
must not mention it): their wording gives away that somebody saw the known answer or was told what to write, they are in
another language than the question, or they spell a special token.

What counts as a leak is a source, not a result. "The correct answer is therefore 12" is a solver's own conclusion and
passes; "this differs from the correct answer" compares with something that only a reader of the answer has, and does
not. Words that problems use themselves pass as long as nothing else betrays a source: a reference angle, an expected
value, a known result, the given answer choices, a salt solution. Where a wording could be either, as in "the hint says"
or "the critic said", it is a leak: a demonstration less costs little, a model that learns to appeal to an answer key
costs much.

What it leaves out: answers that are simply stated (a direction that says the result), leaks in other languages than
English, and languages that share a script.
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import groupby

_LONGEST_QUOTE = 80

_NOT_CHOICES = r"(?! (?:choice|option|sheet|format|box|space)s?\b)"
_NOT_OF = rf"(?! (?:of|to|for|set|space|curve|above)\b){_NOT_CHOICES}"
_FROM_A_SOURCE = r"(?:given|known|correct|right|true|actual|real|expected|desired|provided|stated|intended|supplied)"
_SAYS = (
    r"(?:says?|said|states?|stated|tells?|told|mentions?|mentioned|claims?|claimed|reads?|confirms?|confirmed|"
    r"indicates?|indicated|reports?|reported)"
)
_REPORTS = rf"(?:{_SAYS}|shows?|showed|gives?|gave|uses?|used|starts?|proceeds?)"
_COMPARED = (
    r"(?:match|matches|matching|matched|(?:agree|agrees|agreeing|agreed|consistent|inconsistent|compared|comparing|"
    r"comparison|line|accordance|contrast|coincides?|disagrees?) (?:with|to)|(?:differs?|differed|differing|different|"
    r"deviates?|deviating|departs?) from|contradicts?|contradicting|unlike|than|(?:close|closer|contrary|equal|"
    r"identical|leads?|lead|comes?|came) to)"
)
_ALONE = r"(?= ?(?:[.,;:!?()]|$)| (?:and|but|that|which|so|because|since|we|i|it|this|here|above|instead)\b)"
_ADVISER = (
    r"(?:hints?|reviewers?|critics?|feedback|critique|review|critic's (?:note|comment|remark)|"
    r"reviewer's (?:note|comment|remark)|suggested direction|given direction)"
)
_ADVISES = (
    rf"(?:{_SAYS}|notes?|noted|points? out|pointed out|suggests?|suggested|advises?|advised|recommends?|recommended|"
    r"identifies|identified|found|(?:is|was) (?:right|correct|given|provided))"
)

_LEAKS = tuple(
    re.compile(pattern)
    for pattern in (
        # What nobody but a reader of the answer speaks of.
        r"\bground ?truths?\b",
        r"\b(?:answer|solution|marking|mark) (?:key|scheme|manual)s?\b",
        r"\b(?:reference|official|gold|golden|model|sample|target|oracle) (?:solution|answer)s?\b",
        r"\breference (?:result|proof|derivation|text|approach)\b",
        rf"\b(?:expected|intended|standard|supplied|hidden) answers?\b{_NOT_CHOICES}",
        rf"\b(?:given|provided|known|stated) answer\b{_NOT_CHOICES}",
        r"\b(?:provided|supplied|intended|hidden) solution\b",
        # A solution or an answer as a source: it says something, is quoted, or is compared with.
        rf"\b{_FROM_A_SOURCE} solution {_REPORTS}\b",
        rf"\b{_FROM_A_SOURCE} answer {_SAYS}\b",
        r"\bthe (?:final )?(?:solution|answer) (?:says|said|states|stated|tells|told|mentions|claims|reads)\b",
        rf"\b{_FROM_A_SOURCE} (?:final )?(?:solution|answer) (?:is|was) (?:given|provided|stated|known|listed|shown)\b"
        r"(?! by\b)",
        r"\bthe (?:final )?answer (?:is|was) (?:known to be|provided|supplied|given as|given to be|stated)\b",
        rf"\b(?:according to|as per|per) the (?:{_FROM_A_SOURCE} )?(?:final )?(?:solution|answer)\b{_NOT_OF}",
        rf"\b(?:based on|judging (?:by|from)|looking at|given|from|see|follows?|following) the {_FROM_A_SOURCE} "
        rf"(?:final )?(?:solution|answer)\b{_NOT_OF}",
        rf"\b(?:stated|given|shown|seen|said|indicated|noted|mentioned|written|done|explained) in the "
        rf"(?:{_FROM_A_SOURCE} )?(?:final )?(?:solution|answer)\b{_NOT_OF}",
        rf"\b{_COMPARED} (?:the|our|that of the) {_FROM_A_SOURCE} (?:final )?(?:solution|answer)\b{_NOT_CHOICES}",
        rf"\b{_COMPARED} the (?:correct|expected|right|true|actual|intended) result\b",
        r"\b(?:knows?|knew|knowing|told|given) (?:that )?the (?:correct |right |final |true )?(?:answer|result) "
        r"(?:is|was|should be|must be|equals) ?[\d$\\(-]",
        rf"\b(?:as|like) in the (?:{_FROM_A_SOURCE} )?(?:final )?(?:solution|answer)\b{_NOT_OF}",
        # Without a noun behind it: a reference angle is nobody's.
        rf"\bthe (?:given |provided )?reference {_REPORTS}\b(?! (?:of|are|is|and)\b)",
        rf"\b(?:according to|as per|per|based on|judging by|following|in|{_COMPARED}) the (?:given |provided )?"
        rf"reference{_ALONE}",
        # Somebody who said what to write.
        r"\bfor (?:your|my|our) eyes only\b",
        rf"\b(?:the|this|that|these|my|your) notes? (?:above |here )?(?:{_SAYS}|points? out|suggests?|suggested)\b",
        r"\b(?:according to|as per|per|based on|as (?:stated|said|noted|written|mentioned) in) "
        r"(?:the|this|that|these|my|your) (?:notes?|review)\b(?!')",
        rf"\b(?:the|this|that|your|a) {_ADVISER} (?:above |here )?(?:has |have |correctly |rightly )?{_ADVISES}\b",
        r"\b(?:according to|as per|per|following|based on|using|use|apply|considering|given|thanks to|in light of|from|"
        r"by|address|addressing) (?:the|this|that|your|a) (?:given |provided )?(?:hint|reviewer|critic|feedback|"
        r"critique)s?\b(?! loop)",
        r"\bas (?:the )?(?:hint|hinted|you (?:pointed out|noted|said|suggested|mentioned|indicated))\b",
        r"\b(?:thanks|thank you) for (?:pointing|the (?:hint|feedback|correction|clarification|review))",
        r"\byou(?:'re| are) (?:absolutely |quite )?right\b",
    )
)

_SPECIAL = re.compile(r"<[|｜][^|｜<>]{1,40}[|｜]>|</?s>|\[/?INST\]")
_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO"})
_DENSE = frozenset({"EAST ASIAN", "HANGUL"})
_LETTERS_OF_A_WORD = 5
_DENSE_LETTERS_OF_A_WORD = 2
_SHORTEST_LATIN = 3  # names of variables and most operators are shorter, in every language
_FOREIGN_SHARE = 1 / 3
_HOME_SHARE = 1 / 4
_WORD = re.compile(r"\\[A-Za-z]+|[^\W\d_]+")


def leak_in(text: str) -> str | None:
    """The wording that betrays somebody who saw the answer or gave advice, shortened; None where there is none."""
    plain = _plain(text).lower().replace("’", "'")
    line = " ".join(re.sub(r"[*_`~\"“”\u2010-\u2015-](?!\d)", " ", plain).split())
    for pattern in _LEAKS:
        if found := pattern.search(line):
            return found.group()[:_LONGEST_QUOTE]
    return None


def has_special_token(text: str) -> bool:
    """Whether a meta-action is spelled, or another special token in one of the usual forms (``<|...|>``, ``</s>``,
    ``[INST]``): in training it would be read as the token itself."""
    return bool(_SPECIAL.search(text))


def wrong_language(text: str, question: str) -> bool:
    """Whether a third or more of a text's words are in scripts that the question is not written in.

    Greek letters, maths alphabets and LaTeX commands are nobody's language, and a question without words has none.
    """
    asked, written = _scripts(question), _scripts(text)
    if not asked or not written:
        return False
    home = {script for script, words in asked.items() if words >= _HOME_SHARE * asked.total()}
    foreign = sum(words for script, words in written.items() if script not in home)
    return foreign > _FOREIGN_SHARE * written.total()


def _plain(text: str) -> str:
    """A text without accents and invisible characters, all widths and fonts of a letter made one.

    Combining marks go first: long runs of them take quadratic time to normalize.
    """
    kept = (c for c in text if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", "".join(kept))


def _scripts(text: str) -> Counter[str]:
    """Words by script, in hundredths of about a word: scripts without spaces are counted by letters too."""
    words: Counter[str] = Counter()
    for run in _WORD.findall(_plain(text)):
        if run.startswith("\\"):
            continue
        for script, group in groupby(run, _script):
            letters = sum(1 for _ in group)
            if script == "GREEK" or (script == "LATIN" and letters < _SHORTEST_LATIN):
                continue
            words[script] += 100 * letters // (_DENSE_LETTERS_OF_A_WORD if script in _DENSE else _LETTERS_OF_A_WORD)
    return words


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """The first word of a letter's Unicode name, which is its script."""
    name = unicodedata.name(letter, "UNNAMED").split(" ", 1)[0].split("-", 1)[0]
    return "EAST ASIAN" if name in _EAST_ASIAN else name
