"""Code of the user's own, by the name that a configuration gives it (`model.target`, `data.target`), and its errors."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from approxtrain.errors import ApproxtrainError, ConfigError, suggestion

PATTERN = r"[\w.]+:\w+"
FORM = "PACKAGE.MODULE:CLASS, such as mynet:Net for the class Net in mynet.py"
MEND = "Mend it there; --debug shows the whole traceback."
_OURS = ("approxtrain", "approxtrain_cli", "approxtrain_kernels")
_INSTALLED = {"site-packages", "dist-packages"}


def imported(target: str, key: str) -> Any:
    """What "package.module:Name" names; ConfigError, which says the `key` of the configuration, where it cannot be."""
    module, _, name = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # which `python -m` does, and an installed command does not
    failed = f"`{key}` (={target!r}) cannot be imported"
    try:
        found = importlib.import_module(module)
    except ApproxtrainError:  # a signal
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{failed}: {error}. It is {FORM}, and is found from the folder that the command runs in, in the "
                "folders of PYTHONPATH, or among the installed packages."
            ) from error
        raise ConfigError(f"{failed}: {in_words(error)}. {MEND}") from error
    try:
        return getattr(found, name)
    except AttributeError as error:
        near = suggestion(name, [known for known in vars(found) if not known.startswith("_")])
        raise ConfigError(f"{failed}: `{getattr(found, '__file__', module)}` has no {name!r}.{near}") from error


def origin(target: str, key: str) -> dict[str, str]:
    """Where the code of a target is from, for a run to remember: `sha256` of the source file that it is written in, and
    `folder`, from which Python finds its module, unless that is installed. What cannot be told is left out.
    """
    found = imported(target, key)
    module = sys.modules[target.partition(":")[0].partition(".")[0]]
    known: dict[str, str] = {}
    with suppress(TypeError, OSError):  # a target without a file, one written in a notebook say
        source = inspect.getsourcefile(inspect.unwrap(found))
        if source is not None:
            known["sha256"] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    file = next(iter(getattr(module, "__path__", ())), getattr(module, "__file__", None))
    if file and not is_installed(file):
        known["folder"] = str(Path(file).absolute().parent)
    return known


def look_in(folders: Iterable[str]) -> None:
    """Have modules found in these as well, after all that Python knows."""
    sys.path.extend(folder for folder in dict.fromkeys(folders) if folder not in sys.path)


@contextmanager
def in_own_code(
    what: str, *, error: type[ApproxtrainError] = ConfigError, hint: Callable[[Exception], str] = lambda _: ""
) -> Iterator[None]:
    """Whatever is raised inside becomes an `error`: "WHAT: TypeError: … (mynet.py, line 7). HINT"."""
    try:
        yield
    except ApproxtrainError:
        raise
    except Exception as problem:
        more = [hint(problem), MEND if place(problem) else ""]
        raise error(" ".join([f"{what}: {in_words(problem)}.", *filter(None, more)])) from problem


def in_words(error: Exception) -> str:
    """Type and message of an exception, and where in the user's own code it was raised."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    words = re.split(r"\n\n|\nThe error occurred while", message.strip())[0].rstrip(".")  # jax goes on at length
    where = place(error)
    kind = type(error).__name__
    return (f"{kind}: {words}" if words else kind) + (f" ({where})" if where else "")


def place(error: Exception) -> str:
    """ "mynet.py, line 7": the last call on the way to `error` in a file of the user's; empty if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return _place(error.filename, error.lineno)
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_own(frame)]
    return _place(frames[-1][0].f_code.co_filename, frames[-1][1]) if frames else ""


def _place(file: str, line: int | None) -> str:
    path, here = Path(file), Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}, line {line}"


def _is_own(frame: Any) -> bool:
    file = frame.f_code.co_filename
    if file.startswith("<") or frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        return False
    return not is_installed(file) and not Path(file).is_relative_to(sysconfig.get_path("stdlib"))


def is_installed(file: str) -> bool:
    return not _INSTALLED.isdisjoint(Path(file).parts)
