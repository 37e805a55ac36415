"""Labelled images: where they come from, how they are shared out, changed and read."""

from samespace.data.allocations import Allocation, allocate, class_map, part
from samespace.data.arrays import ArraySource
from samespace.data.augment import Augment
from samespace.data.describe import Description, describe
from samespace.data.fit import Fit
from samespace.data.folder import FolderSource
from samespace.data.glyphs import GlyphSource
from samespace.data.holdout import Holdout, holdout
from samespace.data.listing import ListedSource, Listing
from samespace.data.loader import Batch, batches, rank_slice, sequential, steps_per_epoch
from samespace.data.opening import holds_encoded, open_for_model, open_source
from samespace.data.reid import ReidList, read_reid
from samespace.data.source import ImageSource, subset
from samespace.data.views import FixedViews, ViewSource

__all__ = [
    "Allocation",
    "ArraySource",
    "Augment",
    "Batch",
    "Description",
    "Fit",
    "FixedViews",
    "FolderSource",
    "GlyphSource",
    "Holdout",
    "ImageSource",
    "ListedSource",
    "Listing",
    "ReidList",
    "ViewSource",
    "allocate",
    "batches",
    "class_map",
    "describe",
    "holdout",
    "holds_encoded",
    "open_for_model",
    "open_source",
    "part",
    "rank_slice",
    "read_reid",
    "sequential",
    "steps_per_epoch",
    "subset",
]
