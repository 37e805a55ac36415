"""Images from bytes: `decode` and `header`, as `samespace.data.decoding` has them."""

from samespace.data.decoding.pixels import decode, header

__all__ = ["decode", "header"]
