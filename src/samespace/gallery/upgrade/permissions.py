"""Which pairs of spaces an upgrade may compare, by which certificates and calibrations; and storing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from samespace.errors import SpaceError
from samespace.gallery.ledger.state import Link, State
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.metrics.calibration import Calibration
from samespace.scoring.score import SCORE_NAMES
from samespace.space import Score, Space

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate

_KEPT = (
    "format",
    "created",
    "compatible",
    "confidence",
    "old_space",
    "new_space",
    "metrics",
    "data",
    "options",
    "sweep",
    "notes",
    "score",
)

_BEHIND = "a model that is not compatible takes over with gallery.begin_behind(model=…)"

Pair = tuple[int, int]
"""Generation of the queries, generation of the vectors that they search."""


@dataclass(frozen=True)
class Permissions:
    """Which pairs of a new space with the spaces that serve may be compared.

    Attributes:
        links: pairs that a certificate allows.
        accepted: pairs without one that the user accepts.
        refused: why each of the other pairs is not allowed, a sentence each.
        revoked: pairs of which a certificate now says no, whatever an earlier one said.
        calibrations: from the certificates, with where each comes from.
        fused: from certificates of fused queries, with the share of the new query.
        uncalibrated: pairs whose scores cannot be brought to a common scale.
    """

    links: list[Link] = field(default_factory=list)
    accepted: list[Link] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    revoked: list[Pair] = field(default_factory=list)
    calibrations: dict[Pair, tuple[Calibration, str]] = field(default_factory=dict)
    fused: dict[Pair, tuple[float, Calibration]] = field(default_factory=dict)
    uncalibrated: list[Pair] = field(default_factory=list)

    def require(self) -> None:
        """Refuse where a pair is not allowed, by a SpaceError that says which, and what to do."""
        if self.refused:
            raise SpaceError("; ".join(self.refused))

    def store(self, writer: LedgerWriter) -> None:
        """Write down what is allowed and what is not, with the calibrations."""
        for query, gallery in self.revoked:
            writer.drop_link(query, gallery)
        for link in (*self.links, *self.accepted):
            writer.put_link(link)
        for (query, gallery), (calibration, source) in self.calibrations.items():
            writer.put_calibration(query, gallery, calibration, source)
        for (query, gallery), (alpha, calibration) in self.fused.items():
            writer.put_fused_calibration(query, gallery, alpha, calibration)

    def lines(self, state: State) -> tuple[str, ...]:
        """What allows each pair of spaces, a line each."""
        certified = [
            f"{state.spaces[link.gallery].space}: certificate of {(link.certificate or {}).get('created', '')}, "
            f"{link.dims} dimensions compared"
            + (
                ""
                if link.share is None
                else f", only by queries fused with share {link.share:g} of the new one: fuse={link.share:g}"
            )
            for link in self.links
        ]
        accepted = [f"{state.spaces[link.gallery].space}: accepted without a certificate" for link in self.accepted]
        return (*certified, *accepted)


def permissions_for(
    state: State, new: int, space: Space, certificates: Sequence[Certificate], *, accept_uncertified: bool = False
) -> Permissions:
    """Which pairs of a new space, of generation `new`, with those that serve now are allowed, and by what.

    Certificates that were given at an earlier plan count as well. `accept_uncertified` accepts pairs of one dimension
    that no certificate allows.

    Raises:
        SpaceError: a certificate of another score than the gallery is searched by, or of vectors cut short.
    """
    _require_whole(state, certificates)
    _require_score(state.spaces[state.query].score, certificates)
    result, held = Permissions(), set[Pair]()
    for generation in state.servable:
        old = state.spaces[generation].space
        if old == space:
            continue
        ids = old.id, space.id
        given = next((one for one in certificates if (one.old_space.id, one.new_space.id) == ids), None)
        fused = next((one for one in certificates if _of_fused(one) == ids), None)
        if fused is not None and (given is None or (fused.compatible and not given.compatible)):
            given = fused
        earlier = state.links.get((new, generation))
        accepts = accept_uncertified and old.dim == space.dim
        if given is not None:
            allowed = given.compatible or accepts
            result.calibrations.update(_calibrations(given, generation, new, state, allowed=allowed))
            # those of a certificate that says no are at hand, and count once it is accepted
            held.update(_calibrations(given, generation, new, state, allowed=True))
        if given is not None and given.compatible:
            whole = given.to_dict()
            kept = {key: whole[key] for key in _KEPT if key in whole}
            if given.fusion is not None:
                kept["fusion"] = {"alpha": given.fusion.alpha}
                if "cross" in given.calibrations:
                    result.fused[new, generation] = given.fusion.alpha, given.calibrations["cross"]
            result.links.append(Link(new, generation, old.dim, kept))
        elif given is None and earlier is not None and earlier.certificate is not None:
            result.links.append(earlier)
        elif accepts:
            result.accepted.append(Link(new, generation, old.dim))
        else:
            if given is not None:
                result.revoked.append((new, generation))
            result.refused.append(_reason(given, certificates, old, space, accept_uncertified))
    known = {*state.calibrations, *result.calibrations, *result.fused, *_fused_before(state, result.links)}
    known |= held if result.refused else set()
    result.uncalibrated.extend(pair for one in (*state.servable, new) if (pair := (new, one)) not in known)
    return result


def _require_whole(state: State, certificates: Sequence[Certificate]) -> None:
    """Refuse a certificate of leading values where the gallery keeps whole vectors."""
    known = {kept.space.id for kept in state.spaces.values()}
    for one in certificates:
        if one.truncate is not None and one.old_space.id not in known:
            raise SpaceError(
                f"the certificate of queries of {one.new_space.id} on vectors of {one.old_space.id} is of the first "
                f"{one.truncate} values of each vector, and the gallery keeps whole ones; run 'samespace check' for "
                "the pair without --truncate"
            )


def _require_score(score: Score, certificates: Sequence[Certificate]) -> None:
    for one in certificates:
        pair = f"the certificate of queries of {one.new_space.id} on vectors of {one.old_space.id}"
        again = f"run 'samespace check{'' if score == 'cosine' else f' --score {score}'}' for the pair"
        if one.score != score:
            raise SpaceError(
                f"{pair} is by {SCORE_NAMES[one.score]}, and the gallery is searched by {SCORE_NAMES[score]}; {again}"
            )
        if one.stored_as != "float32":
            raise SpaceError(f"{pair} is of vectors kept as {one.stored_as}, and a gallery keeps float32; {again}")
        if one.fusion is not None and score != "cosine":
            raise SpaceError(
                f"{pair} is of fused queries, which are for galleries that are searched by cosine; {again}"
            )


def _calibrations(
    certificate: Certificate, old: int, new: int, state: State, *, allowed: bool
) -> dict[Pair, tuple[Calibration, str]]:
    source = f"certificate of {certificate.created}"
    pairs = {"cross": (new, old), "new": (new, new), "old": (old, old)}
    calibrations = {}
    for test, value in certificate.calibrations.items():
        if test == "cross" and certificate.fusion is not None:
            # of fused queries, which have calibrations of their own
            continue
        pair = pairs[test]
        # what it says of the old space alone holds whatever the verdict; but thresholds were set by the calibration
        # that is there, and an upgrade does not move them
        if pair not in state.calibrations if pair == (old, old) else allowed:
            calibrations[pair] = (value, source)
    return calibrations


def _of_fused(certificate: Certificate) -> tuple[str | None, str | None] | None:
    """The old and the new space of a certificate whose queries were fused of both."""
    return None if certificate.fusion is None else (certificate.old_space.id, certificate.fusion.space.id)


def _fused_before(state: State, links: Sequence[Link]) -> set[Pair]:
    """Pairs of fused queries that were calibrated at an earlier plan."""
    return {(one.query, one.gallery) for one in links if (one.query, one.gallery, one.share) in state.fused}


def _reason(certificate: Certificate | None, given: Sequence[Certificate], old: Space, new: Space, accept: bool) -> str:
    if accept:
        return (
            f"queries of {new} cannot search vectors of {old}: their dimensions differ, and only a certificate says "
            f"which of them may be compared; run 'samespace check --prefix' for the pair; {_BEHIND}"
        )
    if certificate is None:
        spaces = [[f"{side.id} ({side.name})" for side in (one.new_space, one.old_space)] for one in given]
        others = " (given: " + "; ".join(f"that of {one} on {two}" for one, two in spaces) + ")" if spaces else ""
        return (
            f"no certificate allows queries of {new} on vectors of {old}{others}: run 'samespace check' for the "
            "pair and give its certificate.json with certificates=…, or accept_uncertified=True, which is recorded; "
            f"{_BEHIND}"
        )
    failed = ", ".join(name for name, result in certificate.metrics.items() if not result.compatible)
    which = "queries" if certificate.fusion is None else "fused queries"
    return (
        f"the certificate says no to {which} of {new} on vectors of {old} ({failed}); accept_uncertified=True goes "
        f"against it, and is recorded; {_BEHIND}"
    )
