"""Checks of what callers pass in: each returns its argument in the form that the code computes with, or raises `InputError`.

An `InputError` names the value, what was expected and what to do; scripts end with it in one line and exit code 2. Any other
exception is a bug and keeps its traceback.
"""

import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import wraps
from importlib import import_module
from inspect import Parameter, cleandoc, signature
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, cast, get_args, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:  # half of the time of a script's --help would be pandas
    import pandas as pd


T = TypeVar("T")


class Choices(Mapping[str, T], Generic[T]):
    """Named things to choose among, with a line about each: help texts, errors, documentation and tests take their lists from here.

    Args:
        entries: by name, the thing and a line about it; the thing may be given as ``module:name``, to be imported when it is first asked for.

    Example:
        >>> choices = Choices({"root": ("math:sqrt", "the square root"), "size": (abs, "the absolute value")})
        >>> choices["root"](9.0), choices.listed()
        (3.0, 'root or size')
        >>> print(choices)
        root  the square root
        size  the absolute value
    """

    def __init__(self, entries: Mapping[str, tuple[T | str, str]]) -> None:
        self._entries = dict(entries)
        self.about = {name: about for name, (_, about) in self._entries.items()}

    def __getitem__(self, name: str) -> T:
        found = self._entries[name][0]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            thing: T = getattr(import_module(module), attribute)
            return thing
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def listed(self) -> str:
        """The names as a sentence says them."""
        *rest, last = self._entries
        return f"{', '.join(rest)} or {last}" if rest else last

    def __repr__(self) -> str:
        width = max(map(len, self._entries))
        return "\n".join(f"{name:{width}}  {about}" for name, about in self.about.items())


class InputError(ValueError):
    """An input that cannot be used; the message names the value, what was expected and the fix.

    Example:
        >>> import steerlab as sl
        >>> try:
        ...     sl.load_task("arithmetic", variant="divisions")
        ... except sl.InputError as error:
        ...     print(str(error).split(";")[0])
        variant='divisions'
    """


class InputTypeError(InputError, TypeError):
    """An input of a kind that cannot be used, such as one text where a list of texts is wanted."""


class InputFileError(InputError, OSError):
    """A file or folder that cannot be read or written as asked."""


class InputMemoryError(InputError, MemoryError):
    """Work that does not fit into this machine's memory, however it is cut."""


class MissingFileError(InputFileError, FileNotFoundError):
    """A file or folder that is not there, or lacks what was expected in it."""


class ExistingFileError(InputFileError, FileExistsError):
    """A file or folder that is there already, and would be lost."""


Alternative = Literal["two-sided", "greater", "less"]

# Two numbers that differ by less than this share of the largest number around are the same number: sums and means
# of float64 carry rounding errors of that order, and no result may hang on them.
RELATIVE_NOISE = 1e-12


def check_alternative(alternative: str) -> None:
    """Refuse an alternative hypothesis that is not one of SciPy's three names."""
    if alternative not in get_args(Alternative):
        raise InputError(f"alternative={alternative!r}: use 'two-sided', 'greater' or 'less'")


def check_rng(rng: object) -> np.random.Generator:
    """Refuse a source of chance that is not a generator; a bare seed would be drawn from again at every call."""
    if not isinstance(rng, np.random.Generator):
        raise InputTypeError(f"rng={rng!r}; give a generator, e.g. numpy.random.default_rng(0)")
    return rng


def open_share(value: float, name: str) -> float:
    """A number strictly between 0 and 1: a confidence, a level, a power."""
    number = finite(value, name)
    if not 0 < number < 1:
        raise InputError(f"{name}={value}: use a number between 0 and 1, both excluded (0.95, not 95)")
    return number


def finite(value: float, name: str) -> float:
    """One finite number."""
    given: object = value
    try:
        if isinstance(given, str | bytes):
            raise InputTypeError("text")
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}={value!r}: not a number; give one finite number") from error
    if not math.isfinite(number):
        raise InputError(f"{name}={number}: not finite; drop or repair it before testing")
    return number


