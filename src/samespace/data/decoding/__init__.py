"""From the bytes of one image to uint8 pixels of the size a network takes.

- `pixels`: decoded, turned upright, converted, resized;
- `fit`: how it is brought to a size: resized, cropped or padded;
- `depth`: pixels of more than 8 bits a value;
- `jpeg`: ordinary JPEGs, faster.
"""
