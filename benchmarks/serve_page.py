"""How long the page of a service takes to show its first view, in a browser that has never seen it and in one that has.

Starts a service on a made-up gallery (or takes `--address`), and loads the page `--loads` times in headless Chromium:
cold, with nothing kept, and warm, once more in the same browser. The view counts as shown when the sentence about the
gallery is there. Prints medians: milliseconds until then, processor time of the page's main thread, requests and bytes
over the network.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, sync_playwright

from samespace import Gallery
from serve_world import ServiceProcess, World

_ENTRIES = "performance.getEntries().filter(one => one.transferSize).map(one => one.transferSize)"
_COLUMNS = {"ms": "until shown, ms", "cpu": "processor, ms", "requests": "requests", "kib": "KiB"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="of a running service without keys; by default one is started")
    parser.add_argument("--loads", type=int, default=15)
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    loads: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    with _service(options.address) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        _loaded(browser.new_context(), address)  # the browser itself is warm
        for _ in range(options.loads):
            context = browser.new_context()
            for found in loads.values():
                found.append(_loaded(context, address))
            context.close()
        browser.close()
    print(f"| median of {options.loads} | {' | '.join(_COLUMNS.values())} |\n|---|{'---:|' * len(_COLUMNS)}")
    for name, found in loads.items():
        print(f"| {name} | {' | '.join(f'{statistics.median(one[key] for one in found):.0f}' for key in _COLUMNS)} |")
    slowest = max(one["ms"] for one in loads["cold"])
    print(f"the slowest cold load took {slowest:.0f} ms")


@contextmanager
def _service(address: str | None) -> Iterator[str]:
    """An address where a service answers."""
    if address is not None:
        yield address
        return
    with tempfile.TemporaryDirectory() as name:
        folder, world = Path(name), World.of(5_000, 64)
        with Gallery.create(folder / "shop", world.spaces[0]) as gallery:
            gallery.add(world.set_of(world.spaces[0], 0, 5_000))
        service = ServiceProcess(str(folder / "shop"), log=folder / "log")
        try:
            service.wait()
            yield service.address
        finally:
            service.stop()


def _loaded(context: BrowserContext, address: str) -> dict[str, float]:
    """What one load took."""
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(address, wait_until="commit")
    page.locator(".lead").wait_for()
    shown: float = page.evaluate("performance.now()")
    sizes: list[int] = page.evaluate(_ENTRIES)
    metrics: Any = devtools.send("Performance.getMetrics")["metrics"]
    spent = {one["name"]: one["value"] for one in metrics}
    page.close()
    return {"ms": shown, "cpu": 1000 * spent["TaskDuration"], "requests": len(sizes), "kib": sum(sizes) / 1024}


if __name__ == "__main__":
    main()
