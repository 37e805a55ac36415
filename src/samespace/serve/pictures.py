"""Items as people see them, from the images that their gallery remembers."""

from __future__ import annotations

import io
import threading

from samespace.errors import SamespaceError
from samespace.gallery import Gallery
from samespace.gallery.ingest.images import Images

_SIDE = 160


class Pictures:
    """The images of galleries, each source opened once; safe to use from several threads."""

    def __init__(self) -> None:
        self._opened: dict[str, Images | None] = {}
        self._guard = threading.Lock()

    def png(self, gallery: Gallery, item: str) -> bytes | None:
        """The picture of an item, small; None where there is none at hand."""
        named = gallery.state.settings.get("images")
        if named is None or gallery.get(item) is None:
            return None
        with self._guard:
            if named not in self._opened:
                self._opened[named] = _opened(named)
            images = self._opened[named]
            loaded = None if images is None else images.load([item])
        if loaded is None or not loaded.places:
            return None
        from PIL import Image

        pixels = loaded.pixels[0].permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="PNG")
        return buffer.getvalue()


def _opened(named: str) -> Images | None:
    """The images of a source, brought to a size where they may differ; None where it cannot be opened any more."""
    from samespace.data import holds_encoded, open_source
    from samespace.data.decoding.fit import Fit

    size = Fit(_SIDE, _SIDE, "letterbox", fill=1.0) if holds_encoded(named) else None
    try:
        return Images(open_source(named, image_size=size, broken="skip"))
    except (SamespaceError, OSError):
        return None
