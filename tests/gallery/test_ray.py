"""A backfill by actors of a Ray cluster: two local workers, of which one may die.

Actors are slow to start, so those that are killed or fail run where SAMESPACE_EXAMPLES is set.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samespace.errors import GalleryError, InputError
from samespace.gallery import Gallery, Limits
from samespace.gallery.backfill.ray import run_on_ray
from samespace.gallery.backfill.run import Job

recorded = pytest.mark.skipif("SAMESPACE_EXAMPLES" not in os.environ, reason="a recorded run: set SAMESPACE_EXAMPLES")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of two processors on this machine."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'samespace[ray]'")
    paths = [str(Path(__file__).parents[2] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}},
        )  # fmt: skip
    except Exception as error:  # Ray gives its own processes two minutes
        ray.shutdown()
        pytest.skip(f"Ray does not start here: {error}")
    yield ray
    ray.shutdown()


def test_two_actors_share_the_work_and_end_with_the_same_gallery(cluster: Any, job: Job) -> None:
    with Gallery.open(job.location) as gallery:
        done = run_on_ray(gallery.ledger, job, 2, source=gallery.source)
        assert (done.stored, done.left, done.failed) == (96, 0, {})
        assert gallery.status().backfilled == 1
        assert gallery.doctor(models=True).healthy


@recorded
def test_an_actor_that_is_killed_loses_nothing(cluster: Any, job: Job) -> None:
    slow = replace(job, limits=Limits(batch_size=4, rate=8.0, lease=3.0))
    with Gallery.open(job.location) as gallery, Gallery.open(job.location) as watching:

        def kill_one() -> None:
            limit = time.monotonic() + 120
            while not (owners := [one.owner for one in watching.status().workers if one.done]):
                assert time.monotonic() < limit
                time.sleep(0.05)
            os.kill(int(owners[0].split("-")[-2]), signal.SIGKILL)

        killing = threading.Thread(target=kill_one)
        killing.start()
        done = run_on_ray(gallery.ledger, slow, 2, source=gallery.source)
        killing.join()
        assert "1 of 2 actors failed" in done.ended
        gallery.backfill()
        assert gallery.status().backfilled == 1
        assert gallery.doctor(models=True).healthy


@recorded
def test_failing_actors_give_one_reason(cluster: Any, job: Job, tmp_path: Path) -> None:
    (tmp_path / "new" / "model.safetensors").unlink()
    with Gallery.open(job.location) as gallery, pytest.raises(GalleryError, match=r"every actor failed.*safetensors"):
        run_on_ray(gallery.ledger, job, 2, source=gallery.source)


def test_without_ray_the_extra_is_named(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with Gallery.open(job.location) as gallery, pytest.raises(InputError, match=r"pip install 'samespace\[ray\]'"):
        gallery.backfill(workers=2, on="ray")
