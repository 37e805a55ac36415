"""Searching a gallery whose items are served by several spaces.

- `search`: one query against a gallery whose items are served by several spaces;
- `queries`, `query_vectors`: queries by image; vectors checked, cut to what is compared, fused;
- `merge`: one list from several spaces, on a scale that they share; `calibration`: learning that scale;
- `earlier`: queries of an earlier space; `traffic`: how often items are returned.
"""
