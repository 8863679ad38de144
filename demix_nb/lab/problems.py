r"""Two endless, seeded streams of mathematics with worked solutions: word problems and drills.

They stand in for mathematical data where no download is at hand: `math_word` reads like GSM8K (arXiv 2110.14168:
everyday stories, a few steps of arithmetic, `#### 42`), `math_drill` like MATH (arXiv 2103.03874: LaTeX, `\boxed{…}`).
A story is a line of data (numbers, sentence, steps), an exercise a small function. A problem of the same kind and with
the same numbers as an earlier one is skipped, so that problems held out later are unseen. Answers are exact: integers,
or SymPy rationals and polynomials; most exercises are built backwards from their answer, since SymPy solves slowly.
"""

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import sympy
from sympy.abc import x

Problem = tuple[str, str, str]  # question, worked solution, answer
Kind = Callable[[np.random.Generator], Problem | None]  # None where the numbers drawn make no problem

NAMES = """Ada Ahmed Alice Amara Anton Bea Boris Carla Chen Clara Dana David Diego Elena Emil Fatima Felix Grace Hana
    Hugo Ines Ivan Jamal Jonas Julia Kofi Lena Liam Lucia Marco Maya Mei Mona Nadia Noah Nora Olga Omar Paula Priya Ravi
    Rosa Ruth Sam Sara Sofia Tariq Tom Uma Vera Victor Wei Yara Yusuf Zoe""".split()
THINGS = """apples beads books bottles bricks buttons cakes candles cards chairs coins cookies crayons cups eggs flowers
    lemons marbles muffins nails notebooks oranges pencils photos plates ribbons shells stamps stickers tiles
    toys""".split()
LARGEST = 20_000  # a step beyond this is no longer a word problem that one solves by hand

