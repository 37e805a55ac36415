"""The scores of large searches, tile by tile: float32 products, and exact scores only where something hangs on them."""
