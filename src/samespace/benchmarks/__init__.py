"""Published benchmarks: which files, which images, which pairs and which rules; their result is a certificate."""