# A part of a story: numbers to draw, sentence, steps. `[a|b]` is a choice of words; a step without text prepares a
# number that the sentence tells; `{=}` is the step's own arithmetic, such as `3 * 4 = 12`.
PILES = (
    ("a=2:15 b=3:24", "{A} has {a} [boxes|bags|trays] of {b} {thing} each.", "n = a * b: {A} starts with {=} {thing}."),
    ("a=5:60 b=5:60", "{A} has {a} red and {b} blue {thing}.", "n = a + b: At first there are {=} {thing}."),
    ("a=9:80 m=2:5", "{B} has {a} {thing} and {A} has {m} times as many.", "n = a * m: {A} begins with {=} {thing}."),
)  # fmt: skip
EVENTS = (
    ("k=2:60", "{A} [buys|finds|makes|is given] {k} more.", "n = n + k: [Then|With these] there are {=} {thing}."),
    ("k=2:60", "{B} brings another {k} {thing}.", "n = n + k: With those of {B} that makes {=} {thing}."),
    ("k=2:90", "{A} [gives {k} of them to {B}|sells {k} of them|loses {k}].", "n = n - k: That leaves {=} {thing}."),
    ("m=2:5", "[By Friday|A week later] there are {m} times as many.", "n = n * m: The pile grows to {=} {thing}."),
    ("m=2:6", "{A} and some friends, {m} people in all, share them equally.", "n = n / m: {A} keeps {=} {thing}."),
    ("m=2:8", "{A} gives 1/{m} of the {thing} to {B}.", "p = n / m: {B} gets {=}.", "n = n - p: {A} still has {=}."),
    ("k=2:9 m=2:9", "{B} adds {k} packs of {m}.", "p = k * m: The packs hold {=}.", "n = n + p: Now there are {=}."),
)  # fmt: skip
ASK = ("", "How many {thing} does {A} have [now|in the end]?")
STORIES = (
    ("p=2:45 a=2:12 q=2:60 b=2:9 left=1:80", "{A} buys {a} {thing} at ${p} each and {b} [lamps|books|shirts] at "
     "${q} each and pays with ${bill}. How much change does {A} get?",
     "s = a * p", "t = b * q", "u = s + t", "bill = u + left",
     "s = a * p: The {thing} cost {=} dollars.", "t = b * q: The others cost {=} dollars.",
     "u = s + t: Together that is {=} dollars.", "n = bill - u: The change is {=} dollars."),
    ("u=4:95 s=2:9 v=4:95 t=2:9 left=10:400", "{A} [cycles|drives|sails] {s} hours at {u} [km|miles] per hour, "
     "then {t} hours at {v} per hour, on a way of {all} in all. How far is it still?",
     "p = s * u", "q = t * v", "r = p + q", "all = r + left",
     "p = s * u: The first part is {=}.", "q = t * v: The second part is {=}.",
     "r = p + q: So far {A} has covered {=}.", "n = all - r: There remain {=}."),
    ("a=1:9 b=1:9 c=1:9 one=3:60", "{A}, {B} and {C} divide {all} {thing} in the ratio {a}:{b}:{c}. How many does "
     "{C} get?", "p = a + b", "p = p + c", "all = p * one",
     "q = a + b: {A} and {B} have {=} parts.", "p = q + c: With {C} there are {=} parts.",
     "one = all / p: One part is {=} {thing}.", "n = one * c: {C} gets {=} {thing}."),
    ("r=6:40 h=20:40 m=2:15",
     "{A} earns ${r} an hour, and twice as much for hours beyond {h}. How many dollars are paid for {w} hours?",
     "w = h + m", "p = h * r: The first {h} hours bring {=} dollars.", "m = w - h: The overtime is {=} hours.",
     "d = 2 * r: An hour of overtime brings {=} dollars.", "q = m * d: So the overtime brings {=} dollars.",
     "n = p + q: In all {A} is paid {=} dollars."),
    ("p=2:60 r=1:19",
     "A [coat|bicycle|table] costs ${price}. [In a sale|With a coupon] {A} gets {cut} percent off. What does {A} pay?",
     "price = p * 20", "cut = r * 5", "q = price * cut: Multiply price and percentage: {=}.",
     "d = q / 100: The discount is {=} dollars.", "n = price - d: {A} pays {=} dollars."),
    ("a=40:99 b=40:99 c=40:99 m=50:95",
     "{A} scored {a}, {b} and {c} points in three [tests|games]. How many points in the fourth give a mean of {m}?",
     "p = 4 * m: A mean of {m} needs {=} points in all.", "q = a + b: The first two give {=}.",
     "s = q + c: The first three give {=}.", "n = p - s: The fourth must give {=} points."),
    ("b=2:30 m=2:6 k=2:20", "{A} is {m} times as old as {B}, who is {b}. How old will the two be together in "
     "{k} years?", "a = b * m: {A} is {=} years old.", "c = a + b: Together they are {=}.",
     "d = 2 * k: In {k} years both have aged, which adds {=} years.", "n = c + d: Together they will be {=}."),
    ("w=3:40 d=2:30 c=2:25", "A [garden|field|yard] is {w} m wide and {d} m longer than that. A fence costs ${c} "
     "per metre. What does a fence around it cost?",
     "s = w + d: The length is {=} m.", "h = w + s: Half of the way around is {=} m.",
     "p = 2 * h: The fence is {=} m long.", "n = p * c: It costs {=} dollars."),
    ("f=5:60 m=1:20 t=4:60 k=10:300", "A tank holds {k} litres. A tap adds {f} litres a minute while {m} litres a "
     "minute leak out. How many litres are in it after {t} minutes?",
     "d = f - m: Each minute {=} litres stay.", "p = d * t: In {t} minutes this makes {=} litres.",
     "n = p + k: With what was there, the tank holds {=} litres."),
    ("a=20:300 s=3:40 t=2:25 b=4:30",
     "{A} saves ${s} a week, already has ${a} and spends ${b} on a gift. How much does {A} have after {t} weeks?",
     "p = s * t: In {t} weeks {A} saves {=} dollars.", "q = a + p: With what was there it is {=} dollars.",
     "n = q - b: After the gift {=} dollars are left."),
    ("c=3:60 k=2:50",
     "On a farm there are {h} animals, hens and [goats|cows|sheep], with {legs} legs. How many of them are hens?",
     "h = c + k", "u = h * 2", "v = k * 2", "legs = u + v",
     "u = h * 2: If all were hens there would be {=} legs.", "e = legs - u: The extra legs are {=}.",
     "k = e / 2: So {=} animals have four legs.", "n = h - k: The hens are {=}."),
    ("p=2:60 r=2:12 t=2:9",
     "{A} lends {B} ${sum} at {r} percent simple interest a year. How much does {B} owe after {t} years?",
     "sum = p * 50", "q = sum * r: Multiply sum and rate: {=}.", "y = q / 100: The interest is {=} dollars a year.",
     "i = y * t: Over {t} years it is {=} dollars.", "n = sum + i: {B} owes {=} dollars."),
)  # fmt: skip


