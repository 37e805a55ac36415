"""Re-embedding the items of a gallery, by one or several workers.

- `run`: as a whole, by one process or several; `ray`: on a cluster; `worker`: one of its workers;
- `order`: which items come first; `limits`: what ends it or slows it down;
- `vector_source`: where the vectors come from;
- `rerank`: the second stage of a search, which is a backfill of what it finds.
"""
