"""The steps of an upgrade, its backfills, and how a gallery stands."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, HTTPException, Response

from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.gallery import BehindSwitch, CanaryCurve, Plan, Quality, Sealed, Status, Switched
from samespace.gallery.ledger.state import Upgrade
from samespace.metrics.calibration import Calibration
from samespace.serve.backfills.job import Job
from samespace.serve.encoders import Loaded
from samespace.serve.endpoints.certificates import verdict_of
from samespace.serve.service import At, Place, no_body, routes
from samespace.serve.wire import CalibrateBody, JobBody, SealBody, StepBody, SwitchBody, UpgradeBody
from samespace.space import Space

reads, admin = routes("read"), routes("admin")
_UNSAID = StepBody()


@reads.get("/status", response_model=Status, summary="How the gallery stands")
async def status(at: At) -> Response:
    """Spaces and what each serves, the upgrade, the work list, the workers, rate and time left."""
    return at.reply(await at.run(at.gallery.status))


@reads.get("/certificates", summary="What allows each pair of spaces")
async def certificates(at: At) -> Response:
    """For each pair of spaces that may be compared: both, the certificate, null where it was accepted without, and its
    verdict in words.
    """  # noqa: D205
    state = await at.run(lambda: at.gallery.state)
    return at.reply(
        [
            {
                "query": state.spaces[link.query].space,
                "gallery": state.spaces[link.gallery].space,
                "certificate": link.certificate,
                "verdict": None if link.certificate is None else verdict_of(link.certificate),
            }
            for link in state.links.values()
        ]
    )


@reads.get("/canary-curve", response_model=CanaryCurve, summary="How well the canaries search, over the backfill")
async def canary_curve(at: At) -> Response:
    """Beside the expected curve in the plan of `status`: measured on the gallery itself, at every share so far."""
    return at.reply(await at.run(at.gallery.canary_curve))


@admin.post("/plan", response_model=Plan, summary="Work out an upgrade")
async def plan(at: At, body: UpgradeBody) -> Response:
    """What it would take and bring, and what is missing; written down, and nothing changes for searches."""
    return at.reply(await at.change("plan", lambda: _planned(at, body)))


@admin.post("/calibrate", response_model=Calibration, summary="Learn what scores of a pair of spaces mean")
async def calibrate(at: At, body: CalibrateBody) -> Response:
    """From labelled vectors of both; not needed where the certificate holds calibrations."""
    return at.reply(await at.change("calibrate", lambda: _calibrated(at, body)))


@admin.post("/upgrade", response_model=Switched | Plan, summary="Let queries use a new space")
async def upgrade(at: At, body: UpgradeBody) -> Response:
    """Nothing is re-embedded. With `behind`, for a model that is not compatible, queries stay until `switch`, and the
    answer is the plan.
    """  # noqa: D205
    return at.reply(await at.change("upgrade", lambda: _upgraded(at, body)))


@admin.post("/switch", response_model=BehindSwitch, summary="Switch to the space that was filled behind")
async def switch(at: At, body: SwitchBody) -> Response:
    """Until the seal a rollback undoes it."""
    options = body.model_dump()
    return at.reply(await at.change("switch", lambda: at.gallery.switch(**options)))


@admin.post(
    "/quality",
    dependencies=[Depends(no_body)],
    response_model=Quality,
    summary="Measure the new side of a behind upgrade",
)
async def quality(at: At) -> Response:
    """Against the old side, on the labelled items themselves."""
    return at.reply(await at.run(at.gallery.quality))


@admin.post("/rollback", response_model=Switched, summary="Let queries use the old space again")
async def rollback(at: At, body: StepBody = _UNSAID) -> Response:
    """Possible until the seal; `upgrade` rolls forward. Send `expect`: a second rollback undoes what was before."""
    return at.reply(await at.change("rollback", lambda: at.gallery.rollback(expect=body.expect)))


@admin.post("/pause", response_model=Upgrade, summary="Let backfills wait")
async def pause(at: At, body: StepBody = _UNSAID) -> Response:
    """Workers of every process finish the batch in hand, and wait."""
    return at.reply(await at.change("pause", lambda: at.gallery.pause(expect=body.expect)))


@admin.post("/resume", response_model=Upgrade, summary="Let waiting backfills go on")
async def resume(at: At, body: StepBody = _UNSAID) -> Response:
    """The opposite of `pause`."""
    return at.reply(await at.change("resume", lambda: at.gallery.resume(expect=body.expect)))


@admin.post("/seal", response_model=Sealed, summary="Delete the old vectors")
async def seal(at: At, body: SealBody) -> Response:
    """After a counted check; from then on there is no way back."""
    options = body.model_dump(exclude_none=True)
    return at.reply(await at.change("seal", lambda: at.gallery.seal(**options)))


@admin.post("/sync", dependencies=[Depends(no_body)], summary="List what has changed in an adopted table")
async def sync(at: At) -> Response:
    """For a gallery of an application's own table."""
    return at.reply(await at.change("sync", at.gallery.sync))