def math_word(rng: np.random.Generator) -> Iterator[str]:
    """Yield word problems with worked solutions, `Question: … Answer: … #### number`, without end."""
    stories = [lambda rng, story=story: _tell([story], rng) for story in STORIES]
    for question, solution, answer in _unseen([pile] * len(stories) + stories, rng):
        yield f"Question: {question}\nAnswer: {solution}\n#### {answer}"


def math_drill(rng: np.random.Generator) -> Iterator[str]:
    r"""Yield exercises in arithmetic, algebra and calculus, `Question: … Answer: … \boxed{answer}`, without end."""
    for question, solution, answer in _unseen(DRILLS, rng):
        yield f"Question: {question}\nAnswer: {solution} The answer is $\\boxed{{{answer}}}$."


def _unseen(kinds: Sequence[Kind], rng: np.random.Generator) -> Iterator[Problem]:
    """Yield problems of random kinds; a kind whose numbers are used up fades out while the others go on."""
    seen = set()
    while True:
        kind = _pick(rng, kinds)
        if (problem := kind(rng)) is None:
            continue
        key = (kind, *re.findall(r"\d+", problem[0]))
        if key not in seen:
            seen.add(key)
            yield problem


def pile(rng: np.random.Generator) -> Problem | None:
    """Tell of a pile that goes through two to four events, drawn one after the other."""
    events = [_pick(rng, EVENTS) for _ in range(int(rng.integers(2, 5)))]
    return _tell([_pick(rng, PILES), *events, ASK], rng)


def _tell(parts: Sequence[tuple[str, ...]], rng: np.random.Generator) -> Problem | None:
    """Draw the numbers of a story and work it out; None where a step is no positive whole number."""
    names = [NAMES[i] for i in rng.choice(len(NAMES), size=3, replace=False)]
    values = dict(zip("ABC", names, strict=True)) | {"thing": _pick(rng, THINGS)}
    story, solution = [], []
    for slots, sentence, *steps in parts:
        for name, low, high in re.findall(r"(\w+)=(\d+):(\d+)", slots):
            values[name] = int(rng.integers(int(low), int(high) + 1))
        before = dict(values)
        for step in steps:
            if not _work(step, values, solution, rng):
                return None
        story.append(_words(sentence, rng).format(**values | before))
    return " ".join(story), " ".join(solution), str(values["n"])


def _work(step: str, values: dict, solution: list[str], rng: np.random.Generator) -> bool:
    """Do one step such as `n = a * b: In all {=}.`, add its text to the solution; False where it has no good result."""
    equation, _, text = step.partition(": ")
    target, first, sign, second = re.fullmatch(r"(\w+) = (\w+) ([-+*/]) (\w+)", equation).groups()
    a, b = (int(name) if name.isdigit() else values[name] for name in (first, second))
    result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
    if not 0 < result < LARGEST or (sign == "/" and a % b):
        return False
    values[target] = result
    if text:
        solution.append(_words(text, rng).replace("{=}", f"{a} {sign} {b} = {result}").format(**values))
    return True


def _words(text: str, rng: np.random.Generator) -> str:
    """Choose one wording in every `[a|b]`."""
    return re.sub(r"\[([^]]*)\]", lambda match: _pick(rng, match[1].split("|")), text)


def _pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


def _tex(number: sympy.Rational) -> str:
    sign, size = "-" if number < 0 else "", abs(number)
    return f"{sign}{size}" if size.q == 1 else f"{sign}\\frac{{{size.p}}}{{{size.q}}}"


