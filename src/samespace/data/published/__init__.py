"""Published sets of images in the files that their publishers give."""
