"""What users name on the command line instead of a registry's name: ``module:object``, a Python file, or ``file.py:object``.

Suites, shapers, algorithms and sources of tools are all found here, so that one reference means the same everywhere.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from steptool_env.errors import InvalidArgument, UnknownName

__all__ = ["FORMS", "absolute", "absolute_paths", "call", "find", "is_reference", "module_of", "reference_to", "short_name"]

FORMS = ("module:object", "path/to/file.py", "path/to/file.py:object")
"""What a reference looks like, for messages that list what exists."""

_FILE = re.compile(r"(?P<place>.+\.py)(?::(?P<name>\w+(?:\.\w+)*))?", re.DOTALL)
_MODULE = re.compile(r"(?P<place>\w+(?:\.\w+)*):(?P<name>\w+(?:\.\w+)*)")

_loaded: dict[str, tuple[tuple[int, int], ModuleType]] = {}
"""Path of a file -> when it was changed and how long it is, and the module made of it then."""


def is_reference(name: str) -> bool:
    """Return whether a name is meant as a reference, right or wrong, and not as the name of something registered.

    >>> is_reference("shop.py"), is_reference("package.module:Shop"), is_reference("worlds")
    (True, True, False)
    """
    return ":" in name or name.endswith(".py")


def absolute(name: str) -> str:
    """Return a reference to a file with its absolute path, so that it means the same in every folder; anything else as it is.

    >>> absolute("/shops/shop.py:Shop"), absolute("package.module:Shop"), absolute("worlds")
    ('/shops/shop.py:Shop', 'package.module:Shop', 'worlds')
    """
    if (match := _FILE.fullmatch(name)) is None:
        return name
    path = os.path.abspath(os.path.expanduser(match["place"]))
    return f"{path}:{match['name']}" if match["name"] else path


def absolute_paths(value: Any) -> Any:
    """Return an option's value in which what names a file that exists is absolute: references, and relative paths with a suffix or a folder.

    A plain word stays as it is, even if there is a file of this name; so does what names nothing that exists.
    """
    if isinstance(value, Mapping):
        return {name: absolute_paths(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(absolute_paths, value))
    if type(value) is not str or "\0" in value:
        return value
    if (match := _FILE.fullmatch(value)) is not None:
        return absolute(value) if os.path.isfile(os.path.expanduser(match["place"])) else value
    if (os.sep in value or Path(value).suffix) and os.path.exists(os.path.expanduser(value)):
        return os.path.abspath(os.path.expanduser(value))
    return value


def short_name(name: str) -> str:
    """Return a name that fits into that of a folder.

    >>> short_name("/shops/shop.py"), short_name("/shops/shop.py:Shop"), short_name("package.module:Shop"), short_name("worlds")
    ('shop', 'shop-Shop', 'package.module-Shop', 'worlds')
    """
    match = _FILE.fullmatch(name)
    return name.replace(":", "-") if match is None else "-".join([Path(match["place"]).stem, *filter(None, [match["name"]])])


def reference_to(value: Any) -> str:
    """Return a reference to a function or class, under which another process finds it.

    >>> from steptool_env.rewards import Final
    >>> reference_to(Final)
    'steptool_env.rewards.final:Final'

    Raises:
        InvalidArgument: It has no name of its own, such as a lambda or what a function made, or it was typed into a notebook.
    """
    name, module = getattr(value, "__qualname__", ""), sys.modules.get(getattr(value, "__module__", None) or "")
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if module is None or found is not value:
        raise InvalidArgument(f"{value!r:.200} cannot be found by name in another process; define it at the top of a file, as a function or a class")
    file = getattr(module, "__file__", None)
    if file is not None and not getattr(module, "__package__", None):
        return f"{os.path.abspath(file)}:{name}"  # a script, or a file beside it: other processes may have another folder
    if module.__name__ == "__main__":
        raise InvalidArgument(f"{name} was typed in here, where another process cannot find it; write it into a file and import it from there")
    return f"{module.__name__}:{name}"


def find(reference: str, kind: str, *, default: str = "make", fits: Callable[[type], bool] | None = None) -> Any:
    """Return the object that a reference names.

    A file is imported once, and again when it has changed. Its folder is added to the end of ``sys.path``, so that it can import the
    files beside it and other processes can unpickle its objects.

    Args:
        reference: See ``FORMS``.
        kind: What is looked for, for messages, such as ``"suite"``.
        default: The function that a file without a name is asked for.
        fits: Which public classes are taken from a file that has no such function; it must define exactly one. None: none.

    Raises:
        InvalidArgument: There is no such file, module or object, or several; or the user's own code fails, which names the line.
    """
    module, what = module_of(reference, kind), f"{kind} {reference!r}"
    match = _FILE.fullmatch(reference) or _MODULE.fullmatch(reference)
    if match is None or not match["name"]:
        return _only(module, what, default, fits)
    found: Any = module
    for part in match["name"].split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise InvalidArgument(f"{what} cannot be found: {match['place']} has no {part!r}{_offer(module, fits)}") from None
    return found


def module_of(reference: str, kind: str) -> ModuleType:
    """Return the module that a reference names, imported; arguments and errors as for ``find``."""
    what = f"{kind} {reference!r}"
    if match := _FILE.fullmatch(reference):
        return _from_file(match["place"], what)
    if match := _MODULE.fullmatch(reference):
        return _module(match["place"], what)
    raise InvalidArgument(f"{what} is no reference; expected {', '.join(FORMS[:-1])} or {FORMS[-1]}")


def call(factory: Any, what: str, options: Mapping[str, Any]) -> Any:
    """Call a factory with a user's options.

    Args:
        factory: A class or function.
        what: What it makes, for messages, such as ``"suite 'worlds'"``.
        options: Its keywords.

    Raises:
        UnknownName: It takes no option of this name; the message lists those that it takes.
        InvalidArgument: It is not callable, or an option that it needs is missing.
    """
    if not callable(factory):
        raise InvalidArgument(f"{what} must be a class or a function, got {factory!r:.200}")
    signature = inspect.signature(factory)
    takes = [name for name, parameter in signature.parameters.items() if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL)]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        for option in options:
            if option not in takes:
                raise UnknownName(f"option of {what}", option, takes)
    try:
        signature.bind(**options)
    except TypeError as fault:
        raise InvalidArgument(f"{what}: {fault}; it takes {signature}") from None
    for name, hint in _plain_hints(factory).items():
        if name in options and not _is_of(options[name], hint):
            wanted = " or ".join("null" if kind is type(None) else _WORDS[kind] for kind in hint)
            raise InvalidArgument(f"option {name!r} of {what} must be {wanted}, got {options[name]!r:.200}")
    return factory(**options)


_WORDS: dict[Any, str] = {int: "an integer", float: "a number", str: "text", bool: "true or false"}


def _plain_hints(factory: Any) -> dict[str, tuple[Any, ...]]:
    """Return the types that a factory's parameters may have, of those parameters alone that take nothing but numbers, texts, truth values and None."""
    try:
        hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except (AttributeError, NameError, TypeError):  # no hints, or such that only a type checker understands
        return {}
    kinds = {name: get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,) for name, hint in hints.items()}
    return {name: these for name, these in kinds.items() if all(kind in _WORDS or kind is type(None) for kind in these)}