def _poly(coefficients: Sequence[int | sympy.Rational], name: str = "x") -> str:
    """Write a polynomial, highest power first, as in `3x^2 - x + 5`."""
    terms = []
    for power, c in zip(range(len(coefficients) - 1, -1, -1), map(sympy.Rational, coefficients), strict=True):
        size = "" if abs(c) == 1 and power else _tex(abs(c))
        if c:
            terms.append((" - " if c < 0 else " + ") + size + ("", name, f"{name}^{power}")[min(power, 2)])
    return re.sub(r"^ (.) ", lambda sign: sign[1].strip("+"), "".join(terms)) or "0"


def _signed(rng: np.random.Generator, n: int, size: int) -> list[int]:
    """Draw `n` whole numbers other than zero from -size to size."""
    return [int(value) for value in rng.integers(1, size + 1, size=n) * rng.choice([-1, 1], size=n)]


def fractions(rng: np.random.Generator) -> Problem:
    a, b = (sympy.Rational(p, int(rng.integers(2, 25))) for p in _signed(rng, 2, 40))
    q = sympy.ilcm(a.q, b.q)
    common = f"With the common denominator ${q}$ they are ${a * q}/{q}$ and ${b * q}/{q}$."
    flip = f"Dividing by ${_tex(b)}$ is multiplying by its reciprocal ${_tex(1 / b)}$."
    sums = (("+", common, a + b), ("-", common, a - b))
    products = (("\\cdot", "Multiply tops and bottoms.", a * b), ("\\div", flip, a / b))
    sign, step, result = _pick(rng, sums + products)
    text = f"{_tex(a)} {sign} " + (_tex(b) if b > 0 else f"\\left({_tex(b)}\\right)")
    return f"Compute ${text}$.", f"{step} So ${text} = {_tex(result)}$.", _tex(result)


def linear(rng: np.random.Generator) -> Problem | None:
    a, b, c, d = _signed(rng, 4, 30)
    if a == c:
        return None
    root = _tex(sympy.Rational(d - b, a - c))
    step = f"Subtract ${_poly([c, 0])}$ and ${b}$ from both sides: ${_poly([a - c, 0])} = {d - b}$."
    return f"Solve ${_poly([a, b])} = {_poly([c, d])}$ for $x$.", f"{step} Divide by ${a - c}$: $x = {root}$.", root


def quadratic(rng: np.random.Generator) -> Problem:
    (r, s), a = sorted(_signed(rng, 2, 25)), int(rng.integers(1, 8))
    text, front = _poly([a, -a * (r + s), a * r * s]), "" if a == 1 else str(a)
    factors = f"{front}({_poly([1, -r])})" + ("^2" if r == s else f"({_poly([1, -s])})")
    step = f"The roots have sum ${r + s}$ and product ${r * s}$, so ${text} = {factors}$."
    if rng.integers(2):
        return f"Factor ${text}$ completely.", step, factors
    roots = str(r) if r == s else f"{r}, {s}"
    return f"Find all roots of ${text} = 0$.", f"{step} A product is zero where a factor is: $x = {roots}$.", roots


def system(rng: np.random.Generator) -> Problem | None:
    a, b, c, d, u, v = _signed(rng, 6, 12)
    if (det := a * d - b * c) == 0:
        return None
    e, f = a * u + b * v, c * u + d * v
    rows = ((a, b, e), (c, d, f))
    one, two = (f"{_poly([p, 0])}{_poly([1, q, 0], 'y').removeprefix('y^2')} = {r}" for p, q, r in rows)
    step = f"Multiply the first by ${d}$, the second by ${b}$ and subtract: ${_poly([det, 0])} = {e * d - f * b}$."
    back = f"So $x = {u}$, and ${_poly([b, 0], 'y')} = {e} - ({a * u}) = {e - a * u}$ gives $y = {v}$."
    return f"Solve the system ${one}$ and ${two}$.", f"{step} {back}", f"({u}, {v})"


def slope(rng: np.random.Generator) -> Problem:
    f, at = sympy.Poly(_signed(rng, int(rng.integers(3, 5)), 15), x), int(rng.integers(1, 8))
    first, value = _poly(f.diff().all_coeffs()), _tex(f.diff().eval(at))
    question = f"Let $f(x) = {_poly(f.all_coeffs())}$. Find $f'({at})$."
    return question, f"Term by term $f'(x) = {first}$. At ${at}$ this is ${value}$.", value


