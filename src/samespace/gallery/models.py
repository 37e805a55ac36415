"""Models and images that a gallery works with: those given, else those that it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from samespace.errors import GalleryError, InputError, SamespaceError, SpaceError
from samespace.gallery.backfill.limits import Limits
from samespace.gallery.backfill.run import Job
from samespace.gallery.ingest.checks import require_precision
from samespace.gallery.ingest.images import Images, ImagesLike, ItemEmbedder, ModelLike, load_embedder
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import State
from samespace.gallery.upgrade.expect import require_step
from samespace.gallery.upgrade.upgrade import NewSpace, planned
from samespace.names import require_name
from samespace.space import Score, Space
from samespace.vectors import VectorSet


class NoModelError(GalleryError):
    """Items are to be embedded, and the model of their space is neither given nor remembered.

    Attributes:
        lacking: that in words, for a surface on which it cannot be given.
    """

    def __init__(self, space: Space) -> None:
        self.lacking = f"the gallery remembers no model of space {space}"
        super().__init__(f"{self.lacking}, and none was given: name it with model=…")


def embedder_of(
    state: State, generation: int, model: ModelLike | None, images: ImagesLike | None, device: str
) -> ItemEmbedder:
    """The model of a space, with the items' images.

    Raises:
        GalleryError: neither given nor remembered.
        SpaceError: a model of another space.
    """
    kept = state.spaces[generation]
    given, named = model_and_images(state, generation, model, images)
    loaded = load_embedder(given, device)
    embedder = ItemEmbedder(loaded, Images.open(named, loaded))
    if embedder.space != kept.space:
        raise SpaceError(f"expected the model of space {kept.space}, got one of {embedder.space}")
    if kept.space.precision == "bf16":
        from samespace.models import Embedder
        from samespace.models.precision import InBfloat16

        fast = InBfloat16(loaded) if isinstance(loaded, Embedder) else getattr(loaded, "in_bfloat16", None)
        if fast is not None:
            embedder = ItemEmbedder(fast, embedder.images)
    require_precision(kept.space, embedder.space, "the model")
    return embedder


def model_and_images(
    state: State, generation: int, model: ModelLike | None, images: ImagesLike | None
) -> tuple[ModelLike, ImagesLike]:
    """What embeds the items in a space, by name, and the images; nothing is loaded.

    Raises:
        GalleryError: neither given nor remembered.
    """
    kept = state.spaces[generation]
    given = model if model is not None else kept.model
    if given is None:
        raise NoModelError(kept.space)
    named = images if images is not None else state.settings.get("images")
    if named is None:
        raise GalleryError("the gallery remembers no images, and none were given: name their source, images=…")
    return given, named


def embedders_at_hand(
    state: State, images: ImagesLike | None, device: str, loaded: Mapping[str, ModelLike] | None = None
) -> dict[int, ItemEmbedder]:
    """The remembered models of the query space and, before the seal, of the one before it, by generation.

    During a behind upgrade those of both its spaces. A model that is `loaded`, by the id of its space, is not loaded
    again.
    """
    models = {one: (loaded or {}).get(kept.space.id, kept.model) for one, kept in state.spaces.items()}
    embedders = {state.query: embedder_of(state, state.query, models[state.query], images, device)}
    current = state.upgrade
    others = {*state.sides, *([current.old] if current is not None and current.state == "open" else [])}
    for generation in sorted(others - {state.query}):
        if models[generation] is not None:
            # where a model is gone, what is added counts as known to the other space only
            with suppress(SamespaceError):
                embedders[generation] = embedder_of(state, generation, models[generation], images, device)
    return embedders


def new_space(
    state: State, model: ModelLike | Space, images: ImagesLike | None, device: str, score: Score | None = None
) -> NewSpace:
    """The space of an upgrade to come, with its model if it is given, and the images if any are known."""
    if isinstance(model, Space):
        return NewSpace(model, score=score)
    folder = None
    if isinstance(model, (str, Path)):
        from samespace.models import resolve_model

        folder = absolute(resolve_model(model))
    model = load_embedder(model, device)
    named = images if images is not None else state.settings.get("images")
    if named is None:
        return NewSpace(model.space, folder, score=score)
    embedder = ItemEmbedder(model, Images.open(named, model))
    return NewSpace(embedder.space, folder, embedder, score)


def next_space(
    ledger: Ledger,
    model: ModelLike | Space | None,
    images: ImagesLike | None,
    device: str,
    score: Score | None = None,
    *,
    expect: int | None,
) -> NewSpace:
    """The space of an upgrade that begins now, by default of the planned one. `expect` as of `Gallery.rollback`."""
    with ledger.read() as reader:
        require_step(reader, expect)
        state = reader.state()
    if model is None:
        kept = planned(state, ledger.location)
        model, score = kept.model or kept.space, score or kept.score
    return new_space(state, model, images, device, score)


def job_of(
    ledger: Ledger,
    state: State,
    generation: int,
    vectors: VectorSet | None,
    model: ModelLike | None,
    images: ImagesLike | None,
    limits: Limits,
    device: str,
) -> Job:
    """What workers in other processes need to know. Raises InputError: something that has no name they could use."""
    folder = state.spaces[generation].model if model is None else model
    named = state.settings.get("images") if images is None else images
    if vectors is not None or not isinstance(folder, (str, Path)) or not isinstance(named, (str, Path)):
        raise InputError(
            "several workers each load the model and open the images: give a model folder and images by name, or use "
            "one worker"
        )
    return Job(ledger.engine.secret_location, str(folder), str(named), limits, device, generation)


def absolute(place: str | Path | None) -> str | None:
    """A place on this machine in full, so that it is found from any folder; other words stay."""
    if place is None:
        return None
    place = Path(place).absolute() if Path(place).exists() else place
    require_name(place, "the gallery remembers names, and")
    return str(place)