def is_whole(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    """Whether something is a whole number, of Python or NumPy, in a range; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, int | np.integer) and least <= int(value) <= most


def is_number(value: object, above: float = -math.inf) -> bool:
    """Whether something is a finite number, of Python or NumPy, above another; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, int | float | np.number) and math.isfinite(value) and float(value) > above


def one_of(value: object, name: str, known: Collection[str]) -> None:
    """Refuse a word that means nothing here; the message lists those that do.

    Raises:
        ValueError: another word.
    """
    if value not in known:
        raise InputError(f"{name}={value!r}; use one of {', '.join(known)}")


def count(value: int, name: str, *, at_least: int) -> int:
    """An integer that is large enough."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InputError(f"{name}={value!r}: not an integer; give a count") from error
    if isinstance(value, bool) or number < at_least:
        raise InputError(f"{name}={value}: use an integer of at least {at_least}")
    return number


def unmasked(values: ArrayLike, name: str) -> np.ndarray:
    """Values as an array; those under a mask would otherwise come back to life."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{name}: {np.ma.count_masked(values)} value(s) are masked; drop or repair them before testing")
    return np.asarray(values)


def reals(values: ArrayLike, name: str, *, at_least: int) -> NDArray[np.float64]:
    """Finite real numbers in one dimension, at least so many."""
    array = _one_dimension(unmasked(values, name), name)
    if array.size < at_least:
        raise InputError(f"{name}: {array.size} value(s) given; at least {at_least} needed")
    # Complex numbers, dates and text have no order or no mean; object arrays may still hold plain numbers.
    if array.dtype.kind not in "biufO":
        raise InputError(f"{name}: dtype {array.dtype}; give real numbers")
    # NumPy would read numbers out of text that pandas keeps as objects.
    text = next((value for value in array if isinstance(value, str | bytes)), None) if array.dtype.kind == "O" else None
    if text is not None:
        raise InputError(f"{name}: holds the text {text!r}; give finite real numbers, e.g. by pandas.to_numeric")
    try:
        numbers = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: holds something that is not a number ({error}); give finite real numbers") from error
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        raise InputError(f"{name}[{bad[0]}]={numbers[bad[0]]}: not finite; drop or repair it before testing")
    return numbers


def vectors(values: ArrayLike, name: str, *, at_least: int) -> NDArray[np.float64]:
    """Finite real numbers in two dimensions, one row a problem, at least so many rows."""
    array = unmasked(values, name)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{name}: shape {array.shape}; give one row per problem, in two dimensions")
    if len(array) < at_least:
        raise InputError(f"{name}: {len(array)} row(s) given; at least {at_least} needed")
    return reals(array.ravel(), name, at_least=1).reshape(array.shape)


