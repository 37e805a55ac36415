"""`Gallery`: search across model versions, upgrade without re-embedding, backfill gradually, roll back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from samespace.errors import GalleryError, InputError, SamespaceError, SpaceError
from samespace.gallery import doctor
from samespace.gallery.adoption.handing_over import after_rollback, hand_over, release_lines
from samespace.gallery.backfill import run
from samespace.gallery.backfill.limits import Limits
from samespace.gallery.backfill.order import Custom, Order
from samespace.gallery.backfill.ray import run_on_ray
from samespace.gallery.backfill.rerank import rerank as rerank_hits
from samespace.gallery.backfill.run import Backfilled
from samespace.gallery.backfill.vector_source import FromImages, FromVectors, VectorSource
from samespace.gallery.canary_curve import CanaryCurve, canary_curve
from samespace.gallery.doctor import Diagnosis
from samespace.gallery.index.adopted.store import store_of
from samespace.gallery.index.adopted.sync import Synced, sync
from samespace.gallery.index.base import Source
from samespace.gallery.index.open import open_source_of, require_index
from samespace.gallery.ingest.add import Metadata, add_images, add_vectors
from samespace.gallery.ingest.checks import generation_of, require_calibrated
from samespace.gallery.ingest.images import ImagesLike, ItemEmbedder, ModelLike
from samespace.gallery.ingest.store import Added
from samespace.gallery.items import StoredItem, stored_item
from samespace.gallery.ledger.filters import Where
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import State, Upgrade
from samespace.gallery.models import absolute, embedder_of, embedders_at_hand, job_of, model_and_images, new_space
from samespace.gallery.quality import Quality, Queries, measure, require_known
from samespace.gallery.search.calibration import calibrate_pair
from samespace.gallery.search.earlier import Earlier
from samespace.gallery.search.query_vectors import fusion_of
from samespace.gallery.search.search import Answer, Merge, search
from samespace.gallery.search.traffic import Traffic
from samespace.gallery.status import Status, status
from samespace.gallery.upgrade import behind, upgrade
from samespace.gallery.upgrade.behind import BehindSwitch
from samespace.gallery.upgrade.expect import require_step
from samespace.gallery.upgrade.model_check import Canaries, canary_drift, require_same_model
from samespace.gallery.upgrade.plan import Plan, items_worth
from samespace.gallery.upgrade.seal import UNUSED_SECONDS, Sealed, seal
from samespace.gallery.upgrade.upgrade import NewSpace, Switched
from samespace.metrics.calibration import Calibration, Scale
from samespace.progress import Bar, silent
from samespace.space import Score, Space, undeclared
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate

LOG = logging.getLogger("samespace.gallery")


class Gallery:
    """Items with vectors of one or several spaces, searched as one.

    Every item is served by the newest space that has its vector, up to the space that queries use. An upgrade lets
    queries use a new space at once; a backfill gives the items new vectors one by one; until the seal a rollback is
    one row. Unlike spaces are never mixed without a certificate, and scores of unlike pairs are brought to one scale
    before they are merged.

    Safe to use from several threads, and the same gallery from several processes.

    Args:
        ledger: the source of truth.
        source: of snapshots for searches; by default what fits the ledger.
        index: see `open`.
        index_key: see `open`.

    Example:
        >>> import tempfile
        >>> space = Space(weights="00" * 32, preprocessing="none", dim=4, normalized=True, name="v1")
        >>> vectors = VectorSet.from_arrays(np.eye(4, dtype=np.float32), ids=["a", "b", "c", "d"], space=space)
        >>> with tempfile.TemporaryDirectory() as folder, Gallery.create(folder, space) as gallery:
        ...     added = gallery.add(vectors)
        ...     answer = gallery.search(vectors.subset(np.array([2])), k=2)
        >>> added.added, [(hit.item, hit.raw) for hit in answer.hits[0]]
        (4, [('c', 1.0), ('a', 0.0)])
    """

    def __init__(
        self, ledger: Ledger, source: Source | None = None, *, index: str | None = None, index_key: str | None = None
    ) -> None:
        self.ledger = ledger
        opened = partial(open_source_of, index=index, key=index_key)
        try:
            self.source = source or opened(ledger)
        except BaseException:
            ledger.close()
            raise
        self._traffic = Traffic(ledger)
        self._earlier = Earlier(ledger, opened)
        self._trusted: tuple[tuple[Any, ...], ItemEmbedder] | None = None

    @classmethod
    def create(
        cls,
        location: str | Path,
        space: Space | None = None,
        *,
        model: str | Path | None = None,
        images: str | None = None,
        scale: Scale = "logistic",
        index: str | None = None,
        index_key: str | None = None,
        score: Score = "cosine",
    ) -> Gallery:
        """Make an empty gallery.

        Args:
            location: a folder that is new or empty, or `postgresql://…`.
            space: of the vectors to come; the model's by default.
            model: folder of the model, remembered for adding images and for searching by image.
            images: the items' images, as a user names them, remembered for backfills.
            scale: what scores and thresholds are in: `logistic` for log-odds, `fmr` for −log10 of the false-match rate.
            index: address of a Qdrant server that holds the search index; by default files beside SQLite, or pgvector.
                Whoever opens the gallery names it again.
            index_key: the server's API key, by default QDRANT_API_KEY of the environment; it is not stored.
            score: what searches go by: cosine; `ip`, the inner product of vectors as they are given; `l2`, minus the
                squared distance of these. It holds for every space that upgrades bring, unless `begin_behind` says
                otherwise.

        Raises:
            InputError: neither a space nor a model, or a gallery is there already.
            GalleryError: the place cannot be written.
        """
        if scale not in ("logistic", "fmr"):
            raise InputError(f"there is no scale '{scale}'; legal: logistic, fmr")
        if score not in get_args(Score):
            raise InputError(f"there is no score '{score}'; legal: {', '.join(get_args(Score))}")
        folder = None
        if model is not None:
            from samespace.encoders import open_encoder
            from samespace.models import resolve_model

            folder = resolve_model(model)
            given = open_encoder(folder, device="cpu").space
            if space is not None and space != given:
                raise SpaceError(f"the model is of space {given}, not of {space}")
            space = space or given
        if space is None:
            raise InputError("a gallery needs its first space; give a model folder or vectors that declare their space")
        if index is not None:
            require_index(index, index_key)
        settings = {"scale": scale, "images": None if images is None else absolute(images), "index": index}
        made = Ledger.create(location, space, model=absolute(folder), settings=settings, score=score)
        return cls(made, index=index, index_key=index_key)

    @classmethod
    def open(
        cls,
        location: str | Path,
        *,
        read_only: bool = False,
        index: str | None = None,
        index_key: str | None = None,
    ) -> Gallery:
        """Open a gallery.

        A folder that cannot be written is opened read-only: searches work, everything else says why it does not.

        Args:
            location: a folder, or `postgresql://…`.
            read_only: never write.
            index: address of the Qdrant server, of a gallery made with one; by default SAMESPACE_INDEX of the
                environment. Nothing is connected to that is not named so.
            index_key: the server's API key, by default QDRANT_API_KEY of the environment.

        Raises:
            GalleryError: there is none, or it is damaged, or its index was not named.
        """
        return cls(Ledger.open(location, read_only=read_only), index=index, index_key=index_key)

    def __enter__(self) -> Gallery:
        """The gallery itself; `with` closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Write down the traffic and the queries that were counted, and let go of files and connections."""
        self._traffic.close()
        self._earlier.close()
        self.source.close()
        self.ledger.close()

    @property
    def location(self) -> str:
        """Where it is: a folder, or an address without its password."""
        return self.ledger.location

    @property
    def state(self) -> State:
        """Spaces, certificates, calibrations and upgrades as they are now."""
        return self.ledger.state()

    @property
    def space(self) -> Space:
        """The space that queries use now."""
        state = self.state
        return state.spaces[state.query].space

    def __len__(self) -> int:
        """How many items there are."""
        with self.ledger.read() as reader:
            return reader.live()

    def add(
        self,
        vectors: VectorSet,
        *,
        also: Sequence[VectorSet] = (),
        metadata: Metadata | None = None,
        update: bool = False,
        advance: Bar = silent,
    ) -> Added:
        """Add items by their vectors.

        Items go in in batches, each whole or not at all; the same call again carries on where it was cut off.

        Args:
            vectors: of the query space, with ids and perhaps labels; during a behind upgrade of either of its spaces.
            also: vectors of the same items in other spaces. During an upgrade give those of the old space, so that
                a rollback finds the new items too; during a behind upgrade what is not given goes on the work list.
            metadata: by item id; strings, numbers, booleans.
            update: replace items that are there with another content, and labels and metadata of all given.
            advance: called with how many more items are in.

        Raises:
            SpaceError: vectors of an undeclared or unknown space, or none of the query space.
            InputError: ids missing, vectors of the wrong shape or length, an item that is there with another content.
        """
        self._require_own_items()
        added = add_vectors(self.ledger, vectors, also, metadata=metadata, update=update, advance=advance)
        return self._compacted(added, advance)

    def add_images(
        self,
        images: ImagesLike | None = None,
        *,
        labelled: bool = True,
        metadata: Metadata | None = None,
        update: bool = False,
        batch_size: int = 256,
        device: str = "auto",
        loaded: Mapping[str, ModelLike] | None = None,
        advance: Bar = silent,
    ) -> Added:
        """Add items by their images, embedded by the recorded models: during an upgrade by the new and the old one.

        Args:
            images: a source, or what a user writes; the remembered one by default.
            labelled: store the source's classes as labels.
            metadata: by item id.
            update: replace items whose image has changed.
            batch_size: images embedded at once.
            device: of the models.
            loaded: models in memory, by the id of their space, in the place of the remembered ones.
            advance: called with how many more images are done.

        Raises:
            GalleryError: the query space's model is not at hand.
        """
        self._require_own_items()
        added = add_images(
            self.ledger, embedders_at_hand(self.state, images, device, loaded),
            labelled=labelled, metadata=metadata, update=update, batch_size=batch_size, advance=advance,
        )  # fmt: skip
        return self._compacted(added, advance)

    def get(self, name: str) -> StoredItem | None:
        """What the gallery knows of an item; None where it has none of this id."""
        with self.ledger.read() as reader:
            return stored_item(reader, name)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove items; how many. A backfill that has one in hand cannot bring it back.

        Raises:
            InputError: an id that the gallery does not have; nothing is removed.
        """
        self._require_own_items()
        with self.ledger.write() as writer:
            known = {name: item for name, item in writer.find(ids).items() if not item.deleted}
            unknown = [name for name in ids if name not in known]
            if unknown:
                raise InputError(f"the gallery has no item '{unknown[0]}'; nothing was removed")
            writer.remove_items(np.array(sorted({item.number for item in known.values()}), dtype=np.int64))
            writer.note("remove", items=len(known))
        return len(known)

    def search(
        self,
        queries: VectorSet,
        *,
        k: int = 10,
        where: Where = None,
        min_score: float | None = None,
        max_fmr: float | None = None,
        merge: Merge = "calibrated",
        scale: Scale | None = None,
        exact: bool = False,
        count: bool = True,
        fuse: float | None = None,
        old_queries: VectorSet | None = None,
    ) -> Answer:
        """Find the best items for each query, over all spaces that serve, as of one snapshot.

        Args:
            queries: vectors of the query space, or of an earlier one while an upgrade grants it grace: these find
                what that space has, and are counted.
            k: hits per query, at most.
            where: conditions on label and metadata, such as `{"shop": "berlin", "year": (">=", 2020)}`.
            min_score: least calibrated score.
            max_fmr: largest false-match rate: keep hits that score higher than all but this share of impostors of
                their own pair of spaces; the same threshold before, during and after an upgrade.
            merge: `raw` sorts by raw score across spaces, for comparison; it is what calibration is there to avoid.
            scale: of scores and of `min_score`; the gallery's by default.
            exact: look at every vector, also where there is an approximate index.
            count: count the hits as traffic, for a backfill in that order.
            fuse: share of the new query, from 0 to 1: search the items that are served by the space of `old_queries`
                with normalised (1 − fuse) old + fuse new, and all others with the new query alone.
            old_queries: the same queries by the older model; not needed once no older space serves an item.

        Raises:
            SpaceError: queries of another space, or a pair of spaces without certificate.
            GalleryError: pairs of spaces without calibration.
        """
        if queries.space is None:
            raise undeclared(queries.name)
        answer = search(
            self.source, queries.take(np.arange(len(queries))), queries.space,
            k=k, where=where, min_score=min_score, max_fmr=max_fmr, merge=merge, scale=scale, exact=exact,
            fusion=fusion_of(fuse, queries, old_queries), earlier=self._earlier,
        )  # fmt: skip
        if count:
            self._traffic.count(answer)
        return answer

    def rerank(
        self,
        queries: VectorSet,
        *,
        k: int = 10,
        depth: int = 100,
        where: Where = None,
        scale: Scale | None = None,
        images: ImagesLike | None = None,
        model: ModelLike | None = None,
        device: str = "auto",
    ) -> Answer:
        """Search in two stages: the best `depth` items, then these by new vectors of their images.

        Images that have no vector of the query space yet are embedded now and stored, as a backfill would.

        Args:
            queries: vectors of the query space.
            k: hits per query.
            depth: hits of the first stage.
            where: conditions on label and metadata.
            scale: of the scores.
            images: of the items; the remembered ones by default.
            model: of the query space; the remembered one by default.
            device: of the model.
        """
        if depth < k:
            raise InputError(f"the first stage should find at least the {k} hits wanted, got depth={depth}")
        if queries.space is not None and queries.space != self.space:
            raise SpaceError(f"a second stage is for queries of space {self.space}, got {queries.space}")
        answer = self.search(queries, k=depth, where=where, scale=scale)
        state = self.state
        embedder = self._checked_embedder(state, state.query, model, images, device)
        return rerank_hits(self.ledger, answer, queries.take(np.arange(len(queries))), embedder, k=k, scale=scale)

    def calibrate(
        self,
        queries: VectorSet,
        gallery: VectorSet,
        *,
        certificate: Certificate | None = None,
        fuse: float | None = None,
        old_queries: VectorSet | None = None,
    ) -> Calibration:
        """Learn how scores of a pair of spaces relate to matches, from labelled vectors that neither model saw.

        Args:
            queries: labelled, of a space that the gallery knows.
            gallery: labelled, of the same or an earlier space; items that are in both by id are not paired.
            certificate: that links the two, where they differ and the gallery has none yet.
            fuse: learn the scores of fused queries with this share of the new one, for `search` with the same share.
            old_queries: the same queries in the space of `gallery`, to be fused.

        Raises:
            SpaceError: a space that the gallery does not know, or a pair that nothing links.
            InputError: no labels, or too few pairs.
        """
        fusion = fusion_of(fuse, queries, old_queries)
        return calibrate_pair(self.ledger, queries, gallery, certificate=certificate, fusion=fusion)

    def check_model(self, space: Space | None = None, *, device: str = "auto") -> Canaries:
        """Re-embed the canaries of a space with its remembered model.

        Raises:
            SpaceError: the model is not the one that made the vectors.
        """
        state = self.state
        generation = state.query if space is None else generation_of(state, space)
        return require_same_model(self.ledger, generation, embedder_of(state, generation, None, None, device))

    def canary_drift(self, loaded: Mapping[str, ModelLike]) -> dict[str, float]:
        """How far models are from those that made the stored vectors: 1 − the lowest cosine of a canary, by space.

        `loaded`: models in memory, by the id of their space; those without canaries, or without images, are left out.
        """
        state, found = self.state, {}
        for generation, kept in state.spaces.items():
            if kept.space.id in loaded:
                try:
                    embedder = embedder_of(state, generation, loaded[kept.space.id], None, "auto")
                    if (drift := canary_drift(self.ledger, generation, embedder)) is not None:
                        found[kept.space.id] = drift
                except SamespaceError as error:
                    LOG.info("the canaries of %s were not looked at: %s", kept.space, error)
        return found

    def plan(
        self,
        model: ModelLike | Space,
        certificates: Sequence[Certificate] = (),
        *,
        order: Order | None = None,
        images: ImagesLike | None = None,
        accept_uncertified: bool = False,
        behind: bool = False,
        score: Score | None = None,
        device: str = "auto",
    ) -> Plan:
        """Work out an upgrade and write it down; nothing changes for searches.

        Args:
            model: the new model, or its space where only its vectors are at hand.
            certificates: one for each pair of the new space with one that the gallery holds.
            order: of the backfill; the best of the certificate's sweep by default.
            images: of the items, to measure the rate; the remembered ones by default.
            accept_uncertified: accept pairs without a certificate.
            behind: plan one that `begin_behind` begins, which needs neither certificates nor calibrations.
            score: as for `begin_behind`.
            device: of the model.
        """
        new = new_space(self.state, model, images, device, score)
        return upgrade.plan(
            self.ledger, new, certificates, order=order, accept_uncertified=accept_uncertified, behind=behind
        )

    def upgrade(
        self,
        model: ModelLike | Space | None = None,
        certificates: Sequence[Certificate] = (),
        *,
        order: Order | None = None,
        images: ImagesLike | None = None,
        accept_uncertified: bool = False,
        grace: bool = False,
        expect: int | None = None,
        device: str = "auto",
    ) -> Switched:
        """Let queries use the new space from now on; nothing is re-embedded.

        Args:
            model: as for `plan`; the planned one by default.
            certificates: as for `plan`; those given there count.
            order: of the backfill to come.
            images: of the items, for canaries.
            accept_uncertified: go on without a certificate; said aloud and recorded.
            grace: answer queries of the present space, too, until the seal.
            expect: as for `rollback`.
            device: of the model.

        Raises:
            SpaceError: a pair without a certificate, or a model that is not what it claims to be.
            GalleryError: nothing was planned, or the upgrade is not possible now.
        """
        new = self._new_space(model, images, device, expect=expect)
        return upgrade.open_upgrade(
            self.ledger, new, certificates,
            order=order, accept_uncertified=accept_uncertified, grace=grace, expect=expect,
        )  # fmt: skip

    def begin_behind(
        self,
        model: ModelLike | Space | None = None,
        *,
        order: Order | None = None,
        images: ImagesLike | None = None,
        score: Score | None = None,
        grace: bool = False,
        expect: int | None = None,
        device: str = "auto",
    ) -> Plan:
        """Begin an upgrade to a model that need not be compatible: queries stay until its space is filled.

        No vector of one space is ever compared with one of the other. `backfill` fills the new space, `add` stores new
        items in both, `quality` compares the two, `switch` lets queries use the new one, and `rollback` gives up.

        Args:
            model: as for `plan`; the planned one by default.
            order: of the backfill to come.
            images: of the items, for canaries and to measure the rate.
            score: what searches of the new vectors go by; as now by default.
            grace: answer queries of the present space, too, between the switch and the seal.
            expect: as for `rollback`.
            device: of the model.

        Raises:
            SpaceError: a model that is not what it claims to be.
            GalleryError: another upgrade is being filled, or the upgrade is not possible now.
        """
        new = self._new_space(model, images, device, score, expect=expect)
        return behind.begin_behind(self.ledger, new, order=order, grace=grace, expect=expect)

    def quality(self, queries: Queries | None = None) -> Quality:
        """How well the new side of a behind upgrade searches, against the old side on the same items; written down.

        Args:
            queries: the same labelled queries by the old and by the new model; by default the labelled items
                themselves, each against all others.

        Raises:
            InputError: queries without labels, or that do not go with each other or with the two spaces.
            GalleryError: no behind upgrade is under way.
        """
        state = self.state
        under_way = require_known(state.filling or state.upgrade, self.location)
        found = measure(self.ledger, under_way, queries)
        if not self.ledger.read_only:
            with self.ledger.write() as writer:
                for one in writer.state().upgrades:
                    if one.number == under_way.number:
                        writer.set_upgrade(one, plan={**one.plan, "quality": found.to_dict()})
        return found

    def canary_curve(self) -> CanaryCurve:
        """How well the canaries find their own class at every share of the backfill so far, beside the plan's curve."""
        with self.ledger.read() as reader:
            return canary_curve(reader)

    def switch(
        self,
        *,
        share: float | None = None,
        queries: Queries | None = None,
        accept_worse: bool = False,
        grace: bool = False,
        expect: int | None = None,
    ) -> BehindSwitch:
        """Let queries use the space that a behind upgrade has filled; until the seal `rollback` undoes it.

        Args:
            share: switch although items lack a new vector, once this share has one. The others are named, and found by
                no search until they are embedded, or a rollback; the seal removes them.
            queries: to measure the quality with, as for `quality`.
            accept_worse: switch although the new side is measurably worse; recorded.
            grace: answer queries of the present space, too, until the seal.
            expect: as for `rollback`.

        Raises:
            GalleryError: items lack the new vector, the new side is measurably worse, or nothing is being filled.
        """
        with self.ledger.read() as reader:
            require_step(reader, expect)
            under_way = behind.being_filled(reader.state(), self.location)
        found = measure(self.ledger, under_way, queries)
        return behind.switch(self.ledger, found, share=share, accept_worse=accept_worse, grace=grace, expect=expect)

    def backfill(
        self,
        *,
        order: Order | Custom | None = None,
        vectors: VectorSet | None = None,
        model: ModelLike | None = None,
        images: ImagesLike | None = None,
        limits: Limits | None = None,
        epsilon: float | None = None,
        workers: int = 1,
        on: Literal["processes", "ray"] = "processes",
        retry: bool = False,
        seed: int = 0,
        device: str = "auto",
        advance: Bar = silent,
        stop: threading.Event | None = None,
    ) -> Backfilled:
        """Give items without a vector of the query space one, until none is left or a limit is reached.

        During a behind upgrade: of its new space, or of the space of the given vectors; where searches do not find
        items for want of a vector, first of the query space.

        Can be killed at any moment and called again, from as many processes as wanted: the work list in the ledger is
        the checkpoint.

        Args:
            order: of the items, or the user's own; the upgrade's by default.
            vectors: made elsewhere, by item id, instead of model and images.
            model: of the query space; the remembered one by default.
            images: of the items; the remembered ones by default.
            limits: batch size, lease, budget, rate, latency of searches.
            epsilon: stop when the gain that remains, by the certificate's check set, is below this.
            workers: how many; several need a model folder and images by name.
            on: where several workers run: processes of this machine, or actors of a Ray cluster.
            retry: try again what could not be embedded before.
            seed: of the random order.
            device: of the model.
            advance: called with how many more items are done, and a note.
            stop: set to end after the batch in hand; for one worker.

        Raises:
            GalleryError: the gallery could not be searched half way, for want of calibrations.
            SpaceError: a model or vectors of another space.
        """
        limits = limits or Limits()
        if workers < 1:
            raise InputError(f"workers should be at least 1, got {workers}")
        if store_of(self.source) is not None:
            self.sync()
        target = self.require_fillable(order=order, vectors=vectors, model=model, images=images, epsilon=epsilon)
        state = self.state
        vector_source = self._vector_source(state, target, vectors, model, images, device)
        if retry:
            with self.ledger.write() as writer:
                writer.retry(target)
        run.list_work(self.ledger, order, generation=target, seed=seed)
        if epsilon is not None:
            most = items_worth(self.ledger, epsilon, order)
            if not most:
                return Backfilled(0, 0, {}, 0.0, 0, f"the gain that remains is below {epsilon:g} by the check set")
            limits = replace(limits, items=min(most, limits.items or most))
        # the index of a space that is being filled grows with it, so that the switch finds one
        source = self.source if target == state.query else self._earlier.source(target)
        if workers == 1 and on == "processes":
            done = run.run_one(
                self.ledger, vector_source, limits, source=self.source, indexed=source, generation=target,
                advance=advance, stop=stop,
            )  # fmt: skip
        else:
            job = job_of(self.ledger, state, target, vectors, model, images, limits, device)
            run_workers = run_on_ray if on == "ray" else run.run_many
            done = run_workers(self.ledger, job, workers, source=source, advance=advance)
        if vectors is not None and not done.stored:
            done = replace(done, ended=run.nothing_lacked(self.ledger, target) or done.ended)
        upgrade_to = self.state.upgrade_to(target)
        if upgrade_to is None or not upgrade_to.behind:
            return done
        return replace(done, quality=self.quality())

    def require_fillable(
        self,
        *,
        order: Order | Custom | None = None,
        vectors: VectorSet | None = None,
        model: ModelLike | None = None,
        images: ImagesLike | None = None,
        epsilon: float | None = None,
    ) -> int:
        """Refuse a backfill that could not begin; nothing is loaded. Arguments and errors as of `backfill`.

        Returns the number of the space that it would fill.
        """
        state = self.state
        require_calibrated(state)
        target = self._target(state, vectors)
        if vectors is None:
            model_and_images(state, target, model, images)
        if epsilon is not None:
            items_worth(self.ledger, epsilon, order)
        return target

    def pause(self, *, expect: int | None = None) -> Upgrade:
        """Let the workers of the upgrade wait before they claim more. `expect` as for `rollback`."""
        return upgrade.set_paused(self.ledger, True, expect=expect)

    def resume(self, *, expect: int | None = None) -> Upgrade:
        """Let waiting workers go on. `expect` as for `rollback`."""
        return upgrade.set_paused(self.ledger, False, expect=expect)

    def rollback(self, *, expect: int | None = None) -> Switched:
        """Let queries use the space from before the upgrade again; `upgrade` rolls forward.

        A second one undoes the upgrade before, and after the switch of a behind upgrade it gives that up.

        Args:
            expect: `steps_taken` as `status` told it: refused where another step was taken since, so that the same
                call may be made again when its answer was lost.

        Raises:
            GalleryError: no upgrade is under way, it is sealed, or another step was taken.
        """
        done = upgrade.rollback(self.ledger, expect=expect)
        known = () if store_of(self.source) is None else after_rollback(self.ledger)
        return replace(done, notes=(*done.notes, *known))

    def seal(
        self,
        *,
        partial: bool = False,
        unused_for: float = UNUSED_SECONDS,
        end_grace: bool = False,
        drop_index: bool = False,
        expect: int | None = None,
        advance: Bar = silent,
    ) -> Sealed:
        """Delete the old vectors after a counted check; from then on there is no way back.

        In an adopted table nothing is deleted: the new vectors take the place of the old ones there, see `release_sql`.

        Args:
            partial: seal although some items lack a new vector; they keep their old one.
            unused_for: seconds in which no query of an earlier space must have come, where an upgrade grants it grace.
            end_grace: seal although such queries still come; they are refused from then on.
            drop_index: of an adopted table: drop the indexes on the old vectors first, see `release_sql`.
            expect: as for `rollback`.
            advance: called with how many more vectors are deleted.

        Raises:
            GalleryError: no upgrade is under way, items lack the new vector, or queries of an earlier space still come.
        """
        self._earlier.write()
        before = self._size()
        store = store_of(self.source)
        if store is not None:
            if partial:
                raise GalleryError(
                    f"{self.location}: an adopted table is handed over whole; backfill what is left first"
                )
            with self.ledger.read() as reader:
                require_step(reader, expect)
            sealed = hand_over(
                self.ledger, store,
                unused_for=unused_for, end_grace=end_grace, drop_index=drop_index, expect=expect, advance=advance,
            )  # fmt: skip
        else:
            sealed = seal(
                self.ledger, partial=partial, unused_for=unused_for, end_grace=end_grace, expect=expect, advance=advance
            )
        self._compact(advance)
        return replace(sealed, freed=max(0, before - self._size()))

    def sync(self, *, advance: Bar = silent) -> Synced:
        """List what an application has added, changed or deleted in its own table since the last time.

        Args:
            advance: called with how many more rows were listed.

        Raises:
            GalleryError: the gallery has adopted no table.
        """
        store = store_of(self.source)
        if store is None:
            raise GalleryError(f"{self.location} has adopted no table: its items change by 'add' and 'remove' only")
        return sync(self.ledger, store, advance=advance)

    def release_sql(self, *, drop_index: bool = False) -> list[str]:
        """What a seal does in the application's table, as SQL, or in its collection, as calls; empty without either.

        `drop_index`: the indexes on the old vectors are dropped first. Each copied row would go through them once more,
        which takes most of the time; without them the application's vector queries look at every row meanwhile.

        Raises:
            GalleryError: the vectors cannot be handed over now.
        """
        store = store_of(self.source)
        return [] if store is None else release_lines(self.ledger, store, drop_index=drop_index)

    def status(self) -> Status:
        """Spaces, items, upgrade, work, workers, rate and time left."""
        return status(self.ledger, self.source)

    def doctor(
        self, *, models: bool = False, repair: bool = False, device: str = "auto", advance: Bar = silent
    ) -> Diagnosis:
        """Look at everything, every stored vector included, and say what to do.

        Args:
            models: re-embed the canaries with the remembered models.
            repair: bring the indexes up to date; no item and no vector is ever changed.
            device: of the models.
            advance: called with how many more vectors were read.
        """
        state = self.state
        embedders = {
            generation: embedder_of(state, generation, None, None, device)
            for generation, kept in state.spaces.items()
            if models and kept.model is not None and not kept.retired
        }
        return doctor.examine(self.ledger, self.source, embedders=embedders, repair=repair, advance=advance)

    def maintain(self, *, advance: Bar = silent) -> None:
        """Bring the indexes up to date; searches go on meanwhile.

        Args:
            advance: called with a note of what is being built.
        """
        self.source.maintain(lambda rows, note: advance(0, note))
        self._earlier.maintain(self.state, lambda rows, note: advance(0, note))

    def write_traffic(self) -> None:
        """Write down how often searches returned each item, and how many queries of earlier spaces came.

        Raises:
            GalleryError: it cannot be written; the counts are kept for the next time.
        """
        self._traffic.write()
        self._earlier.write()

    def _new_space(
        self,
        model: ModelLike | Space | None,
        images: ImagesLike | None,
        device: str,
        score: Score | None = None,
        *,
        expect: int | None,
    ) -> NewSpace:
        """The space of an upgrade, by default of the planned one."""
        with self.ledger.read() as reader:
            require_step(reader, expect)
            state = reader.state()
        if model is None:
            kept = upgrade.planned(state, self.ledger.location)
            model, score = kept.model or kept.space, score or kept.score
        return new_space(state, model, images, device, score)

    def _target(self, state: State, vectors: VectorSet | None) -> int:
        """The generation that a backfill fills."""
        if vectors is None:
            with self.ledger.read() as reader:
                return behind.backfill_target(reader, state)
        target = generation_of(state, vectors.space, vectors.name)
        if target not in state.sides:
            wanted = " or ".join(str(state.spaces[one].space) for one in state.sides)
            raise SpaceError(f"expected vectors of space {wanted}, got {vectors.space}")
        return target

    def _vector_source(
        self,
        state: State,
        target: int,
        vectors: VectorSet | None,
        model: ModelLike | None,
        images: ImagesLike | None,
        device: str,
    ) -> VectorSource:
        """Where a backfill takes its vectors from."""
        if vectors is None:
            return FromImages(self._checked_embedder(state, target, model, images, device))
        return FromVectors(vectors, state.spaces[target].space, state.spaces[target].score)

    def _checked_embedder(
        self, state: State, generation: int, model: ModelLike | None, images: ImagesLike | None, device: str
    ) -> ItemEmbedder:
        """The model of a space with the images, its canaries compared; loaded and checked once."""
        asked = (generation, model, images, device)
        if self._trusted is None or any(one is not other for one, other in zip(asked, self._trusted[0], strict=True)):
            embedder = embedder_of(state, generation, model, images, device)
            require_same_model(self.ledger, generation, embedder)
            self._trusted = (asked, embedder)
        return self._trusted[1]

    def _size(self) -> int:
        """Bytes of all files, of a gallery in a folder."""
        total = 0
        for file in Path(self.location).rglob("*"):
            # files come and go under another process
            with suppress(OSError):
                total += file.stat().st_size
        return total

    def _require_own_items(self) -> None:
        store = store_of(self.source)
        if store is not None:
            raise GalleryError(
                f"{self.location}: its items are the rows of {store.name}; add, change and delete them there, "
                "gallery.sync() lists what has changed"
            )

    def _compacted(self, added: Added, advance: Bar) -> Added:
        if added.added or added.updated or added.filled:
            self._compact(advance)
        return added

    def _compact(self, advance: Bar) -> None:
        """Bring the indexes up to date after a change that is stored already."""
        # an index that lags is slow, not wrong, and `status` and `doctor` report it; the change stands
        with suppress(GalleryError, OSError):
            self.maintain(advance=advance)