def area(rng: np.random.Generator) -> Problem:
    f, at = sympy.Poly(_signed(rng, int(rng.integers(2, 4)), 15), x), int(rng.integers(1, 8))
    whole, value = _poly(f.integrate().all_coeffs()), _tex(f.integrate().eval(at))
    question = f"Compute $\\int_0^{at} ({_poly(f.all_coeffs())})\\,dx$."
    return question, f"An antiderivative is ${whole}$. It is $0$ at $0$ and ${value}$ at ${at}$.", value


def divisor(rng: np.random.Generator) -> Problem:
    """Ask for the greatest common divisor or least common multiple, worked out by Euclid's algorithm."""
    unit, p, q = (int(rng.integers(2, high)) for high in (60, 50, 50))
    a, b, steps = unit * max(p, q), unit * min(p, q), []
    u, v = a, b
    while v:
        steps.append(f"${u} = {u // v} \\cdot {v} + {u % v}$.")
        u, v = v, u % v
    if rng.integers(2):
        return f"What is the greatest common divisor of ${a}$ and ${b}$?", " ".join(steps), str(u)
    lcm = str(sympy.ilcm(a, b))
    steps.append(f"The greatest common divisor is ${u}$, and ${a} \\cdot {b} / {u} = {lcm}$.")
    return f"What is the least common multiple of ${a}$ and ${b}$?", " ".join(steps), lcm


def power(rng: np.random.Generator) -> Problem:
    """Ask for the remainder of a power, worked out by repeated squaring."""
    base, top, modulus = (int(rng.integers(*ends)) for ends in ((2, 60), (5, 64), (5, 100)))
    halves = [top >> shift for shift in range(top.bit_length() - 1, -1, -1)]  # 1, …, top // 2, top
    steps = ", ".join(f"${base}^{{{half}}} \\equiv {pow(base, half, modulus)}$" for half in halves)
    question = f"Find the remainder when ${base}^{{{top}}}$ is divided by ${modulus}$."
    return question, f"Square again and again: {steps}.", str(pow(base, top, modulus))


def primes(rng: np.random.Generator) -> Problem:
    n = int(rng.integers(60, 20_000))
    found, count = sympy.factorint(n), str(sympy.divisor_count(n))
    text = " \\cdot ".join(f"{p}^{{{e}}}" if e > 1 else str(p) for p, e in found.items())
    if rng.integers(2):
        return f"Write ${n}$ as a product of primes.", f"Dividing out primes gives ${n} = {text}$.", text
    choices = " \\cdot ".join(f"({e} + 1)" for e in found.values())
    step = f"As primes, ${n} = {text}$. Each exponent can be chosen freely: ${choices} = {count}$."
    return f"How many positive divisors does ${n}$ have?", step, count


def series(rng: np.random.Generator) -> Problem:
    a, d, n = (int(rng.integers(*ends)) for ends in ((1, 60), (2, 25), (5, 60)))
    last = a + (n - 1) * d
    total, last_term = n * (a + last) // 2, f"The last term is ${a} + {n - 1} \\cdot {d} = {last}$."
    question = f"Find the sum of the first ${n}$ terms of ${a}, {a + d}, {a + 2 * d}, \\dots$"
    return question, f"{last_term} The sum is ${n} \\cdot ({a} + {last}) / 2 = {total}$.", str(total)


def compose(rng: np.random.Generator) -> Problem:
    (a, b, c, d, e), at = _signed(rng, 5, 12), int(rng.integers(-9, 10))
    inner = d * at + e
    outer = a * inner**2 + b * inner + c
    question = f"Let $f(x) = {_poly([a, b, c])}$ and $g(x) = {_poly([d, e])}$. Find $f(g({at}))$."
    return question, f"First $g({at}) = {inner}$. Then $f({inner}) = {outer}$.", str(outer)


DRILLS = (fractions, linear, quadratic, system, slope, area, divisor, power, primes, series, compose)
