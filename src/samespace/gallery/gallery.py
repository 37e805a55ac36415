"""`Gallery`: search across model versions, upgrade without re-embedding, backfill gradually, roll back."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np

from samespace.errors import GalleryError, InputError, SpaceError
from samespace.files import size_below
from samespace.gallery import doctor
from samespace.gallery.adoption.handing_over import after_rollback, release_lines, seal_or_hand_over
from samespace.gallery.backfill.limits import Limits
from samespace.gallery.backfill.order import Custom, Order
from samespace.gallery.backfill.rerank import rerank as rerank_hits
from samespace.gallery.backfill.run import Backfilled
from samespace.gallery.canary_curve import CanaryCurve, canary_curve
from samespace.gallery.creation import new_ledger
from samespace.gallery.doctor import Diagnosis
from samespace.gallery.filling import Supply, fill, require_fillable
from samespace.gallery.index.adopted.store import require_own_items, require_store, store_of
from samespace.gallery.index.adopted.sync import Synced, sync
from samespace.gallery.index.base import Source
from samespace.gallery.index.open import open_source_of
from samespace.gallery.ingest.add import Metadata, add_images, add_vectors
from samespace.gallery.ingest.checks import generation_of
from samespace.gallery.ingest.images import ImagesLike, ModelLike
from samespace.gallery.ingest.remove import remove_items
from samespace.gallery.ingest.store import Added
from samespace.gallery.items import StoredItem, stored_item
from samespace.gallery.ledger.filters import Where
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import State, Upgrade
from samespace.gallery.models import embedder_of, embedders_at_hand, new_space, next_space
from samespace.gallery.quality import Quality, Queries, measure_and_note
from samespace.gallery.search.calibration import calibrate_pair
from samespace.gallery.search.earlier import Earlier
from samespace.gallery.search.queries import queries_by_image
from samespace.gallery.search.query_vectors import certified_share, fusion_of
from samespace.gallery.search.search import Answer, Merge, search
from samespace.gallery.search.traffic import Traffic
from samespace.gallery.status import Status, status
from samespace.gallery.trusted import TrustedModel, canary_drifts, remembered_embedders
from samespace.gallery.upgrade import behind, upgrade
from samespace.gallery.upgrade.behind import BehindSwitch
from samespace.gallery.upgrade.model_check import Canaries, require_same_model
from samespace.gallery.upgrade.plan import Plan
from samespace.gallery.upgrade.seal import UNUSED_SECONDS, Sealed
from samespace.gallery.upgrade.upgrade import Switched
from samespace.metrics.calibration import Calibration, Scale
from samespace.progress import Bar, silent
from samespace.space import Score, Space, undeclared
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate


class Gallery:
    """Items with vectors of one or several spaces, searched as one.

    Every item is served by the newest space that has its vector, up to the space that queries use. An upgrade lets
    queries use a new space at once; a backfill gives the items new vectors one by one; until the seal a rollback is
    one row. Unlike spaces are never mixed without a certificate, and scores of unlike pairs are brought to one scale
    before they are merged.

    Safe to use from several threads, and the same gallery from several processes. The methods, by what they are for:

    - to make and open one: `create`, `open`, `close`;
    - items: `add`, `add_images`, `get`, `remove`, and `sync` where they are rows of an application's own table;
    - searches: `search`, `search_images`, `rerank`, `calibrate`;
    - an upgrade: `plan`, `upgrade`, `backfill`, `pause`, `resume`, `rollback`, `seal`; to a model that is not
      compatible `begin_behind`, `quality` and `switch`;
    - looking, and upkeep: `status`, `doctor`, `check_model`, `canary_drift`, `canary_curve`, `maintain`.

    Args:
        ledger: the source of truth.
        source: of snapshots for searches; by default what fits the ledger.
        index: as for `open`.
        index_key: as for `open`.

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
        self._trusted = TrustedModel(ledger)

    @classmethod
    def create(
        cls, location: str | Path, space: Space | None = None, *, model: str | Path | None = None,
        images: str | None = None, scale: Scale = "logistic", index: str | None = None, index_key: str | None = None,
        score: Score = "cosine",
    ) -> Gallery:  # fmt: skip
        """Make an empty gallery.

        Args:
            location: a folder that is new or empty, or `postgresql://…`.
            space: of the vectors to come; the model's by default.
            model: folder of the model, remembered for adding images and for searching by image.
            images: the items' images, as a user names them, remembered for backfills.
            scale: what scores and thresholds are in: `logistic` for log-odds, `fmr` for −log10 of the false-match rate.
            index: address of a Qdrant server that holds the search index; by default files beside SQLite, or pgvector.
            index_key: as for `open`; it is not stored.
            score: what searches go by: `cosine`, the inner product `ip`, or `l2`, minus the squared distance. It holds
                for every space that upgrades bring, unless `begin_behind` says otherwise.

        Raises:
            InputError: neither a space nor a model, or a gallery is there already.
            GalleryError: the place cannot be written.
        """
        made = new_ledger(
            location, space,
            model=model, images=images, scale=scale, index=index, index_key=index_key, score=score,
        )  # fmt: skip
        return cls(made, index=index, index_key=index_key)

    @classmethod
    def open(
        cls, location: str | Path, *, read_only: bool = False, index: str | None = None, index_key: str | None = None
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
        self, vectors: VectorSet, *, also: Sequence[VectorSet] = (), metadata: Metadata | None = None,
        update: bool = False, advance: Bar = silent,
    ) -> Added:  # fmt: skip
        """Add items by their vectors.

        They go in in batches, each whole or not at all; the same call again carries on where it was cut off.

        Args:
            vectors: of the query space, with ids and perhaps labels; during a behind upgrade of either of its spaces.
            also: vectors of the same items in other spaces; those of the old one let a rollback find the items, too.
            metadata: by item id; strings, numbers, booleans.
            update: replace items that are there with another content, and labels and metadata of all given.
            advance: called with how many more items are in.

        Raises:
            SpaceError: vectors of an undeclared or unknown space, or none of the query space.
            InputError: ids missing, vectors of the wrong shape or length, an item that is there with another content.
        """
        require_own_items(self.source, self.location)
        added = add_vectors(self.ledger, vectors, also, metadata=metadata, update=update, advance=advance)
        return self._compacted(added, advance)

    def add_images(
        self, images: ImagesLike | None = None, *, labelled: bool = True, metadata: Metadata | None = None,
        update: bool = False, batch_size: int = 256, device: str = "auto",
        loaded: Mapping[str, ModelLike] | None = None, advance: Bar = silent,
    ) -> Added:  # fmt: skip
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
        require_own_items(self.source, self.location)
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
        require_own_items(self.source, self.location)
        return remove_items(self.ledger, ids)

    def search(
        self, queries: VectorSet, *, k: int = 10, where: Where = None, min_score: float | None = None,
        max_fmr: float | None = None, merge: Merge = "calibrated", scale: Scale | None = None, exact: bool = False,
        count: bool = True, fuse: float | None = None, old_queries: VectorSet | None = None,
    ) -> Answer:  # fmt: skip
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
                By default, with `old_queries`, as their certificate asks.
            old_queries: the same queries by the older model; not needed once no older space serves an item.

        Raises:
            SpaceError: queries of another space, or a pair of spaces without certificate.
            GalleryError: pairs of spaces without calibration.
        """
        if queries.space is None:
            raise undeclared(queries.name)
        if fuse is None and old_queries is not None:
            fuse = certified_share(self.state, old_queries)
        answer = search(
            self.source, queries.take(np.arange(len(queries))), queries.space,
            k=k, where=where, min_score=min_score, max_fmr=max_fmr, merge=merge, scale=scale, exact=exact,
            fusion=fusion_of(fuse, queries, old_queries), earlier=self._earlier,
        )  # fmt: skip
        if count:
            self._traffic.count(answer)
        return answer

    def search_images(
        self, images: Sequence[Path | bytes], *, k: int = 10, where: Where = None, max_fmr: float | None = None,
        model: ModelLike | None = None, old_model: ModelLike | None = None, device: str = "auto",
    ) -> Answer:  # fmt: skip
        """Find the best items for each image file, or its bytes, embedded by the remembered model.

        While items are served whose certificate is of fused queries, the older model embeds the images, too.

        Args:
            images: files, or what they hold.
            k: hits per image.
            where: conditions on label and metadata.
            max_fmr: largest false-match rate, as in `search`.
            model: in the place of the remembered one.
            old_model: in the place of the remembered one of the older space.
            device: of the models.
        """
        new, old = queries_by_image(self.source, self.state, images, model=model, old_model=old_model, device=device)
        return self.search(new, k=k, where=where, max_fmr=max_fmr, old_queries=old)

    def rerank(
        self, queries: VectorSet, *, k: int = 10, depth: int = 100, where: Where = None, scale: Scale | None = None,
        old_queries: VectorSet | None = None, images: ImagesLike | None = None, model: ModelLike | None = None,
        device: str = "auto",
    ) -> Answer:  # fmt: skip
        """Search in two stages: the best `depth` items, then these by new vectors of their images.

        Images that have no vector of the query space yet are embedded now and stored, as a backfill would.

        Args:
            queries: vectors of the query space.
            k: hits per query.
            depth: hits of the first stage.
            where: conditions on label and metadata.
            scale: of the scores.
            old_queries: the same by the older model, where its certificate is of fused queries.
            images: of the items; the remembered ones by default.
            model: of the query space; the remembered one by default.
            device: of the model.
        """
        if depth < k:
            raise InputError(f"the first stage should find at least the {k} hits wanted, got depth={depth}")
        if queries.space is not None and queries.space != self.space:
            raise SpaceError(f"a second stage is for queries of space {self.space}, got {queries.space}")
        answer = self.search(queries, k=depth, where=where, scale=scale, old_queries=old_queries)
        state = self.state
        embedder = self._trusted.embedder(state, state.query, model, images, device)
        return rerank_hits(self.ledger, answer, queries.take(np.arange(len(queries))), embedder, k=k, scale=scale)

    def calibrate(
        self, queries: VectorSet, gallery: VectorSet, *, certificate: Certificate | None = None,
        fuse: float | None = None, old_queries: VectorSet | None = None,
    ) -> Calibration:  # fmt: skip
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

    def plan(
        self, model: ModelLike | Space, certificates: Sequence[Certificate] = (), *, order: Order | None = None,
        images: ImagesLike | None = None, accept_uncertified: bool = False, behind: bool = False,
        score: Score | None = None, device: str = "auto",
    ) -> Plan:  # fmt: skip
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
        self, model: ModelLike | Space | None = None, certificates: Sequence[Certificate] = (), *,
        order: Order | None = None, images: ImagesLike | None = None, accept_uncertified: bool = False,
        grace: bool = False, expect: int | None = None, device: str = "auto",
    ) -> Switched:  # fmt: skip
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
        new = next_space(self.ledger, model, images, device, expect=expect)
        return upgrade.open_upgrade(
            self.ledger, new, certificates,
            order=order, accept_uncertified=accept_uncertified, grace=grace, expect=expect,
        )  # fmt: skip

    def begin_behind(
        self, model: ModelLike | Space | None = None, *, order: Order | None = None, images: ImagesLike | None = None,
        score: Score | None = None, grace: bool = False, expect: int | None = None, device: str = "auto",
    ) -> Plan:  # fmt: skip
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
        new = next_space(self.ledger, model, images, device, score, expect=expect)
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
        return measure_and_note(self.ledger, queries)

    def switch(
        self, *, share: float | None = None, queries: Queries | None = None, accept_worse: bool = False,
        grace: bool = False, expect: int | None = None,
    ) -> BehindSwitch:  # fmt: skip
        """Let queries use the space that a behind upgrade has filled; until the seal `rollback` undoes it.

        Args:
            share: switch once this share of the items has a new vector. The others are named, and found by no search
                until they are embedded, or a rollback; the seal removes them.
            queries: to measure the quality with, as for `quality`.
            accept_worse: switch although the new side is measurably worse; recorded.
            grace: answer queries of the present space, too, until the seal.
            expect: as for `rollback`.

        Raises:
            GalleryError: items lack the new vector, the new side is measurably worse, or nothing is being filled.
        """
        return behind.switch(self.ledger, queries, share=share, accept_worse=accept_worse, grace=grace, expect=expect)

    def backfill(
        self, *, order: Order | Custom | None = None, vectors: VectorSet | None = None, model: ModelLike | None = None,
        images: ImagesLike | None = None, limits: Limits | None = None, epsilon: float | None = None, workers: int = 1,
        on: Literal["processes", "ray"] = "processes", retry: bool = False, seed: int = 0, device: str = "auto",
        advance: Bar = silent, stop: threading.Event | None = None,
    ) -> Backfilled:  # fmt: skip
        """Give items without a vector of the query space one, until none is left or a limit is reached.

        During a behind upgrade: of its new space, or of the space of the given vectors; where searches do not find
        items for want of a vector, first of the query space. Can be killed at any moment and called again, from as many
        processes as wanted.

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
        return fill(
            self.ledger, self.source, Supply(vectors, model, images, device), limits or Limits(),
            earlier=self._earlier, trusted=self._trusted, order=order, epsilon=epsilon, workers=workers, on=on,
            retry=retry, seed=seed, advance=advance, stop=stop,
        )  # fmt: skip

    def require_fillable(
        self, *, order: Order | Custom | None = None, vectors: VectorSet | None = None, model: ModelLike | None = None,
        images: ImagesLike | None = None, epsilon: float | None = None,
    ) -> int:  # fmt: skip
        """Refuse a backfill that could not begin; nothing is loaded. Arguments and errors as of `backfill`.

        Returns the number of the space that it would fill.
        """
        return require_fillable(self.ledger, Supply(vectors, model, images), order=order, epsilon=epsilon)

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
        return replace(done, notes=(*done.notes, *after_rollback(self.ledger, store_of(self.source))))

    def seal(
        self, *, partial: bool = False, unused_for: float = UNUSED_SECONDS, end_grace: bool = False,
        drop_index: bool = False, expect: int | None = None, advance: Bar = silent,
    ) -> Sealed:  # fmt: skip
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
        before = size_below(Path(self.location))
        sealed = seal_or_hand_over(
            self.ledger, store_of(self.source), partial=partial, unused_for=unused_for, end_grace=end_grace,
            drop_index=drop_index, expect=expect, advance=advance,
        )  # fmt: skip
        self._compact(advance)
        return replace(sealed, freed=max(0, before - size_below(Path(self.location))))

    def sync(self, *, advance: Bar = silent) -> Synced:
        """List what an application has added, changed or deleted in its own table since the last time.

        Args:
            advance: called with how many more rows were listed.

        Raises:
            GalleryError: the gallery has adopted no table.
        """
        return sync(self.ledger, require_store(self.source, self.location), advance=advance)

    def release_sql(self, *, drop_index: bool = False) -> list[str]:
        """What a seal does in the application's table, as SQL, or in its collection, as calls; empty without either.

        `drop_index`: the indexes on the old vectors are dropped first. That saves most of the time; the application's
        vector queries look at every row meanwhile.

        Raises:
            GalleryError: the vectors cannot be handed over now.
        """
        return release_lines(self.ledger, store_of(self.source), drop_index=drop_index)

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
        embedders = remembered_embedders(self.state, device) if models else {}
        return doctor.examine(self.ledger, self.source, embedders=embedders, repair=repair, advance=advance)

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
        return canary_drifts(self.ledger, loaded)

    def canary_curve(self) -> CanaryCurve:
        """How well the canaries find their own class at every share of the backfill so far, beside the plan's curve."""
        with self.ledger.read() as reader:
            return canary_curve(reader)

    def maintain(self, *, advance: Bar = silent) -> None:
        """Bring the indexes up to date; searches go on meanwhile.

        Args:
            advance: called with a note of what is being built.
        """
        self.source.maintain(lambda rows, note: advance(0, note))
        self._earlier.maintain(self.state, lambda rows, note: advance(0, note))
        # not when it is opened: a search would wait there for whoever writes
        self.ledger.index_steps()

    def write_traffic(self) -> None:
        """Write down how often searches returned each item, and how many queries of earlier spaces came.

        Raises:
            GalleryError: it cannot be written; the counts are kept for the next time.
        """
        self._traffic.write()
        self._earlier.write()

    def _compacted(self, added: Added, advance: Bar) -> Added:
        if added.added or added.updated or added.filled:
            self._compact(advance)
        return added

    def _compact(self, advance: Bar) -> None:
        """Bring the indexes up to date after a change that is stored already."""
        # an index that lags is slow, not wrong, and `status` and `doctor` report it
        with suppress(GalleryError, OSError):
            self.maintain(advance=advance)
