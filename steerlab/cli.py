"""A config dataclass is command line, help and provenance at once."""

import argparse
import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from steerlab._errors import InputError
from steerlab.progress import with_options

C = TypeVar("C")


def run(main: Callable[[C], Any], config_class: type[C], argv: Sequence[str] | None = None) -> Any:
    """Parse the command line into `config_class`, call `main` with it, and return what it returns.

    Each field becomes an option of the same name (underscores as dashes), a tuple without a default the positional words; its
    default and the comment behind it in the source become the help. Errors about the user's input end the program with one line and exit code 2, not with a traceback.
    """
    config = parse(config_class, argv)
    main = with_options([field.name for field in dataclasses.fields(typing.cast(Any, config_class))], main)
    try:
        return main(config)
    except InputError as error:
        print("error:", *str(error).split(), file=sys.stderr)  # one line, however many the message has
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was kept", file=sys.stderr)
        raise SystemExit(130) from None


def parse(config_class: type[C], argv: Sequence[str] | None = None) -> C:
    """Build a config dataclass from command-line words."""
    doc = inspect.getdoc(sys.modules[config_class.__module__]) or inspect.getdoc(config_class)
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    helps = _comments(config_class)
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(typing.cast(Any, config_class)):
        _add_option(parser, field, hints[field.name], helps.get(field.name, "").replace("%", "%%"))
    words = vars(parser.parse_args(argv))
    return config_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in words.items()})


def _comments(config_class: type) -> dict[str, str]:
    """The comment behind each field in the source, inherited fields included: one place for reader and user."""
    pattern = re.compile(r"^\s+(\w+):[^#\n]*#\s*(.+)$", re.MULTILINE)
    found: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(base):
            found |= dict(pattern.findall(inspect.getsource(base)))
    return found


def _add_option(parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]", hint: Any, text: str) -> None:
    if field.default is dataclasses.MISSING:
        parser.add_argument(field.name, type=typing.get_args(hint)[0], nargs="+", metavar=field.name.upper(), help=text)
        return
    name = "--" + field.name.replace("_", "-")
    default = field.default
    shown = f"{text} (default: {'none' if default is None else _shown(default)})"
    optional = typing.get_origin(hint) in (types.UnionType, typing.Union) and type(None) in typing.get_args(hint)
    kind = next(k for k in typing.get_args(hint) if k is not type(None)) if optional else hint
    if kind is bool:
        parser.add_argument(name, action=argparse.BooleanOptionalAction, default=default, help=shown)
    elif typing.get_origin(kind) is tuple:
        element = typing.get_args(kind)[0]
        parser.add_argument(name, type=_list_of(element), default=default, metavar="X,Y,…", help=shown)
    elif typing.get_origin(kind) is typing.Literal:
        parser.add_argument(name, choices=typing.get_args(kind), default=default, help=shown)
    else:
        parser.add_argument(name, type=kind, default=default, metavar=kind.__name__.upper(), help=shown)


def _list_of(element: type) -> Callable[[str], tuple[Any, ...]]:
    def convert(text: str) -> tuple[Any, ...]:
        return tuple(element(part) for part in text.split(",") if part.strip())

    convert.__name__ = f"comma-separated list of {element.__name__}"
    return convert


def _shown(value: object) -> str:
    return ",".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
