"""Re-embedding the items of a gallery, by one or several workers."""