@admin.post("/jobs", response_model=Job, status_code=202, summary="Start a backfill")
async def start(at: At, body: JobBody) -> Response:
    """In a thread of the service, by the remembered model and images; another process carries it on where this one
    ends. One with `vectors` ends with its process.
    """  # noqa: D205
    return at.reply(await at.run(lambda: _started(at, body)), 202)


@reads.get("/jobs", response_model=list[Job], summary="Backfills of the gallery")
async def jobs(at: At) -> Response:
    """Of all processes that serve it, newest first; the last hundred."""
    return at.reply(await at.run(lambda: at.service.jobs.list(at.name)))


@reads.get("/jobs/{job}", response_model=Job, summary="Watch a backfill")
async def watch(at: At, job: str) -> Response:
    """How far it is, or what it did."""
    return at.reply(_known(await at.run(lambda: at.service.jobs.get(at.name, job)), job))


@admin.delete("/jobs/{job}", response_model=Job, summary="Stop a backfill")
async def stop(at: At, job: str) -> Response:
    """After the batch in hand, whichever process runs it; another job carries on."""
    return at.reply(_known(await at.run(lambda: at.service.jobs.stop(at.name, job)), job))


def _known(job: Job | None, name: str) -> Job:
    if job is None:
        raise HTTPException(404, f"there is no job '{name}' of this gallery")
    return job


def _model(at: Place, body: UpgradeBody) -> str | Space | Loaded | None:
    if body.model is not None and body.space is not None:
        raise InputError("'model' and 'space' exclude each other: the model has its space")
    if body.model is not None:
        return at.service.encoders.place(body.model)
    return None if body.space is None else Space.from_dict(body.space.model_dump(exclude_none=True), "space")


def _certificates(body: UpgradeBody) -> list[Certificate]:
    return [Certificate.from_dict(given, f"certificates.{place}") for place, given in enumerate(body.certificates)]


def _planned(at: Place, body: UpgradeBody) -> Plan:
    model = _model(at, body)
    if model is None:
        raise InputError("give 'model', or 'space' where only its vectors are at hand")
    if body.grace:
        raise InputError("'grace' goes with upgrade")
    if body.expect is not None:
        raise InputError("'expect' goes with steps, and a plan is none: nothing changes by it")
    options: dict[str, Any] = {"order": body.order, "accept_uncertified": body.accept_uncertified}
    return at.gallery.plan(model, _certificates(body), behind=body.behind, score=body.score, **options)


def _calibrated(at: Place, body: CalibrateBody) -> Calibration:
    state = at.gallery.state
    certificate = None if body.certificate is None else Certificate.from_dict(body.certificate)
    old = None if body.old_queries is None else body.old_queries.vector_set(state, "old_queries")
    return at.gallery.calibrate(
        body.queries.vector_set(state, "queries"), body.gallery.vector_set(state, "gallery"),
        certificate=certificate, fuse=body.fuse, old_queries=old,
    )  # fmt: skip


def _upgraded(at: Place, body: UpgradeBody) -> Switched | Plan:
    model = _model(at, body)
    if body.behind:
        if body.certificates or body.accept_uncertified:
            raise InputError("'behind' compares no pair of spaces: leave out 'certificates' and 'accept_uncertified'")
        return at.gallery.begin_behind(model, order=body.order, score=body.score, grace=body.grace, expect=body.expect)
    if body.score is not None:
        raise InputError("'score' goes with 'behind': spaces that are compared have one score")
    return at.gallery.upgrade(
        model, _certificates(body), order=body.order, accept_uncertified=body.accept_uncertified, grace=body.grace,
        expect=body.expect,
    )  # fmt: skip


def _started(at: Place, body: JobBody) -> Job:
    vectors = None if body.vectors is None else body.vectors.vector_set(at.gallery.state, "vectors")
    if vectors is not None and not vectors.has_ids:
        raise InputError("vectors: a backfill finds items by 'ids'")
    if vectors is not None and body.model is not None:
        raise InputError("'vectors' and 'model' exclude each other: the vectors were made by it already")
    return at.service.jobs.start(at.name, body, vectors)
