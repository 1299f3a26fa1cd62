"""Turn a config dataclass into a command line with help, and record it as provenance."""

import argparse
import ast
import dataclasses
import inspect
import io
import sys
import textwrap
import tokenize
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from steerlab._checks import InputError
from steerlab._progress import with_options

C = TypeVar("C")


def run(main: Callable[[C], Any], config_class: type[C], argv: Sequence[str] | None = None) -> Any:
    """Parse the command line into `config_class`, call `main` with it, and return what it returns.

    Each field becomes an option of the same name (underscores as dashes), a tuple without a default the positional words; its
    default and the comment behind it in the source become the help. Errors about the user's input end the program with one line and exit code 2;
    any other error is a bug and keeps its traceback. ``--debug`` shows the traceback always.
    """
    config, debug = _parsed(config_class, argv)
    main = with_options([field.name for field in dataclasses.fields(typing.cast(Any, config_class))], main)
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
    """Build a config dataclass from command-line words."""
    return _parsed(config_class, argv)[0]


def parser_of(config_class: type) -> argparse.ArgumentParser:
    """The parser of a script's options: one a field, and ``--debug``."""
    doc = inspect.getdoc(sys.modules[config_class.__module__]) or inspect.getdoc(config_class)
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    helps = _comments(config_class)
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(typing.cast(Any, config_class)):
        _add_option(parser, field, hints[field.name], helps.get(field.name, "").replace("%", "%%"))
    parser.add_argument(
        "--debug", action="store_true", help="show where an error comes from, also if it is about the input (default: False)"
    )
    return parser


def _parsed(config_class: type[C], argv: Sequence[str] | None) -> tuple[C, bool]:
    parser = parser_of(config_class)
    words = vars(parser.parse_args(_joined(config_class, sys.argv[1:] if argv is None else argv)))
    debug = words.pop("debug")
    return config_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in words.items()}), debug


def _joined(config_class: type, words: Sequence[str]) -> list[str]:
    """``--alphas -1,0`` as ``--alphas=-1,0``: argparse takes a value that begins with a minus sign for another option."""
    fields = dataclasses.fields(typing.cast(Any, config_class))
    takes = [_option(field) for field in fields if field.default is not dataclasses.MISSING and not isinstance(field.default, bool)]
    found: list[str] = []
    for word in words:
        before = found[-1] if found and "--" not in found else ""
        asks = before.startswith("--") and "=" not in before and any(name.startswith(before) for name in takes)
        if asks and word.startswith("-") and not word.startswith("--") and word != "-h":
            found[-1] = f"{before}={word}"
        else:
            found.append(word)
    return found


def _comments(config_class: type) -> dict[str, str]:
    """The comment behind each field in the source, inherited fields included: one place for reader and user."""
    found: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(base):
            source = textwrap.dedent(inspect.getsource(base))
            comments = {
                token.start[0]: token.string.lstrip("# ")
                for token in tokenize.generate_tokens(io.StringIO(source).readline)
                if token.type == tokenize.COMMENT
            }
            for field in ast.parse(source).body[0].body:  # type: ignore[attr-defined]  # a class
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):  # perhaps over several lines
                    said = [comments[line] for line in range(field.lineno, (field.end_lineno or field.lineno) + 1) if line in comments]
                    found[field.target.id] = " ".join(said)
    return found


def _option(field: "dataclasses.Field[Any]") -> str:
    return "--" + field.name.replace("_", "-")


def _add_option(parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]", hint: Any, text: str) -> None:
    if field.default is dataclasses.MISSING:
        parser.add_argument(field.name, type=typing.get_args(hint)[0], nargs="+", metavar=field.name.upper(), help=text)
        return
    name = _option(field)
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
        parser.add_argument(
            name, type=_number(kind) if kind in (int, float) else kind, default=default, metavar=kind.__name__.upper(), help=shown
        )


def _number(kind: type) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        return kind(text.replace("\N{MINUS SIGN}", "-"))  # as it is copied from a page

    convert.__name__ = kind.__name__
    return convert


def _list_of(element: type) -> Callable[[str], tuple[Any, ...]]:
    read = _number(element) if element in (int, float) else element

    def convert(text: str) -> tuple[Any, ...]:
        return tuple(read(part) for part in text.split(",") if part.strip())

    convert.__name__ = f"comma-separated list of {element.__name__}"
    return convert


def _shown(value: object) -> str:
    return ",".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
