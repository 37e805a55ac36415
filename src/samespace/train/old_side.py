"""What training needs of the old model: its vectors of the images, made once, its classifier, or the model itself."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from samespace.data import FixedViews, ImageSource
from samespace.data.readable import stand_ins
from samespace.data.source import Subset
from samespace.encoders import open_image_model
from samespace.errors import InputError
from samespace.files import read_json
from samespace.models import Classifier, resolve_model
from samespace.models.extract import embed_to
from samespace.models.image_model import ImageModel
from samespace.progress import bar, silent_bar
from samespace.strict import read_yaml
from samespace.train.compatibility import METHODS, each_old, naming_earlier
from samespace.train.distributed import Processes
from samespace.train.methods.method import OldSide, shared_classes
from samespace.train.old_views import OldViews, embed_views, load_views, require_same_augment
from samespace.train.recipe import Recipe
from samespace.vectors import VectorSet

OpenModel = Callable[[Path], ImageModel]


def old_side(
    recipe: Recipe,
    source: ImageSource,
    out: Path,
    device: torch.device,
    group: Processes,
    quiet: bool = False,
    *,
    embed: bool = True,
) -> OldSide:
    """Gather what a method needs of the old model and of earlier ones, making vectors once where only a model is given.

    Vectors made here are kept in `old-vectors/` beside `out`, under the old space and the images they belong to, so
    that other trainings against the same model find them. Where `embed` is False nothing is made or written: others of
    their dimension stand in for vectors that are not there yet, which is enough to try a training.

    Raises:
        InputError: a model, vector set or classifier is missing or does not fit the images, dimensions do not fit, the
            classes leave the method nothing to do, or two old models do not fit each other. All that is cheap to see
            is seen before images are embedded.
    """
    open_once = functools.cache(functools.partial(open_image_model, device=str(device)))
    if embed and recipe.compatibility.earlier:
        # what does not fit is seen before the first old model embeds every image
        _all_sides(recipe, source, out, open_once, group, True, embed=False)
    return _all_sides(recipe, source, out, open_once, group, quiet, embed)


def _all_sides(
    recipe: Recipe, source: ImageSource, out: Path, open_model: OpenModel, group: Processes, quiet: bool, embed: bool
) -> OldSide:
    sides: list[OldSide] = []
    for number, section in enumerate(each_old(recipe.compatibility)):
        alone = replace(recipe, compatibility=section)
        with naming_earlier(number):
            sides.append(_one_side(alone, source, out, open_model, group, quiet, embed, earlier=number > 0))
            _check_beside(sides[-1], sides[:-1])
    return replace(sides[0], earlier=tuple(sides[1:]))


def _check_beside(side: OldSide, others: Sequence[OldSide]) -> None:
    """Refuse an old model that was given before, and fixed views that are not those of another."""
    for other in others:
        spaces = [one.vectors.space for one in (side, other) if one.vectors is not None]
        if len(spaces) == 2 and spaces[0] is not None and spaces[0] == spaces[1]:
            raise InputError(f"this is the space of another old model of the recipe, {spaces[0]}; give each once")
        if side.views is not None and other.views is not None and side.views.views != other.views.views:
            counts = f"{side.views.views.count} and {other.views.views.count}"
            raise InputError(
                f"its fixed views are not those of another old model of the recipe ({counts} views): a training shows "
                "one set; make both by the same recipe and the same number"
            )


def _one_side(
    recipe: Recipe,
    source: ImageSource,
    out: Path,
    open_model: OpenModel,
    group: Processes,
    quiet: bool,
    embed: bool,
    earlier: bool,
) -> OldSide:
    section, method = recipe.compatibility, METHODS[recipe.compatibility.method]
    vectors = classifier = embedder = None
    model = None if section.old_model is None else resolve_model(section.old_model)
    if "classifier" in method.needs:
        file = model / "classifier.safetensors" if section.old_classifier is None and model else section.old_classifier
        classifier = Classifier.load(Path(str(file)))
        _check_dims(recipe, classifier.weight.shape[1])
        if method.check_classes is not None:
            method.check_classes(shared_classes(source, classifier))
    runs = "model" in method.needs or ("views" in method.needs and section.views in (None, "live"))
    if model is not None and {"vectors", "views", "model"} & set(method.needs):
        embedder = open_model(model)
        _check_dims(recipe, embedder.embedding_dim, earlier)
        if runs or isinstance(section.views, int):
            _check_channels(embedder, source)
    if "vectors" in method.needs:
        if embedder is None:
            vectors = align(VectorSet.load(str(section.old_vectors)), source)
            _check_dims(recipe, vectors.dim, earlier)
        else:
            made = embed or _folder(embedder.space.id, source, out).exists()
            vectors = _embed_once(embedder, source, out, group, quiet) if made else _stand_in(embedder, source)
    views = None
    if "views" in method.needs and embedder is not None and isinstance(section.views, int):
        views = _views_once(embedder, source, recipe, out, group, quiet, embed)
    elif "views" in method.needs and section.old_views is not None:
        views = load_views(section.old_views, source, align)
        require_same_augment(views.views, recipe.augment, section.old_views)
    return OldSide(vectors, classifier, embedder if runs else None, views)


def align(vectors: VectorSet, source: ImageSource) -> VectorSet:
    """Old vectors in the order of the training images; without ids, one for each image or for each of the whole source.

    An image that cannot be read takes the vector of the image that training reads in its place.

    Raises:
        InputError: an image has no vector, or the counts differ where the vectors have no ids.
    """
    if not vectors.has_ids:
        if isinstance(source, Subset) and len(vectors) in _lengths_above(source):
            return align(vectors, source.whole).subset(source.rows)
        if len(vectors) != len(source):
            counts = f"{len(vectors):,} vectors and no ids for {len(source):,} training images"
            raise InputError(f"{vectors.name} has {counts}; give ids, or one vector for each image")
        numbers = np.arange(len(vectors)).astype(str)
        if not np.array_equal(vectors.ids, source.ids) and not np.array_equal(vectors.ids, numbers):
            raise InputError(
                f"{vectors.name} was made from other rows than the training images; embed the same part again"
            )
        if vectors.labels is not None:
            # as many distinct pairs of a vector's label and its image's class as classes, where the two agree
            pairs = np.char.add(np.char.add(vectors.labels.astype(str), "\n"), source.labels.astype(str))
            if len(np.unique(pairs)) != len(source.classes):
                raise InputError(
                    f"{vectors.name} has no ids, and its labels are not those of the images in their order"
                )
        return vectors
    rows = vectors.rows_of(source.ids)
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        others = stand_ins(source, missing)
        if others is None or (rows[others] < 0).any():
            raise InputError(
                f"{vectors.name} lacks {missing.size:,} of {len(source):,} training images, such as "
                f"'{source.ids[missing[0]]}'"
            )
        rows[missing] = rows[others]
    return vectors if np.array_equal(rows, np.arange(len(vectors))) else vectors.subset(rows)


def _lengths_above(source: Subset) -> list[int]:
    """How many images the sources hold that this one is a part of, the part itself excluded."""
    above: ImageSource = source
    lengths = []
    while isinstance(above, Subset):
        above = above.whole
        lengths.append(len(above))
    return [length for length in lengths if length != len(source)]


def validation_vectors(
    recipe: Recipe, images: ImageSource, out: Path, device: torch.device, group: Processes, quiet: bool = False
) -> VectorSet | None:
    """The old model's vectors of the validation images, in their order, made once; None where there is no old side.

    Raises:
        InputError: as `old_side`.
    """
    compatibility, validation = recipe.compatibility, recipe.validation
    if stored := compatibility.old_vectors or validation.old_vectors:
        return align(VectorSet.load(stored), images)
    if model := compatibility.old_model or validation.old_model:
        embedder = open_image_model(resolve_model(model), device=str(device))
        _check_channels(embedder, images)
        return _embed_once(embedder, images, out, group, quiet)
    return None


def _check_dims(recipe: Recipe, old: int, earlier: bool = False) -> None:
    new, prefix = recipe.model.embedding_dim, recipe.compatibility.prefix
    if earlier:
        if new < old:
            raise InputError(f"model.embedding_dim={new} but this model has {old} dimensions; give at least as many")
        return
    if prefix and new <= old:
        raise InputError(
            f"compatibility.prefix needs a new model wider than the old one, got {new} and {old} dimensions"
        )
    if not prefix and new != old:
        hint = "; compatibility.prefix=true compares the leading dimensions" if new > old else ""
        raise InputError(f"model.embedding_dim={new} but the old model has {old} dimensions{hint}")


def _check_channels(old: ImageModel, source: ImageSource) -> None:
    if old.preprocessing is not None and old.preprocessing.channels != source.image_shape[0]:
        raise InputError(
            f"the old model takes images of {old.preprocessing.channels} channel(s), {source.name} has "
            f"{source.image_shape[0]}; set data.channels={old.preprocessing.channels}"
        )


def _embed_once(embedder: ImageModel, source: ImageSource, out: Path, group: Processes, quiet: bool) -> VectorSet:
    folder = _folder(embedder.space.id, source, out)
    if group.first and not folder.exists():
        show = silent_bar if quiet else bar
        with show(f"old vectors by {embedder.name or 'the old model'}", len(source)) as advance:
            embed_to(embedder, source, folder, advance=advance, stand_ins=True)
    group.wait()
    return VectorSet.load(folder)


def _views_once(
    embedder: ImageModel, source: ImageSource, recipe: Recipe, out: Path, group: Processes, quiet: bool, embed: bool
) -> OldViews:
    views = _views_of(recipe)
    folder = _folder(embedder.space.id, source, out, views)
    if not embed and not folder.exists():
        return OldViews(views, views.numbers(source.ids), (_stand_in(embedder, source),) * views.count)
    if group.first:
        embed_views(embedder, source, views, folder, stand_ins=True, progress=silent_bar if quiet else bar)
    group.wait()
    return load_views(folder, source, align)


def _views_of(recipe: Recipe) -> FixedViews:
    return FixedViews(recipe.augment, int(recipe.compatibility.views or 1), recipe.seed)


def _folder(space: str, source: ImageSource, out: Path, views: FixedViews | None = None) -> Path:
    """Where vectors by the old model of a space are kept, or those of views."""
    name = f"{space}-{source.fingerprint()[:12]}"
    return (
        out.parent / "old-vectors" / name if views is None else out.parent / "old-views" / f"{name}-{views.identity()}"
    )


def _stand_in(embedder: ImageModel, source: ImageSource) -> VectorSet:
    """Unit vectors in the place of the embedder's, which take no memory: windows of one row of signs."""
    dim = embedder.embedding_dim
    signs = np.random.default_rng(0).choice([-1.0, 1.0], len(source) + dim - 1) / dim**0.5
    windows = np.lib.stride_tricks.sliding_window_view(signs.astype(np.float32), dim)
    return VectorSet(windows, source.ids, space=embedder.space)


