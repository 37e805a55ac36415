"""What a user names as `package.module:callable`, from their own code."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samespace.errors import InputError, SamespaceError, suggest


def import_named(name: str, what: str, form: str) -> Any:
    """The attribute of a module that `name`, in the form `package.module:callable`, says.

    Messages say `what` it is, such as `backbone`, and its `form`.

    Raises:
        InputError: the module cannot be imported or has no such attribute.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module of the user's own may raise anything
        raise InputError(_not_imported(name, what, form, module_name, error)) from None
    found = getattr(module, attribute, None)
    if found is None:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        hint = f"; {suggest(attribute, public)}" if public else ""
        raise InputError(f"the {what} '{name}' is not in {module.__file__}: it has no '{attribute}'{hint}")
    return found


def called(function: Callable[..., Any], *given: Any, what: str) -> Any:
    """What a function of the user's own returns; `what` it is, for the message.

    Raises:
        InputError: it raises something; the message has that, and where in their code.
    """
    try:
        return function(*given)
    except SamespaceError:
        raise
    except Exception as error:  # a function of the user's own may raise anything
        place = traceback.extract_tb(error.__traceback__)[1:2]
        where = "".join(f" ({one.filename}, line {one.lineno})" for one in place)
        raise InputError(f"{what} failed: {type(error).__name__}: {error}{where}") from error


def _not_imported(name: str, what: str, form: str, module: str, error: Exception) -> str:
    """Why a module of the user's own cannot be imported, and where Python looks for one."""
    said = f"the {what} '{name}' cannot be imported: {error or type(error).__name__}"
    package = module.partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or error.name is None or error.name.partition(".")[0] != package:
        # found, and wrong inside
        return said
    example = f"{package}/" if "." in module else f"{package}.py"
    here = Path(module.replace(".", "/"))
    if here.with_suffix(".py").exists() or (here / "__init__.py").exists():
        return f"{said}; it lies in this folder, where Python does not look: run with PYTHONPATH=. before the command"
    return (
        f"{said}; expected {form}, in an installed package or on PYTHONPATH: run with "
        f"PYTHONPATH=FOLDER before the command, where FOLDER holds {example}"
    )
