"""The spaces of a check's sets as its certificate names them, and notes where a set declares none."""

from __future__ import annotations

from samespace.evaluate.certificate import CheckedSpace
from samespace.vectors import VectorSet


def described_space(source: VectorSet) -> CheckedSpace:
    """The space of a set as a certificate names it; its id is None where the set declares none."""
    if source.space is None:
        return CheckedSpace(id=None, name=source.name, dim=source.dim)
    return CheckedSpace(**source.space.to_dict())


def undeclared(*sides: tuple[VectorSet, VectorSet | None]) -> list[str]:
    """Notes where a set declares no space, for which the certificate then does not vouch."""
    notes, bare = [], dict[str, None]()
    for source, companion in sides:
        if source.space is None and companion is not None and companion.space is not None:
            notes.append(
                f"{source.name} declares no space, though {companion.name} does: nothing says that they are of one "
                "model, so this certificate links no spaces."
            )
        elif source.space is None:
            bare[source.name] = None
    if bare:
        notes.append(
            f"No space is declared by {', '.join(bare)}: this certificate names files, not models, so no gallery can "
            "be upgraded by it; 'samespace embed' records the space of what it makes."
        )
    return notes