def missing_vectors(
    recipe: Recipe, source: ImageSource, validation_images: ImageSource | None, out: Path
) -> dict[str, Counter[str]]:
    """What a training has yet to embed, by old model: how many `images`, `views` and `validation_images`."""
    method = METHODS[recipe.compatibility.method]
    missing: dict[str, Counter[str]] = {}
    for number, section in enumerate(each_old(recipe.compatibility)):
        model = section.old_model or (None if number else recipe.validation.old_model)
        if model is None:
            continue
        space = _space_id(resolve_model(model))
        wanted: dict[str, tuple[int, Path]] = {}
        if "vectors" in method.needs:
            wanted["images"] = len(source), _folder(space, source, out)
        if "views" in method.needs and isinstance(section.views, int):
            wanted["views"] = len(source) * section.views, _folder(space, source, out, _views_of(recipe))
        if validation_images is not None and not number:
            wanted["validation_images"] = len(validation_images), _folder(space, validation_images, out)
        missing[model] = Counter({what: count for what, (count, folder) in wanted.items() if not folder.exists()})
    return missing


def _space_id(model: Path) -> str:
    """The id of the old model's space; a folder of ours tells it without its weights."""
    config = model / "config.json"
    if config.is_file():
        return str(read_json(config, "the configuration of a model")["space"]["id"])
    return open_image_model(model, device="cpu").space.id


def seed_warning(recipe: Recipe) -> str | None:
    """A warning for a successor with the seed and network of its old model, whose recipe lies beside that model."""
    for section in each_old(recipe.compatibility):
        if section.old_model is None:
            continue
        file = resolve_model(section.old_model).parent / "recipe.yaml"
        old = read_yaml(file, "a recipe (YAML)", "sections") if file.is_file() else {}
        if old.get("seed") == recipe.seed and (old.get("model") or {}).get("backbone") == recipe.model.backbone:
            return (
                f"seed {recipe.seed} is also the old model's: with the same network the initial weights are the same, "
                "and compatibility may come from that; choose another"
            )
    return None
