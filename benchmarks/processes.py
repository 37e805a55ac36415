"""A part of a kill benchmark's story in a process of its own."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from samespace.errors import SamespaceError


def forked(role: Callable[[], None]) -> int:
    """Run a part in a child that ends with 0 where it came to its end; the child's number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        role()
        status = 0
    except SamespaceError as error:
        print(f"{role.__name__}: {error}", file=sys.stderr, flush=True)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
