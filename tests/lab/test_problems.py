"""The answers of the generated problems against solvers that share no code with the generators."""

import math
import re
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
import sympy
from sympy.abc import x, y

from demix_nb.lab import problems


def stream(kind: str, seed: int, n: int) -> list[str]:
    return list(islice(getattr(problems, kind)(np.random.default_rng(seed)), n))


@pytest.mark.parametrize("kind", ["math_word", "math_drill"])
def test_a_seed_determines_the_stream_and_another_seed_changes_it(kind):
    assert stream(kind, 3, 200) == stream(kind, 3, 200)
    assert len(set(stream(kind, 3, 200)) & set(stream(kind, 4, 200))) < 10


@pytest.mark.parametrize("kind", ["math_word", "math_drill"])
def test_no_problem_comes_twice_even_under_other_names(kind):
    names = "|".join(problems.NAMES)
    questions = [re.sub(names, "N", text.split("\nAnswer: ")[0]) for text in stream(kind, 0, 4000)]
    assert len(set(questions)) == len(questions)


def test_every_equation_of_a_word_problem_holds_and_the_last_gives_the_answer():
    operations = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": lambda a, b: Fraction(a, b)}
    for text in stream("math_word", 1, 2000):
        question, solution = text.split("\nAnswer: ")
        equations = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", solution)
        for a, sign, b, result in equations:
            assert operations[sign](int(a), int(b)) == int(result), text
        assert re.fullmatch(r"Question: .*\?", question) and "{" not in text and "[" not in text
        assert solution.split("#### ")[1] == equations[-1][3], text


def test_word_problems_solved_from_the_question_alone():
    solved = 0
    for text in stream("math_word", 2, 3000):
        numbers = [int(number) for number in re.findall(r"\d+", text.split("\nAnswer: ")[0])]
        answer = int(text.split("#### ")[1])
        if "in the ratio" in text:
            total, a, b, c = numbers
            assert Fraction(total * c, a + b + c) == answer
        elif "times as old as" in text:
            times, age, years = numbers
            assert (times * age + years) + (age + years) == answer
        elif "How many of them are hens" in text:
            animals, legs = numbers
            assert 2 * answer + 4 * (animals - answer) == legs
        elif "simple interest" in text:
            money, rate, years = numbers
            assert money * (1 + Fraction(rate, 100) * years) == answer
        elif "give a mean of" in text:
            assert Fraction(sum(numbers[:3]) + answer, 4) == numbers[3]
        else:
            continue
        solved += 1
    assert solved > 300


def plain(tex: str) -> sympy.Expr:
    """Read the LaTeX of the drills as SymPy."""
    tex = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"(\1/\2)", tex)
    for old, new in ((r"\cdot", "*"), (r"\div", "/"), (r"\left", ""), (r"\right", ""), ("{", "("), ("}", ")")):
        tex = tex.replace(old, new)
    tex = re.sub(r"(?<=[\d)])\s*(?=[xy(])", "*", tex).replace("^", "**")
    return sympy.sympify(tex, rational=True)


def solve(question: str) -> object:
    """Answer a drill from its text."""
    maths = re.findall(r"\$([^$]*)\$", question)
    equations = [sympy.Eq(*map(plain, text.split("="))) for text in maths if re.fullmatch(r"[^(]*=[^(]*", text)]
    if "for $x$" in question:
        return sympy.solve(equations[0], x)[0]
    if "all roots" in question:
        return set(sympy.solve(equations[0], x))
    if "the system" in question:
        return sympy.solve(equations, (x, y))
    if "divisor of" in question or "multiple of" in question:
        return (math.gcd if "divisor of" in question else math.lcm)(*map(int, maths))
    if "remainder" in question:
        base, exponent = re.match(r"(\d+)\^\{(\d+)\}", maths[0]).groups()
        return int(base) ** int(exponent) % int(maths[1])
    if "positive divisors" in question:
        return sum(int(maths[0]) % k == 0 for k in range(1, int(maths[0]) + 1))
    if "terms of" in question:
        first, second = map(int, maths[1].split(",")[:2])
        return sum(range(first, first + (second - first) * int(maths[0]), second - first))
    if "f'(" in question:
        return sympy.diff(plain(maths[0].split("=")[1]), x).subs(x, int(maths[1][3:-1]))
    if "f(g(" in question:
        f, g = (plain(text.split("=")[1]) for text in maths[:2])
        return f.subs(x, g.subs(x, int(maths[2][4:-2])))
    if r"\int" in question:
        top, inside = re.match(r"\\int_0\^(\d+) \((.*)\)\\,dx", maths[0]).groups()
        return sympy.integrate(plain(inside), (x, 0, int(top)))
    return plain(maths[0])  # fractions, and what is to be factored


def test_drills_solved_by_sympy_from_the_question_alone():
    kinds = set()
    for text in stream("math_drill", 5, 400):
        question, answer = re.fullmatch(r"Question: (.*)\nAnswer: .*\\boxed\{(.*)\}\$\.", text).groups()
        expected = solve(question)
        if isinstance(expected, set):
            assert {plain(part) for part in answer.split(", ")} == expected, text
        elif isinstance(expected, dict):
            assert plain(answer) == (expected[x], expected[y]), text
        else:
            assert sympy.expand(plain(answer) - expected) == 0, text
        if "Factor" in question:
            assert not re.search(r"x\^2", answer) and sympy.factor(expected) == sympy.factor(plain(answer))
        if "primes" in question:
            assert all(sympy.isprime(int(part.split("^")[0])) for part in answer.split(r" \cdot "))
        kinds.add(re.sub(r"\$[^$]*\$", "", question))
    assert len(kinds) >= 12
