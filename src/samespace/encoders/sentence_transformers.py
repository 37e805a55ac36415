"""Models of sentence-transformers as encoders of texts (extra `sentence-transformers`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samespace.encoders.batched import BatchedEncoder
from samespace.encoders.networks import frozen, weights_of
from samespace.errors import InputError
from samespace.space import Space


def from_sentence_transformers(
    model: Any,
    *,
    prompt: str = "",
    revision: str | None = None,
    normalized: bool = True,
    device: str = "auto",
) -> BatchedEncoder:
    """An encoder of texts.

    The space is told by all weights, the modules and their settings, the tokeniser, and the prompt.

    Args:
        model: folder of a model, a name on the Hugging Face Hub, or a `SentenceTransformer`. Only a name that is no
            folder uses the network.
        prompt: put before each text, such as `query: `.
        revision: of a name on the Hub; and anything else that tells this model from another.
        normalized: bring vectors to unit length.
        device: where to compute.

    Raises:
        InputError: the library is not installed, or there is no such model.
    """
    network, name = (
        (_loaded(str(model), revision), Path(str(model)).name) if isinstance(model, str | Path) else (model, "")
    )
    frozen(network, device)
    name = name or type(network).__name__
    facts = {
        "family": "sentence-transformers",
        "modules": [[type(module).__name__, _settings(module)] for module in network],
        "tokenizer": tokenizer_digest(getattr(network, "tokenizer", None)),
        "longest": getattr(network, "max_seq_length", None),
        "revision": revision or "",
    }

    def function(texts: Sequence[Any], device: str | None) -> Any:
        frozen(network, device)
        return network.encode(
            [prompt + text for text in texts],
            batch_size=len(texts),
            convert_to_numpy=True,
            normalize_embeddings=False,
            show_progress_bar=False,
        )

    dim = int(function(["a"], None).shape[1])
    space = Space(weights_of(network, facts), f"text, prompt {prompt!r}", dim, normalized, name)
    return BatchedEncoder(space, "text", function)


def tokenizer_digest(tokenizer: Any) -> str:
    """The sha256 of what a tokeniser does: of a fast one all it keeps, of another its vocabulary; empty for none."""
    if tokenizer is None:
        return ""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and hasattr(backend, "to_str"):
        text = backend.to_str()
    else:
        vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
        text = f"{type(tokenizer).__name__} {sorted(vocabulary.items())}"
    return hashlib.sha256(text.encode()).hexdigest()


def _settings(module: Any) -> str:
    found = getattr(module, "get_config_dict", None)
    try:
        return repr(sorted(found().items())) if found else ""
    except (AttributeError, NotImplementedError):
        return ""


def _loaded(model: str, revision: str | None) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"'{model}' needs sentence-transformers: pip install 'samespace[sentence-transformers]'"
        ) from error
    if not Path(model).exists() and Path(model).parent.is_dir() and model.startswith((".", "/")):
        raise InputError(f"{model} does not exist; expected the folder of a sentence-transformers model")
    try:
        return SentenceTransformer(model, revision=None if Path(model).exists() else revision, device="cpu")
    except Exception as error:  # what is missing of a folder or of the Hub raises nearly anything
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"sentence-transformers cannot load '{model}': {line}") from error
