"""Published sets of images in the files that their publishers give.

- `reid`: Market-1501, DukeMTMC-reID and MSMT17. `vehicles`: VehicleID;
- `products`: Stanford Online Products and In-Shop Clothes. `cub`: birds;
- `gldv2`: Google Landmarks;
- `facepack`: face verification packs, which `safe_pickle` reads without running them.
"""
