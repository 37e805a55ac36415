"""Taking in items: images, vectors, labels and metadata, checked and stored in whole batches.

- `add`, `remove`: items in and out; `store`: batch by batch, told new, the same or changed;
- `checks`: what is checked before vectors are taken;
- `images`: the items' images by id, and the model that embeds them.
"""
