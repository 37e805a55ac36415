"""From a method's name to its loss: `METHODS`, the one table of compatibility methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from samespace.data import ImageSource
from samespace.errors import InputError, SamespaceError
from samespace.losses import EveryGalleryLoss
from samespace.train.methods import baselines, bct, matched, unibct
from samespace.train.methods.method import Method, OldSide, Term
from samespace.train.sections import CompatibilitySection, HeadSection, ValidationSection, one_of

METHODS: dict[str, Method] = {
    "none": Method(lambda section, head, source, old: Term(None)),
    "matched": matched.MATCHED,
    "matched-free": matched.MATCHED,
    "matching": matched.MATCHING,
    "memory-contrast": matched.MEMORY_CONTRAST,
    "tail": matched.TAIL,
    "l2": baselines.L2,
    "contrastive": baselines.CONTRASTIVE,
    "bct": bct.BCT,
    "bct-synth": bct.BCT_SYNTH,
    "bct-kd": bct.BCT_KD,
    "lwf": bct.LWF,
    "unibct-mean": unibct.MEAN,
    "unibct-trimmed": unibct.TRIMMED,
    "unibct-refined": unibct.REFINED,
}

# other names of methods, in lower case, and the method that is recommended for each
_MEANT = {
    "unibct": "unibct-refined",
    "universal-bct": "unibct-refined",
    "influence": "bct",
    "backward-compatible": "bct",
    "synth": "bct-synth",
    "kd": "bct-kd",
    "distillation": "bct-kd",
    "regression": "l2",
    "match": "matched",
    "default": "auto",
    "independent": "none",
}


def meant_method(name: str) -> str | None:
    """The method that a name which is none stands for, where it is known."""
    return _MEANT.get(name.lower().replace("_", "-").replace(" ", "-"))


def compatibility_term(section: CompatibilitySection, head: HeadSection, source: ImageSource, old: OldSide) -> Term:
    """The loss of the recipe's method, and how its prototypes are rebuilt where they are.

    It takes over the margin of the recipe's head where the recipe names none. With earlier old models it is the
    weighted mean of the loss against each.

    Raises:
        InputError: prototypes are all missing.
    """
    build, sections = METHODS[section.method].build, each_old(section)
    first, *others = (build(one, head, source, side) for one, side in zip(sections, old.each, strict=True))
    if not others:
        return first
    losses = [term.loss for term in (first, *others) if term.loss is not None]
    return Term(EveryGalleryLoss(losses, weights=[1.0, *(one.weight for one in section.earlier)]))


def each_old(section: CompatibilitySection) -> tuple[CompatibilitySection, ...]:
    """The section once for each old model, its own first, each as if it were the only one.

    Earlier models may be narrower than the new one, whose leading dimensions are then compared.
    """
    alone = replace(section, earlier=())
    earlier = (
        replace(
            alone,
            old_model=one.old_model,
            old_vectors=one.old_vectors,
            old_views=one.old_views,
            views=section.views if one.old_model else None,
            prefix=True,
        )
        for one in section.earlier
    )
    return (alone, *earlier)


@contextmanager
def naming_earlier(number: int) -> Iterator[None]:
    """Errors say which of `compatibility.earlier` they are of, counted from 1; 0 is the old model itself."""
    try:
        yield
    except SamespaceError as error:
        if not number:
            raise
        raise type(error)(f"compatibility.earlier, number {number}: {error}") from None


def chosen(section: CompatibilitySection) -> CompatibilitySection:
    """The section with its method and its prefix written out: what `auto` takes, and what matched-free implies."""
    method = section.method
    if method == "auto" and (section.old_model or section.old_vectors):
        method = "matched"
    elif method == "auto":
        method = "bct" if section.old_classifier else "none"
    return replace(section, method=method, prefix=section.prefix or method == "matched-free")


def check_section(section: CompatibilitySection) -> None:
    """Refuse an unknown method, one without what it needs of the old model, or with an option that does nothing."""
    one_of("compatibility.method", section.method, [*METHODS, "auto"], meant=meant_method(section.method))
    method = METHODS[section.method]
    given = [name for name in ("old_model", "old_vectors", "old_classifier") if getattr(section, name) is not None]
    if section.earlier and not (section.old_model or section.old_vectors):
        raise InputError(
            "compatibility.earlier goes beside compatibility.old_model or .old_vectors: the latest old model is there"
        )
    if section.method == "none":
        if given:
            raise InputError(
                f"compatibility.method=none uses no old model: remove compatibility.{given[0]} or choose a method"
            )
        return
    if section.old_model and section.old_vectors:
        raise InputError("compatibility.old_model and compatibility.old_vectors exclude each other: give one")
    for need in method.needs:
        instead = "" if need == "model" else f" or .old_{need}"
        if need != "views" and not section.old_model and (need == "model" or not getattr(section, f"old_{need}")):
            raise InputError(f"compatibility.method={section.method} needs compatibility.old_model{instead}")
    _check_views(section)
    if section.earlier and section.mixed:
        raise InputError("compatibility.mixed is for one old model: leave out mixed, or earlier")
    for number, one in enumerate(each_old(section)[1:], 1):
        with naming_earlier(number):
            check_section(one)
    for name in dict.fromkeys(option for other in METHODS.values() for option in other.options):
        if name not in method.options and getattr(section, name) not in (None, ()):
            *others, last = [key for key, other in METHODS.items() if name in other.options]
            users = f"{', '.join(others)} and {last}" if others else last
            raise InputError(f"compatibility.{name} does nothing for method={section.method}; it belongs to {users}")


def check_validation(validation: ValidationSection, section: CompatibilitySection) -> None:
    """Refuse an old model for the validation beside the one of the training."""
    for name in ("old_model", "old_vectors"):
        if getattr(validation, name) and (section.old_model or section.old_vectors):
            raise InputError(f"validation.{name} goes with a training that has no old model: remove it")


def _check_views(section: CompatibilitySection) -> None:
    if section.old_views is not None and (section.old_model or not section.old_vectors):
        raise InputError(
            "compatibility.old_views goes with compatibility.old_vectors, and without compatibility.old_model"
        )
    if section.old_views is not None and section.views is not None:
        raise InputError("compatibility.old_views and compatibility.views exclude each other: give one")
    if section.views not in (None, "stored") and not section.old_model:
        raise InputError(
            f"compatibility.views={section.views} needs compatibility.old_model, which makes them; without it give "
            "old_views, or views: stored"
        )
    if section.mixed and (section.views not in (None, "live") or not section.old_model):
        raise InputError("compatibility.mixed needs the old model beside the training: old_model, with views: live")
