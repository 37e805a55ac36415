"""Embedders: backbones, preprocessing, the model folder, export."""

from samespace.models.classifier import Classifier
from samespace.models.embedder import Embedder, EmbedderConfig, resolve_model
from samespace.models.onnx import export_onnx
from samespace.models.preprocessing import Preprocessing

__all__ = ["Classifier", "Embedder", "EmbedderConfig", "Preprocessing", "export_onnx", "resolve_model"]
