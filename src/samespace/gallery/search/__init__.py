"""Searching a gallery whose items are served by several spaces."""
