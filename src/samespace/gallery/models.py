"""Models and images that a gallery works with: those given, else those that it remembers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from samespace.errors import GalleryError, InputError, SamespaceError, SpaceError
from samespace.gallery.backfill.run import Job
from samespace.gallery.backfill.worker import Limits
from samespace.gallery.ingest.images import Encoder, Images, Model
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import State
from samespace.space import Space
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    from samespace.data import ImageSource

ModelLike: TypeAlias = Model | str | Path
ImagesLike: TypeAlias = "ImageSource | str | Path"


def generation_of(state: State, space: Space | None, name: str = "the model") -> int:
    """The generation of a space that vectors or a model declare.

    Raises:
        SpaceError: it is undeclared, or the gallery does not know it.
    """
    if space is None:
        raise SpaceError(f"{name} declares no space; embed with 'samespace embed', which records it")
    generation = state.generation_of(space)
    if generation is None:
        known = ", ".join(str(kept.space) for kept in state.spaces.values())
        raise SpaceError(f"{name}: the gallery does not know the space {space}; it has {known}")
    return generation


def encoder_of(
    ledger: Ledger, generation: int, model: ModelLike | None, images: ImagesLike | None, device: str
) -> tuple[Encoder, Images]:
    """The model of a space, and the images as it takes them.

    Raises:
        GalleryError: neither given nor remembered.
        SpaceError: a model of another space.
    """
    state = _state(ledger)
    kept = state.spaces[generation]
    given = model if model is not None else kept.model
    if given is None:
        raise GalleryError(f"the gallery remembers no model of space {kept.space}; give its folder")
    named = images if images is not None else state.settings.get("images")
    if named is None:
        raise GalleryError("the gallery remembers no images; name their source")
    encoder = Encoder.load(given, device) if isinstance(given, (str, Path)) else Encoder(given)
    if encoder.space != kept.space:
        raise SpaceError(f"expected the model of space {kept.space}, got one of {encoder.space}")
    return encoder, encoder.images(named)


def encoders_at_hand(ledger: Ledger, images: ImagesLike | None, device: str) -> dict[int, tuple[Encoder, Images]]:
    """Models of the query space and, before the seal, of the one before it, with the images as they take them."""
    state = _state(ledger)
    found = {state.query: encoder_of(ledger, state.query, None, images, device)}
    current = state.upgrade
    if current is not None and current.state == "open" and state.spaces[current.old].model is not None:
        # where the old model is gone, what is added counts as known to the new space only
        with suppress(SamespaceError):
            found[current.old] = encoder_of(ledger, current.old, None, images, device)
    return found


def new_model(
    ledger: Ledger, model: ModelLike | Space, images: ImagesLike | None, device: str
) -> tuple[Encoder | Space, Images | None]:
    """A model that is to come, or its space alone, and the images if any are known."""
    if isinstance(model, Space):
        return model, None
    encoder = Encoder.load(model, device) if isinstance(model, (str, Path)) else Encoder(model)
    encoder.folder = absolute(encoder.folder)
    named = images if images is not None else _state(ledger).settings.get("images")
    return encoder, None if named is None else encoder.images(named)


def job_of(
    ledger: Ledger,
    vectors: VectorSet | None,
    model: ModelLike | None,
    images: ImagesLike | None,
    limits: Limits,
    device: str,
) -> Job:
    """What workers in other processes need to know.

    Raises:
        InputError: something that has no name they could use.
    """
    state = _state(ledger)
    folder = state.spaces[state.query].model if model is None else model
    named = state.settings.get("images") if images is None else images
    if vectors is not None or not isinstance(folder, (str, Path)) or not isinstance(named, (str, Path)):
        raise InputError(
            "several workers each load the model and open the images: give a model folder and images by name, or use "
            "one worker"
        )
    return Job(ledger.engine.secret_location, str(folder), str(named), limits, device)


def absolute(place: str | Path | None) -> str | None:
    """A place on this machine in full, so that it is found from any folder; other words stay."""
    if place is None:
        return None
    return str(Path(place).absolute()) if Path(place).exists() else str(place)


def _state(ledger: Ledger) -> State:
    with ledger.read() as reader:
        return reader.state()
