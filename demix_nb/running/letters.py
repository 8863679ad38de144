"""What the command line prints where the output has no Greek: ρ becomes rho, ≥ becomes >=, the rest its code.

Python asks an error handler for what to write in place of a letter that an encoding lacks, so one handler serves every
print and every library. Where all can be written (UTF-8) it is never asked, and where a letter can (± in Latin 1) it
stays.
"""

import codecs
import io
import sys
import unicodedata
from contextlib import suppress

SIGNS = {
    **{"→": "->", "←": "<-", "↔": "<->", "⇒": "=>", "≥": ">=", "≤": "<=", "≠": "!=", "≪": "<<", "≫": ">>", "≈": "~"},
    **{"·": "*", "×": "x", "±": "+-", "−": "-", "√": "sqrt ", "∂": "d", "∇": "grad ", "∝": "~", "∞": "inf", "‖": "||"},
    **{"–": "-", "—": "-", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "•": "*", "✓": "ok", "✗": "x"},
    **{"½": "1/2", "÷": "/", "⟨": "<", "⟩": ">"},
}
HANDLER = "demix_nb.spelt"


def spelt(letter: str) -> str:
    """Return a letter in ASCII: a sign, the name of a Greek letter, what an index or a power stands for, else \\u…."""
    if letter in SIGNS:
        return SIGNS[letter]
    match unicodedata.name(letter, "").split():
        case ["GREEK", "SMALL", "LETTER", name]:
            return name.lower()
        case ["GREEK", "CAPITAL", "LETTER", name]:
            return name.capitalize()
    plain = unicodedata.normalize("NFKD", letter)
    power = "^" if "<super>" in unicodedata.decomposition(letter) else ""
    if plain.isascii() or (len(plain) == 1 and plain != letter):
        return power + "".join(one if one.isascii() else spelt(one) for one in plain)
    return letter.encode("ascii", "backslashreplace").decode()  # and names stay apart


def _handle(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    with suppress(UnicodeError):  # where not even the command line could show them, paths are bytes in disguise
        letters = letters.encode("utf-8", "surrogateescape").decode("utf-8")
    return "".join(map(spelt, letters)), error.end


def use() -> None:
    """Have standard output and error spell what their encoding lacks."""
    codecs.register_error(HANDLER, _handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)
