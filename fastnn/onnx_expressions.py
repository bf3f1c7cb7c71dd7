"""Expressions in one variable, by which activations that an ONNX graph spells out are recognized.

An expression is a polynomial, multiplied out, in atoms: a sorted tuple of (monomial, coefficient), a monomial being a
sorted tuple of atoms. An atom is (name, attributes, argument): an operator, its numbers and the expression that it is
applied to. Thus 0.5 x (1 + erf(x / sqrt 2)) and x (0.5 + 0.5 erf(0.7071 x)) are one expression, in whatever order their
operators came.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from .kernels.activation import LEAKY_SLOPE, SELU_ALPHA, SELU_SCALE
from .kernels.codes import Activation

# So many factors may an expression have: gelu_tanh, the longest, has 7. A graph that multiplies out to more is refused.
MOST_FACTORS = 64
# How far the numbers of a formula may lie from the true ones, relative to these: writers round them to the dtype, or to
# ten digits. Attributes of operators are float32 in every file.
TOLERANCE = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-9}


# Numbers of formulas are of this size. Beyond it, and where terms cancel, what is right for real numbers need not be so
# for rounded ones: x + 2^23 - 2^23 is x rounded to a whole number.
LEAST_NUMBER, MOST_NUMBER = 1e-6, 1e6
MOST_CANCELLED = 16


def _size(expression):
    return sum(1 + _size(argument) for monomial, _ in expression for _, _, argument in monomial)


def _expression(terms):
    result = tuple(sorted((monomial, number) for monomial, number in terms.items() if number != 0))
    if len(result) > MOST_FACTORS or _size(result) > MOST_FACTORS:
        raise ValueError(f"expected a formula of at most {MOST_FACTORS} factors")
    return result


def _add_term(terms, monomial, number):
    before = terms.get(monomial, 0.0)
    terms[monomial] = before + number
    if before and not abs(before + number) * MOST_CANCELLED > max(abs(before), abs(number)):
        raise ValueError("expected a formula whose terms do not cancel")


def is_usual(number):
    """Whether formulas have numbers of this size; the ends count, as rounded to float32 too."""
    return number == 0 or LEAST_NUMBER * (1 - 1e-6) <= abs(number) <= MOST_NUMBER * (1 + 1e-6)


def constant(number):
    if not is_usual(number):
        raise ValueError(f"expected 0 or a number of size {LEAST_NUMBER:g} to {MOST_NUMBER:g}, got {number:g}")
    return _expression({(): number})


def atom(name, argument, *attributes):
    """An operator on an expression."""
    return _expression({((name, attributes, argument),): 1.0})


# The variable: the result of a linear layer.
X = atom("x", ())


def add(left, right, factor=1.0):
    """left + factor right"""
    terms = dict(left)
    for monomial, number in right:
        _add_term(terms, monomial, factor * number)
    return _expression(terms)


def multiply(left, right):
    if len(left) * len(right) > MOST_FACTORS:
        raise ValueError(f"expected a formula of at most {MOST_FACTORS} factors")
    terms = {}
    for (first, number), (second, other) in itertools.product(left, right):
        monomial = tuple(sorted(first + second))
        _add_term(terms, monomial, number * other)
    return _expression(terms)


def scaled(expression, factor):
    return multiply(constant(factor), expression)


def divided(left, right):
    if right == ():
        raise ValueError("expected a divisor other than 0")
    if len(right) == 1 and right[0][0] == ():
        return scaled(left, 1 / right[0][1])
    return multiply(left, atom("Reciprocal", right))


def power(expression, exponent):
    """For exponents 1, 2, 3, ..."""
    result = expression
    for _ in range(exponent - 1):
        result = multiply(result, expression)
    return result


def subtracted(left, right):
    """left - right; an expression less its own mean is an atom, as which normalizations have it."""
    if left != () and right == atom("ReduceMean", left):
        return atom("Centred", left)
    return add(left, right, -1.0)


def standard_score(expression):
    """(e, eps) of an expression (e - mean) / sqrt(variance + eps), both of the row; else (None, None).

    The variance is the mean of the squares of e - mean.
    """
    monomial, factor = expression[0] if len(expression) == 1 else ((), 0.0)
    atoms = {name: argument for name, _, argument in monomial}
    if factor == 1 and len(monomial) == 2 and atoms.keys() == {"Centred", "Reciprocal"}:
        variance = atom("ReduceMean", power(atom("Centred", atoms["Centred"]), 2))
        eps = dict(_argument(atoms["Reciprocal"])).get((), 0.0)
        if eps > 0 and atoms["Reciprocal"] == atom("Sqrt", add(variance, constant(eps))):
            return atoms["Centred"], eps
    return None, None


def _argument(expression):
    """What the operator that an expression is is applied to; () if it is not a single one."""
    return expression[0][0][0][2] if len(expression) == 1 and len(expression[0][0]) == 1 else ()


def clipped(expression, low, high):
    """min(max(expression, low), high); one of another is one of both together, if they overlap."""
    if len(expression) == 1 and expression[0][1] == 1 and len(expression[0][0]) == 1:
        [(name, attributes, argument)] = expression[0][0]
        if name == "Clip" and low <= attributes[1] and high >= attributes[0]:
            return atom("Clip", argument, max(low, attributes[0]), min(high, attributes[1]))
    return atom("Clip", expression, low, high)


def chosen(condition, left, right):
    """left where a condition, an expression that is 0 or 1, is 1, else right."""
    return add(right, multiply(condition, add(left, right, -1.0)))


def affine(expression):
    """(factor, summand) of an expression factor x + summand, or None."""
    terms = dict(expression)
    factor, summand = terms.pop(X[0][0], 0.0), terms.pop((), 0.0)
    return None if terms or factor == 0 else (factor, summand)


class Parts(NamedTuple):
    """factor f(inner factor x + inner summand) + summand: f's expression, and two pairs of numbers or None for 1, 0."""

    expression: tuple
    inside: tuple | None
    outside: tuple | None


