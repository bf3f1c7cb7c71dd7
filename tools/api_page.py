"""Print docs/api.md: every public name with its signature and what its docstring says first.

    python tools/api_page.py > docs/api.md

`tests/test_examples.py` compares the page with what this prints.
"""

import functools
import importlib
import inspect
import re

import fastnn

# Heading, module and names; no names are those of the module's __all__.
SECTIONS = (
    (
        "Models and layers",
        "fastnn",
        ("MLP", "Sequential", "Dense", "Standardize", "load", "Activation", "Normalization"),
    ),
    ("Training", "fastnn", ("Trainer", "History", "Loss")),
    ("Losses", "fastnn.losses", ()),
    ("Optimizers", "fastnn.optimizers", ()),
    ("Schedules", "fastnn.schedules", ()),
    ("Callbacks", "fastnn.callbacks", ()),
    ("Initial weights", "fastnn.initializers", ()),
    ("Activations of arrays", "fastnn.activations", ()),
    (
        "Networks in compiled code",
        "fastnn",
        ("apply", "apply_into", "vjp", "parameter_vjp", "jacobian", "gradient", "workspace"),
    ),
    ("Threads", "fastnn", ("get_num_threads", "set_num_threads")),
    ("Kernels", "fastnn.kernels", ()),
    ("Estimators", "fastnn.sklearn", ()),
    ("ONNX", "fastnn.onnx", ("load", "save")),
)
# Of these classes a user calls methods; of others, such as losses, fastnn does.
WITH_MEMBERS = {"Sequential", "Dense", "Standardize", "Trainer", "History", "MLPClassifier", "MLPRegressor"}
# A module whose names are those of the kernels.
REFERENCE = "reference"
BEGIN = """# All public names

What there is, with its arguments and the first sentence of its docstring. The whole docstring, with shapes, errors and
an example, is what `help(fastnn.MLP)` prints, or `?` in a notebook. `python tools/api_page.py > docs/api.md` writes
this page.
"""


def summary(thing):
    """The first sentence, or the first paragraph if that is one line, of a docstring."""
    # Not inspect.getdoc, which takes the docstring of the class for that of a property.
    paragraph = re.split(r"\n\s*\n", inspect.cleandoc(thing.__doc__ or ""))[0]
    line = " ".join(paragraph.split())
    return re.split(r"(?<!al)\. (?=[A-Z])", line)[0].replace("|", "\\|").rstrip(".:")


def arguments(function, bound):
    """The arguments of a call, without annotations."""
    parameters = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
    plain = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
    return str(inspect.Signature(plain)).replace("<factory>", "...")


def attribute_of(member):
    """What is called and documented: of functions, properties and the like of a class; None for other things."""
    if isinstance(member, (staticmethod, classmethod)):
        return member.__func__
    if isinstance(member, functools.cached_property):
        return member.func
    # partial_fit, which an estimator has for some of its solvers.
    member = getattr(member, "fn", member)
    return member if inspect.isfunction(member) or isinstance(member, property) else None


def members(kind):
    """(name, member) of the public methods and properties of a class and of those of fastnn's that it extends."""
    found = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("fastnn."):
            found |= {name: member for name, member in vars(base).items() if not name.startswith("_")}
    for name, member in sorted(found.items()):
        if attribute_of(member) is not None and summary(attribute_of(member)):
            yield name, attribute_of(member)


def rows_of(name, thing):
    """A row for a name, and one for each of its members."""
    if inspect.isclass(thing):
        yield f"`{name}{'' if hasattr(thing, '__members__') else arguments(thing, False)}`", summary(thing)
        for own, member in members(thing) if name in WITH_MEMBERS else ():
            call = "" if isinstance(member, property) else arguments(member, True)
            yield f"`.{own}{call}`", summary(member)
    elif callable(thing):
        yield f"`{name}{arguments(getattr(thing, 'py_func', thing), False)}`", summary(thing)


def page():
    """The lines of the page."""
    yield from BEGIN.splitlines()
    for heading, module_name, names in SECTIONS:
        module = importlib.import_module(module_name)
        yield from ("", f"## {heading}", "", f"In `{module_name}`.", "", "| name | what it is |", "|---|---|")
        for name in names or sorted(module.__all__, key=str.lower):
            elsewhere = module_name == "fastnn.kernels" and name in fastnn.__all__
            for call, text in () if elsewhere or name == REFERENCE else rows_of(name, getattr(module, name)):
                yield f"| {call} | {text} |"


if __name__ == "__main__":
    print("\n".join(page()))
