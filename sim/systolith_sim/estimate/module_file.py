"""``FILE.py:NAME`` as a model: a module of the user's own, with the inputs of one pass."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

PROTOCOL = "a module with example_inputs, or a callable that takes nothing and returns one or (module, inputs)"


@dataclass(frozen=True)
class LoadedModule:
    """A module and the arguments of the pass that is asked about."""

    name: str
    path: Path
    module: "nn.Module"
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def names_module(text: str) -> bool:
    """Whether a model's name is meant as ``FILE.py:NAME``."""
    file, colon, _ = text.rpartition(":")
    return (file if colon else text).endswith(".py")


def load_module(text: str) -> LoadedModule:
    """Run the user's file and take the module from it; what it prints goes to stderr.

    Raises
    ------
    ValueError
        In one sentence: if there is no such file or name, the file raises, or what NAME is does not follow the
        protocol.
    """
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        raise ValueError(f"model must be FILE.py:NAME, where NAME is {PROTOCOL}, not {text!r}")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"model must be FILE.py:NAME of a file that can be read, not {text!r}")
    with user_code(path), _one_sentence(text, path):
        found = getattr(_imported(path), name, None)
        if found is None:
            raise _Protocol(f"{file} must define {name}, {PROTOCOL}")
        return _loaded(text, path, found)


class _Protocol(Exception):
    """What the file gives is not what it must give."""


@contextlib.contextmanager
def user_code(path: Path) -> Iterator[None]:
    """While a user's code runs: what lies beside its file can be imported, and what it prints goes to stderr."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


@contextlib.contextmanager
def _one_sentence(text: str, path: Path) -> Iterator[None]:
    """Whatever the file raises, in one sentence with its last line."""
    try:
        yield
    except _Protocol as error:
        raise ValueError(f"model {text!r}: {error}") from None
    except (Exception, SystemExit) as error:
        raise ValueError(f"model {text!r} raises {type(error).__name__}{place(error, path)}: {error}") from None


def place(error: BaseException, path: Path) -> str:
    """The last line of the user's file that an error came through."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        line = error.lineno
    return "" if line is None else f" in line {line}"


def _imported(path: Path) -> Any:
    name = f"systolith_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _Protocol(f"{path} must be Python")
    module = importlib.util.module_from_spec(spec)
    # What is defined in the file can be pickled, and its dataclasses resolved, only where it is registered.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _loaded(text: str, path: Path, found: Any) -> LoadedModule:
    from torch import nn

    if not isinstance(found, nn.Module):
        if not callable(found):
            raise _Protocol(f"must be {PROTOCOL}, not {type(found).__name__}")
        found = found()
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], nn.Module):
        module, inputs = found
    elif isinstance(found, nn.Module):
        module, inputs = found, getattr(found, "example_inputs", None)
        inputs = inputs() if callable(inputs) else inputs
    else:
        raise _Protocol(f"must be {PROTOCOL}, not give {type(found).__name__}")
    args, kwargs = _arguments(inputs)
    return LoadedModule(text, path, module, args, kwargs)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional arguments from a tuple or list, keywords from a dictionary, one argument from a tensor."""
    from torch import Tensor

    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, tuple | list):
        return tuple(inputs), {}
    if isinstance(inputs, dict) and all(isinstance(key, str) for key in inputs):
        return (), dict(inputs)
    given = "missing" if inputs is None else type(inputs).__name__
    raise _Protocol(f"inputs must be a tensor, a tuple of arguments or a dict of keyword arguments, not {given}")