def taken_apart(expression, dtype):
    """The `Parts` of an expression in one of fastnn's activations; None if it has no such parts."""
    if recognized(expression, dtype) is not None:
        return Parts(expression, None, None)
    numbers = affine(expression)
    if numbers is not None:
        # Inside: a linear layer takes them without a layer behind it.
        return Parts(X, numbers, None)
    for outside, rest in _without_numbers(expression):
        if recognized(rest, dtype) is not None:
            return Parts(rest, None, outside)
        inside, bare = _argument_apart(rest)
        if inside is not None and recognized(bare, dtype) is not None:
            return Parts(bare, inside, outside)
    return None


def _without_numbers(expression):
    """((factor, summand) or None, rest) for ways to have an expression as factor rest + summand."""
    yield None, expression
    terms = dict(expression)
    summand = terms.pop((), 0.0)
    rest = _expression(terms)
    # A single term is its factor and a function; more terms may have a factor in common with those of a known formula.
    firsts = {1.0} if len(rest) == 1 else {form[0][1] for forms in FORMS.values() for form in forms}
    for first in sorted(firsts) if rest else ():
        factor = rest[0][1] / first
        yield (factor, summand), tuple((monomial, number / factor) for monomial, number in rest)


def _argument_apart(expression):
    """((factor, summand), f(x)) of an expression f(factor x + summand), f being one operator; else (None, None)."""
    if len(expression) == 1 and len(expression[0][0]) == 1 and expression[0][1] == 1:
        [(name, numbers, argument)] = expression[0][0]
        inside = affine(argument)
        if inside is not None:
            return inside, atom(name, X, *numbers)
    return None, None


def text(expression):
    """An expression for a message."""
    terms = []
    for monomial, number in expression:
        factors = [] if number == 1 and monomial else [f"{number:.6g}"]
        for name, attributes, argument in monomial:
            inside = ", ".join([text(argument), *(f"{value:.6g}" for value in attributes)])
            factors.append(name if name == "x" else f"{name}({inside})")
        terms.append(" ".join(factors))
    return " + ".join(terms) or "0"


