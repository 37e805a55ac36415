"""Stanford Online Products and In-Shop Clothes: sets of products for metric learning, by their own lists."""

from __future__ import annotations

from pathlib import Path

from samespace.data.listing import Listing
from samespace.data.sources.listfile import list_listing
from samespace.errors import InputError, suggest

_PRODUCTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
_INSHOP = ("train", "query", "gallery", "test")


def products_listing(root: str | Path, *, part: str = "train") -> Listing:
    """The images of Stanford Online Products; the class of an image is its product.

    `Ebay_train.txt` and `Ebay_test.txt` have a line of names, `image_id class_id super_class_id path`, and a line for
    each image; no product is in both. Source: Oh Song et al., Deep Metric Learning via Lifted Structured Feature
    Embedding, CVPR 2016.

    Raises:
        InputError: no such folder or part, or a list that is not understood.
    """
    folder = Path(root)
    if part not in _PRODUCTS:
        raise InputError(f"sop has no part {part!r}; {suggest(part, _PRODUCTS)}")
    return list_listing(folder / _PRODUCTS[part], _folder(folder, _PRODUCTS[part]), label="class_id")


def inshop_listing(root: str | Path, *, part: str = "train") -> Listing:
    """The images of one part of In-Shop Clothes Retrieval of DeepFashion; the class of an image is its item.

    `list_eval_partition.txt`, in the folder or its folder `Eval`, gives the number of images, a line of names,
    `image_name item_id evaluation_status`, and a line for each image, whose status is `train`, `query` or `gallery`;
    `test` is query and gallery. Images lie in the folder or in its folder `Img`. Source: Liu et al., DeepFashion,
    CVPR 2016.

    Raises:
        InputError: no such folder or part, or a list that is not understood.
    """
    folder = Path(root)
    if part not in _INSHOP:
        raise InputError(f"inshop has no part {part!r}; {suggest(part, _INSHOP)}")
    places = (folder / "Eval" / "list_eval_partition.txt", folder / "list_eval_partition.txt")
    file = next((place for place in places if place.is_file()), places[1])
    images = folder / "Img" if (folder / "Img").is_dir() else _folder(folder, "list_eval_partition.txt")
    return list_listing(file, images, path="image_name", label="item_id", part=part)


def _folder(folder: Path, holds: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with {holds}")
    return folder
