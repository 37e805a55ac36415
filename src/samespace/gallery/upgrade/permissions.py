"""Leave to compare: which certificates and calibrations an upgrade needs, and storing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from samespace.errors import GalleryError, SpaceError
from samespace.gallery.ledger.state import Link, State
from samespace.gallery.ledger.writer import LedgerWriter
from samespace.metrics.calibration import Calibration
from samespace.space import Space

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate

_KEPT = ("format", "created", "compatible", "old_space", "new_space", "metrics", "data", "options", "sweep", "notes")


@dataclass(frozen=True)
class Permissions:
    """What stands between a new space and the spaces that a gallery holds.

    Attributes:
        links: pairs that a certificate allows.
        accepted: pairs without one that the user accepts.
        refused: why each of the other pairs is not allowed, a sentence each.
        revoked: pairs of which a certificate now says no, whatever an earlier one said.
        calibrations: by (query generation, gallery generation), from the certificates.
        uncalibrated: pairs whose scores cannot be brought to a common scale.
    """

    links: tuple[Link, ...] = ()
    accepted: tuple[Link, ...] = ()
    refused: tuple[str, ...] = ()
    revoked: tuple[tuple[int, int], ...] = ()
    calibrations: dict[tuple[int, int], tuple[Calibration, str]] = field(default_factory=dict)
    uncalibrated: tuple[tuple[int, int], ...] = ()


def examine(
    state: State, new: int, space: Space, certificates: Sequence[Certificate], *, accept_uncertified: bool = False
) -> Permissions:
    """Which pairs of a new space with those that serve now are allowed, and by what.

    Args:
        state: of the gallery.
        new: generation of the new space.
        space: the new space.
        certificates: of checks, one for each pair; those given at an earlier plan count as well.
        accept_uncertified: accept pairs of one dimension that no certificate allows.
    """
    links, accepted, refused, revoked = [], [], [], []
    calibrations: dict[tuple[int, int], tuple[Calibration, str]] = {}
    for generation in state.servable:
        old = state.spaces[generation].space
        if old == space:
            continue
        given = next((one for one in certificates if _of_pair(one, old, space)), None)
        earlier = state.links.get((new, generation))
        accepts = accept_uncertified and old.dim == space.dim
        if given is not None:
            calibrations |= _calibrations(given, generation, new, state, leave=given.compatible or accepts)
        if given is not None and given.compatible:
            links.append(Link(new, generation, old.dim, _kept(given)))
        elif given is None and earlier is not None and earlier.certificate is not None:
            links.append(earlier)
        elif accepts:
            accepted.append(Link(new, generation, old.dim))
        else:
            revoked += [(new, generation)] if given is not None else []
            refused.append(_reason(given, old, space, accept_uncertified))
    known = {*state.calibrations, *calibrations}
    needed = [(new, generation) for generation in (*state.servable, new)]
    return Permissions(
        tuple(links),
        tuple(accepted),
        tuple(refused),
        tuple(revoked),
        calibrations,
        tuple(pair for pair in needed if pair not in known),
    )


def grant(writer: LedgerWriter, leave: Permissions) -> None:
    """Store what an examination found."""
    for query, gallery in leave.revoked:
        writer.drop_link(query, gallery)
    for link in (*leave.links, *leave.accepted):
        writer.put_link(link)
    for (query, gallery), (calibration, source) in leave.calibrations.items():
        writer.put_calibration(query, gallery, calibration, source)


def require_calibrated(state: State) -> None:
    """Refuse what would leave a gallery of several spaces that cannot be searched.

    Raises:
        GalleryError: scores of the spaces that serve cannot be brought to a common scale.
    """
    lacking = [generation for generation in state.servable if (state.query, generation) not in state.calibrations]
    if lacking and len(state.servable) > 1:
        pairs = ", ".join(str(state.spaces[generation].space) for generation in lacking)
        raise GalleryError(
            f"a gallery of several spaces cannot be searched without calibrations, and queries of "
            f"{state.spaces[state.query].space} have none for {pairs}; run 'samespace gallery calibrate' for each, or "
            "upgrade with a certificate made with --new-gallery"
        )


def require(leave: Permissions) -> None:
    """Refuse where a pair is not allowed.

    Raises:
        SpaceError: which pairs, and what to do.
    """
    if leave.refused:
        raise SpaceError("; ".join(leave.refused))


def _of_pair(certificate: Certificate, old: Space, new: Space) -> bool:
    return certificate.old_space.id == old.id and certificate.new_space.id == new.id


def _calibrations(
    certificate: Certificate, old: int, new: int, state: State, *, leave: bool
) -> dict[tuple[int, int], tuple[Calibration, str]]:
    source = f"certificate of {certificate.created}"
    pairs = {"cross": (new, old), "new": (new, new), "old": (old, old)}
    found = {}
    for test, value in certificate.calibrations.items():
        pair = pairs[test]
        # what it says of the old space alone holds whatever the verdict; but thresholds were set by the calibration
        # that is there, and an upgrade does not move them
        if pair not in state.calibrations if pair == (old, old) else leave:
            found[pair] = (value, source)
    return found


def _kept(certificate: Certificate) -> dict[str, Any]:
    whole = certificate.to_dict()
    return {key: whole[key] for key in _KEPT if key in whole}


def _reason(certificate: Certificate | None, old: Space, new: Space, accept: bool) -> str:
    if accept:
        return (
            f"queries of {new} cannot search vectors of {old}: their dimensions differ, and only a certificate says "
            "which of them may be compared; run 'samespace check --prefix' for the pair"
        )
    if certificate is None:
        return (
            f"no certificate allows queries of {new} on vectors of {old}: run 'samespace check' for the pair and give "
            "its certificate.json with --certificate, or --accept-uncertified, which is recorded"
        )
    failed = ", ".join(name for name, result in certificate.metrics.items() if not result.compatible)
    return (
        f"the certificate says no to queries of {new} on vectors of {old} ({failed}); --accept-uncertified goes "
        "against it, and is recorded"
    )