# ---- Recognizing


def _flat(expression):
    """(shape, coefficients, attributes): what expressions that differ in numbers alone share, and the numbers."""
    terms = sorted(_flat_term(*term) for term in expression)
    return tuple(shape for shape, _, _ in terms), _joined(terms, 1), _joined(terms, 2)


def _flat_term(monomial, number):
    factors = sorted(map(_flat_atom, monomial))
    return tuple(shape for shape, _, _ in factors), (number, *_joined(factors, 1)), _joined(factors, 2)


def _flat_atom(parts):
    name, attributes, argument = parts
    shape, coefficients, inner = _flat(argument)
    return (name, shape), coefficients, (*attributes, *inner)


def _joined(parts, index):
    return tuple(itertools.chain.from_iterable(part[index] for part in parts))


def _forms():
    """Every activation in the forms that are known, as one operator first where there is one."""
    one, half = constant(1.0), constant(0.5)
    logistic = [atom("Sigmoid", X), atom("Reciprocal", add(one, atom("Exp", scaled(X, -1.0))))]
    normal_cdf = add(half, scaled(atom("Erf", scaled(X, math.sqrt(0.5))), 0.5))
    exp = atom("Exp", X)
    log1p = atom("Log", add(one, exp))
    above = lambda number, other: chosen(atom("Greater", X, number), X, other)
    u = scaled(add(X, scaled(power(X, 3), 0.044715)), math.sqrt(2 / math.pi))
    hard = [
        atom("HardSigmoid", X, 1 / 6, 0.5),
        scaled(clipped(add(X, constant(3.0)), 0.0, 6.0), 1 / 6),
        clipped(add(scaled(X, 1 / 6), half), 0.0, 1.0),
    ]
    return {
        Activation.IDENTITY: [X],
        Activation.RELU: [clipped(X, 0.0, math.inf), above(0.0, ())],
        Activation.LEAKY_RELU: [atom("LeakyRelu", X, LEAKY_SLOPE), above(0.0, scaled(X, LEAKY_SLOPE))],
        Activation.ELU: [atom("Elu", X, 1.0), atom("Celu", X, 1.0), above(0.0, add(exp, one, -1.0))],
        Activation.SELU: [atom("Selu", X, SELU_ALPHA, SELU_SCALE)],
        Activation.SIGMOID: logistic,
        Activation.TANH: [atom("Tanh", X)],
        # The switch to x at 20 is PyTorch's; it takes away 2e-9.
        Activation.SOFTPLUS: [atom("Softplus", X), log1p, above(20.0, log1p), above(20.0, atom("Softplus", X))],
        Activation.GELU: [atom("Gelu", X), multiply(X, normal_cdf)],
        Activation.GELU_TANH: [
            atom("Gelu tanh", X),
            multiply(X, add(half, scaled(atom("Tanh", u), 0.5))),
            multiply(X, atom("Sigmoid", scaled(u, 2.0))),
        ],
        Activation.SILU: [multiply(X, form) for form in logistic] + [atom("Swish", X, 1.0)],
        Activation.HARDSIGMOID: hard,
        Activation.HARDSWISH: [multiply(X, form) for form in hard] + [atom("HardSwish", X)],
        Activation.SOFTMAX: [atom("Softmax", X)],
        Activation.LOG_SOFTMAX: [atom("LogSoftmax", X), atom("Log", atom("Softmax", X))],
    }


FORMS = _forms()
_KNOWN = [(_flat(form), activation) for activation, forms in FORMS.items() for form in forms]


def recognized(expression, dtype):
    """The `Activation` that an expression is, or None."""
    shape, coefficients, attributes = _flat(expression)
    for (known_shape, known_coefficients, known_attributes), activation in _KNOWN:
        if shape == known_shape and len(attributes) == len(known_attributes):
            near = np.allclose(coefficients, known_coefficients, rtol=TOLERANCE[dtype], atol=0)
            if near and np.allclose(attributes, known_attributes, rtol=1e-6, atol=0):
                return activation
    return None
