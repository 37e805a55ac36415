"""Taking in items: images, vectors, labels and metadata, checked and stored in whole batches."""