def _is_of(value: Any, kinds: tuple[Any, ...]) -> bool:
    """Return whether a value is of one of these plain types; integers are numbers, and so are NumPy's."""
    if value is None or isinstance(value, (bool, str)):
        return type(value) in kinds or (isinstance(value, str) and str in kinds)
    number = Integral if int in kinds and float not in kinds else Real
    return (int in kinds or float in kinds) and isinstance(value, number)


# -------------------------------------------------------------------- importing
def _module(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as fault:
        if fault.name and (name == fault.name or name.startswith(f"{fault.name}.")):
            raise InvalidArgument(
                f"{what} cannot be imported: no module is called {fault.name!r}; install it, run the command in the folder that holds it, or give its file"
            ) from None
        raise _own_fault(what, fault, None) from fault
    except Exception as fault:
        raise _own_fault(what, fault, None) from fault


def _from_file(place: str, what: str) -> ModuleType:
    """Import a Python file that need not be on the path."""
    path = os.path.realpath(os.path.expanduser(place))
    try:
        about = os.stat(path)
    except OSError:
        about = None
    if about is None or not os.path.isfile(path):
        raise InvalidArgument(
            f"{what}: there is no file {os.path.abspath(os.path.expanduser(place))}; if it has moved, put it (or a link to it) back there, or give its new path"
        )
    stamp = (about.st_mtime_ns, about.st_size)
    if path in _loaded and _loaded[path][0] == stamp:
        return _loaded[path][1]
    if (folder := os.path.dirname(path)) not in sys.path:
        sys.path.append(folder)  # last, so that it hides no package
    name = _module_name(path)
    if path not in _loaded and name in sys.modules:  # the user has imported it already
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    try:
        spec.loader.exec_module(module)
    except BaseException as fault:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        if not isinstance(fault, (Exception, SystemExit)):
            raise
        raise _own_fault(what, fault, path) from fault
    _loaded[path] = stamp, module
    return module


def _module_name(path: str) -> str:
    """Return the name under which other processes can import the file; one of its own if that name belongs to another module."""
    stem = Path(path).stem
    known = sys.modules.get(stem)
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        spec = importlib.util.find_spec(stem) if stem.isidentifier() and known is None else None
    except (ImportError, ValueError):
        spec = None
    origin = getattr(known, "__file__", None) if known is not None else spec.origin if spec is not None else None
    if origin is not None and os.path.realpath(origin) == path:
        return stem
    return f"{re.sub(r'[^0-9a-zA-Z]', '_', stem)}_{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _own_fault(what: str, fault: BaseException, path: str | None) -> InvalidArgument:
    """Say where the user's own code failed: the last line that was run in the file, or else anywhere."""
    if isinstance(fault, SyntaxError) and fault.filename:
        where, said = f"{fault.filename}, line {fault.lineno}", fault.msg
    else:
        frames = [frame for frame in traceback.extract_tb(fault.__traceback__) if "importlib" not in frame.filename]
        own = [frame for frame in frames if path is None or os.path.realpath(frame.filename) == path] or frames
        where, said = (f"{own[-1].filename}, line {own[-1].lineno}" if own else ""), str(fault)
    return InvalidArgument(f"{what} cannot be imported: {type(fault).__name__}: {said}{f' ({where})' if where else ''}")


# -------------------------------------------------------------------- what a file defines
def _only(module: ModuleType, what: str, default: str, fits: Callable[[type], bool] | None) -> Any:
    made = getattr(module, default, None)
    if inspect.isroutine(made):
        return made
    names = _candidates(module, fits)
    if len(names) == 1:
        return getattr(module, names[0])
    wanted = f"define a function {default!r}" + (" or one class" if fits is not None else "") + ", or name the object after the path, with a colon"
    if names:
        raise InvalidArgument(f"{what}: {module.__file__} has several of them: {', '.join(names)}; {wanted}")
    there = [name for name, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == module.__name__ and name[0] != "_"]
    meant = f", such as {Path(module.__file__ or '').name}:{there[0]}" if there else ""
    raise InvalidArgument(f"{what}: {module.__file__} has no function {default!r}{' and no class that is one' if fits is not None else ''}; {wanted}{meant}")


def _candidates(module: ModuleType, fits: Callable[[type], bool] | None) -> list[str]:
    """Return the names of the classes that a module defines and that fit; bases of others among them are left out only if abstract."""
    if fits is None:
        return []
    classes = {name: value for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__}
    return [name for name, value in classes.items() if not name.startswith("_") and not inspect.isabstract(value) and fits(value)]


def _offer(module: ModuleType, fits: Callable[[type], bool] | None) -> str:
    names = _candidates(module, fits)
    return f"; it has: {', '.join(names)}" if names else ""
