"""Turn a config dataclass into a command line with help, and record it as provenance."""

import dataclasses
import sys
import traceback
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from steerlab._checks import InputError
from steerlab._progress import with_options

C = TypeVar("C")
REGISTRY = ConstructorRegistry()


def run(main: Callable[[C], Any], config_class: type[C], argv: Sequence[str] | None = None) -> Any:
    """What `main` returns for the config that the command line gives.

    Each field becomes an option of the same name (underscores as dashes), a tuple without a default the positional words; its
    default and the comment behind it, or the docstring below it, become the help. Errors about the user's input end the program
    with one line and exit code 2; any other error is a bug and keeps its traceback. ``--debug`` shows the traceback always.
    """
    config, debug = _parsed(config_class, argv)
    main = with_options([field.name for field in _fields(config_class)], main)
    try:
        return main(config)
    except InputError as error:
        if debug:
            traceback.print_exc()
        print("error:", *str(error).split(), file=sys.stderr)  # one line, however many the message has
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        print("interrupted; nothing half-written was kept", file=sys.stderr)
        raise SystemExit(130) from None


def parse(config_class: type[C], argv: Sequence[str] | None = None) -> C:
    """A config dataclass from command-line words."""
    return _parsed(config_class, argv)[0]


def _parsed(config_class: type[C], argv: Sequence[str] | None) -> tuple[C, bool]:
    def options(config: Any, debug: bool = False) -> tuple[Any, bool]:
        """Options.

        Args:
            config: what to do.
            debug: show where an error comes from, also if it is about the input
        """
        return config, debug

    options.__annotations__["config"] = typing.Annotated[config_class, tyro.conf.arg(name="")]
    return tyro.cli(
        options,
        args=_joined(config_class, sys.argv[1:] if argv is None else argv),
        description=sys.modules[config_class.__module__].__doc__ or config_class.__doc__,
        config=(tyro.conf.DisallowNone,),  # an option that may be None is left out for None
        registry=REGISTRY,
    )


def _joined(config_class: type, words: Sequence[str]) -> list[str]:
    """``--out -a`` as ``--out=-a``: a value that begins with a minus sign and is no number would be taken for an option."""
    takes = {f"--{field.name.replace('_', '-')}" for field in _fields(config_class) if not isinstance(field.default, bool)}
    found: list[str] = []
    for word in words:
        if found and found[-1] in takes and "--" not in found and word.startswith("-") and not word.startswith("--") and word != "-h":
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


@REGISTRY.primitive_rule
def _numbers_and_lists(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Numbers, also with the typographic minus sign of a page, and tuples: words between commas, or the positional words themselves."""
    kind, elements = info.type, typing.get_args(info.type)
    if kind in (int, float):
        name = kind.__name__.upper()
        return PrimitiveConstructorSpec(
            1, name, lambda words: _read(kind, words[0]), lambda value: isinstance(value, kind), lambda x: [str(x)]
        )
    if typing.get_origin(kind) is not tuple:
        return None

    def several(words: list[str]) -> tuple[Any, ...]:
        if not words:
            raise ValueError("give at least one")
        return tuple(_read(elements[0], word) for word in words)

    def between_commas(words: list[str]) -> tuple[Any, ...]:
        return tuple(_read(elements[0], word) for word in words[0].split(",") if word.strip())

    positional = tyro.conf.Positional in info.markers
    return PrimitiveConstructorSpec(
        "*" if positional else 1,
        f"{elements[0].__name__.upper()} …" if positional else "X,Y,…",
        several if positional else between_commas,
        lambda value: isinstance(value, tuple),
        lambda value: [",".join(map(str, value))],
    )


def _read(kind: Any, word: str) -> Any:
    return kind(word.replace("\N{MINUS SIGN}", "-")) if kind in (int, float) else kind(word)


def _fields(config_class: type) -> "tuple[dataclasses.Field[Any], ...]":
    return dataclasses.fields(typing.cast(Any, config_class))
