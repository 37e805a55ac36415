"""Embedders: backbones, preprocessing, the model folder, export.

- `embedder`: images in, vectors of one space out, and its folder; `image_model`: what others need of it;
- `backbones`, `iresnet`: networks by name; `preprocessing`: what happens to an image before them;
- `weights`, `freezing`, `classifier`: weights from elsewhere, those that stay, the classifier kept beside a model;
- `extract`, `sharding`, `items`: images to vectors, in memory, on disk, by several processes, one by one;
- `precision`, `folding`, `devices`: faster inference that says the same, and where it runs;
- `onnx`, `hub/`: export and sharing; `provenance`: what a model learnt from; `tensors`: its files;
- `user_code`: what a user names from their own code.
"""

from samespace.models.classifier import Classifier
from samespace.models.embedder import Embedder, EmbedderConfig, resolve_model
from samespace.models.onnx import export_onnx
from samespace.models.preprocessing import Preprocessing

__all__ = ["Classifier", "Embedder", "EmbedderConfig", "Preprocessing", "export_onnx", "resolve_model"]