def two_groups(positive: ArrayLike, negative: ArrayLike, *, paired: bool, at_least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two matrices over the same dimensions; as many rows where they are pairs."""
    ours, theirs = vectors(positive, "positive", at_least=at_least), vectors(negative, "negative", at_least=at_least)
    if ours.shape[1] != theirs.shape[1]:
        raise InputError(f"positive and negative have {ours.shape[1]} and {theirs.shape[1]} dimensions; give the same features of both")
    if paired and len(ours) != len(theirs):
        raise InputError(f"paired=True: positive and negative have {len(ours)} and {len(theirs)} rows; row i of both must be one problem")
    common_scale(ours, theirs)
    return ours, theirs


def common_scale(*values: ArrayLike) -> float:
    """Largest absolute value of all that one test compares: rounding errors are judged against it.

    Raises:
        ValueError: sizes so large or so small that variances would overflow or vanish.
    """
    scale = max(float(np.abs(part).max()) for part in values)
    if scale and not 1e-100 <= scale <= 1e100:
        raise InputError(f"values of size {scale:.3g} are beyond floating point when squared; rescale them")
    return scale


def outcomes(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    """Right or wrong for each problem: booleans, or integers 0 and 1; at least one."""
    array = _one_dimension(unmasked(values, name), name)
    if array.size < 1:
        raise InputError(f"{name}: 0 outcomes given; at least 1 needed")
    # pandas' nullable booleans arrive as objects, and so does a column with a missing value.
    if array.dtype.kind == "O":
        for position, value in enumerate(array):
            if not isinstance(value, bool | np.bool_ | int | np.integer):
                raise InputError(f"{name}[{position}]={value!r}: not an outcome; use True and False, or 1 and 0")
    elif array.dtype.kind not in "biu":
        raise InputError(f"{name}: dtype {array.dtype}; outcomes are booleans, or integers 0 and 1")
    bad = np.flatnonzero((array != 0) & (array != 1))
    if bad.size:
        raise InputError(f"{name}[{bad[0]}]={array[bad[0]]}: not an outcome; use True and False, or 1 and 0")
    return array.astype(np.bool_)


def check_pairs(before: ArrayLike, after: ArrayLike) -> None:
    """Refuse two samples that cannot be, or are visibly not, the same problems in the same order.

    Two Series pair by position, like arrays. Labels are evidence about the order all the same: equal labels agree
    with it, and labels with nothing in common (row numbers of two slices of one frame) say nothing. Anything
    between means that some problem would be paired with another one.
    """
    import pandas as pd

    n_before, n_after = np.asarray(before).shape[:1], np.asarray(after).shape[:1]
    if n_before != n_after:
        lengths = " and ".join(str(shape[0]) if shape else "a single value" for shape in (n_before, n_after))
        raise InputError(f"before and after have lengths {lengths}; give one value of each per problem")
    if not (isinstance(before, pd.Series) and isinstance(after, pd.Series)) or before.index.equals(after.index):
        return
    if len(before.index.intersection(after.index)):
        raise InputError("before and after are indexed in different orders; use after.reindex(before.index)")


def group_numbers(groups: "ArrayLike | None", n: int) -> "NDArray[np.intp]":
    """Each of n problems' group as a number from 0, in the order in which groups first appear; without labels each problem is its own.

    Raises:
        ValueError: labels of another length or missing, or fewer than 2 groups.
    """
    import pandas as pd

    if groups is None:
        return np.arange(n)
    labels = np.asarray(groups, dtype=object).ravel()
    if len(labels) != n:
        raise InputError(f"groups: {len(labels)} labels for {n} problems; give one a problem")
    numbers, found = pd.factorize(labels)
    if (numbers < 0).any():
        raise InputError(f"groups[{numbers.argmin()}] is missing; give every problem a label")
    if len(found) < 2:
        raise InputError(f"groups: all {n} problems are in group {labels[0]!r}; at least 2 groups needed")
    return np.asarray(numbers, dtype=np.intp)


def probabilities(pvalues: ArrayLike, name: str) -> NDArray[np.float64]:
    """P-values in any shape (a heatmap's cells too), at least one, each from 0 to 1."""
    array = unmasked(pvalues, name)
    numbers = reals(array.ravel(), name, at_least=1)
    bad = numbers[(numbers < 0) | (numbers > 1)]
    if bad.size:
        raise InputError(f"{name} holds {bad[0]}; p-values lie from 0 to 1")
    return numbers.reshape(array.shape)


def _one_dimension(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim != 1:
        raise InputError(f"{name}: shape {array.shape}; give one value per problem, in one dimension")
    return array


def problem_table(values: "ArrayLike | pd.DataFrame", name: str, *, columns: str, at_least: int) -> "tuple[NDArray[np.float64], pd.Index]":
    """Finite real numbers with one row per problem, and the labels of the columns.

    Args:
        values: an array, or a frame whose columns keep their labels.
        name: of the argument, for messages.
        columns: what one column is, in the singular.
        at_least: how many problems are needed.
    """
    import pandas as pd

    array = values.to_numpy() if isinstance(values, pd.DataFrame) else unmasked(values, name)
    if array.ndim != 2 or array.shape[1] < 1:
        raise InputError(f"{name}: shape {array.shape}; give one row per problem and one column per {columns}")
    if array.shape[0] < at_least:
        raise InputError(f"{name}: {array.shape[0]} problem(s) given; at least {at_least} needed")
    labels = values.columns if isinstance(values, pd.DataFrame) else pd.RangeIndex(array.shape[1], name=columns)
    if not labels.is_unique:
        raise InputError(f"{name}: two columns are called {labels[labels.duplicated()][0]!r}; give each {columns} its own label")
    numbers = [reals(array[:, j], f"{name}[:, {j}]", at_least=1) for j in range(array.shape[1])]
    return np.stack(numbers, axis=1), labels


def are_outcomes(*values: "ArrayLike | pd.DataFrame") -> bool:
    """Whether all values say right or wrong: booleans, or integers that are all 0 or 1."""
    try:
        for part in values:
            outcomes(np.asarray(part).ravel(), "values")
    except ValueError:
        return False
    return True


P = ParamSpec("P")
R = TypeVar("R")
Options = TypeVar("Options")


@dataclass(frozen=True)
class Option:
    """What the field of a set of options means: ``memory: Annotated[str | None, Option(None, "what a pass may take")]``.

    Attributes:
        default: what holds where it is not given.
        text: one line for help texts.
    """

    default: Any
    text: str


def options_of(kind: type) -> dict[str, tuple[Any, Option]]:
    """The fields of a set of options (a `typing.TypedDict`): name, type, and what it means."""
    return {name: get_args(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}


def only(options: Mapping[str, Any], kind: type[Options]) -> Options:
    """Those of some options that belong to a smaller set."""
    return cast("Options", {name: options[name] for name in get_type_hints(kind) if name in options})


def build(kind: type[Options], options: Mapping[str, Any], **more: Any) -> Options:
    """A dataclass from those of some options that are fields of it."""
    return kind(**{name: options[name] for name in signature(kind).parameters if name in options}, **more)


def takes_options(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator for ``function(…, **options: Unpack[SetOfOptions])``.

    The function gets all of the set's options, those not given with their defaults; its signature and docstring list them; and a name that is neither
    a parameter nor an option is an error that says which one is nearest.

    Example:
        >>> from typing import Annotated, TypedDict, Unpack
        >>> class Limits(TypedDict, total=False):
        ...     memory: Annotated[str | None, Option(None, "what a pass may take")]
        >>> @takes_options
        ... def run(model: str, **options: Unpack[Limits]) -> object:
        ...     return options["memory"]
        >>> run("toy"), run("toy", memory="2GB"), str(signature(run))
        (None, '2GB', '(model: str, *, memory: str | None = None) -> object')
    """
    own = signature(function)
    *named, last = own.parameters.values()
    known = options_of(get_args(last.annotation)[0])
    defaults = {name: option.default for name, (_, option) in known.items()}
    names = [parameter.name for parameter in named] + list(known)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                said = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names)}"
                raise InputTypeError(f"{function.__name__} has no option {name!r}; {said}")
        return function(*args, **{**defaults, **kwargs})

    more = [Parameter(name, Parameter.KEYWORD_ONLY, default=one.default, annotation=hint) for name, (hint, one) in known.items()]
    call.__signature__ = own.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
    before, args, after = cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    if args:
        listed, blank, rest = after.partition("\n\n")
        lines = "".join(f"\n    {name}: {one.text}." for name, (_, one) in known.items() if f"    {name}: " not in listed)
        call.__doc__ = before + args + listed + lines + blank + rest
    return call
