"""Where images lie: one file for each way to keep them; `data/opening.py` finds the right one by what a user writes.

- `folder`: folders of `root/class/image`; `kinds` tells images from what else lies there;
- `listfile`: a text file that names images; `columns` finds out which of its columns is what;
- `arrays`: arrays in memory or in an `.npz` file;
- `recordio`: face sets in one large file; `records` reads its container;
- `huggingface`: data sets of the library `datasets`;
- `picked`: single images that a user names;
- `glyphs`: made-up characters, drawn from the skeletons of `strokes`.
"""
