"""Images in a folder: `FolderSource`, as `samespace.data.sources` has it."""

from samespace.data.sources.folder import FolderSource

__all__ = ["FolderSource"]
