"""Labelled images: where they come from, how they are shared out, changed and read.

- `source`: what every source of images offers; `opening`: a source by what a user writes;
- `sources/`, `published/`: the ways to keep images, and published data sets in their own files;
- `listing`: what such a set says it holds; `listed`: its images as a source; `readable`: stand-ins for broken ones;
- `decoding/`: from an image's bytes to pixels of one size;
- `loader`: batches for training; `augment`, `views`: random changes, new each time or fixed;
- `allocations`, `holdout`: which images an old and a new model learn from, and which neither sees;
- `describe`, `deep/`, `lookup`: a set in numbers, a second look for copies and wrong labels, and images by id;
- `texts`: rows of text as items;
- `folder`, `pixels`: shorter names of a folder as a source, and of an image from bytes.
"""

from samespace.data.allocations import Allocation, allocate, class_map, part
from samespace.data.augment import Augment
from samespace.data.decoding.fit import Fit
from samespace.data.describe import Description, describe
from samespace.data.holdout import Holdout, holdout
from samespace.data.listed import ListedSource
from samespace.data.listing import Listing
from samespace.data.loader import Batch, batches, rank_slice, sequential, steps_per_epoch
from samespace.data.opening import holds_encoded, open_for_model, open_source
from samespace.data.published.reid import ReidList, read_reid
from samespace.data.source import ImageSource, subset
from samespace.data.sources.arrays import ArraySource
from samespace.data.sources.folder import FolderSource
from samespace.data.sources.glyphs import GlyphSource
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
