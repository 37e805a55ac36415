"""The model card: what a model's vectors are, how to load it, and the certificate that says what they may search."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import yaml

from samespace.errors import InputError
from samespace.files import read_json
from samespace.space import Space

_FORMAT = "samespace.certificate/1"
_TASK = "image-feature-extraction"
_TESTS = {"old": "old queries, old gallery", "cross": "new queries, old gallery", "new": "new queries, new gallery"}


class HasDict(Protocol):
    """What `samespace.Certificate` is, seen from here."""

    def to_dict(self) -> dict[str, Any]:
        """The certificate as JSON-ready values."""
        ...


def certificate_values(certificate: HasDict | str | Path, space: Space) -> dict[str, Any]:
    """A certificate of the model whose space this is, as the values of its file.

    Raises:
        InputError: the file is missing or no certificate, or it certifies another model.
    """
    if isinstance(certificate, str | Path):
        values, where = read_json(Path(certificate), "a certificate made by 'samespace check'"), str(certificate)
    else:
        values, where = certificate.to_dict(), "the certificate"
    if values.get("format") != _FORMAT or not isinstance(values.get("metrics"), dict):
        raise InputError(f"{where}: expected a certificate of format '{_FORMAT}', got {values.get('format')!r}")
    fusion = values.get("fusion") or {}
    judged = [side["id"] for side in (values["new_space"], fusion.get("space")) if side]
    if space.id not in judged:
        raise InputError(
            f"{where} is of queries of space {judged[-1] or 'undeclared'} and this model's space is {space.id}; give "
            "the certificate whose --queries this model made"
        )
    return values


def model_card(
    space: Space,
    facts: dict[str, Any],
    *,
    repo: str | None = None,
    certificate: dict[str, Any] | None = None,
    license: str | None = None,
) -> str:
    """README.md of a model folder: YAML front matter as the Hub reads it, then the text.

    Args:
        space: of the model's vectors.
        facts: what else to tell, by what it is called, such as the backbone.
        repo: owner/name on the Hub, for the line that loads it; None = a local folder.
        certificate: the values of its file.
        license: as the Hub names licences, such as `apache-2.0`.
    """
    title = _plain(space.name) or "Embedding model"
    front: dict[str, Any] = {
        "library_name": "samespace",
        "pipeline_tag": _TASK,
        "tags": ["samespace", "embedding", *(["backward-compatible"] if certificate else [])],
    }
    if license is not None:
        front["license"] = license
    if certificate is not None:
        front["model-index"] = [_index(title, certificate)]
    told = {"space": f"`{space.id}`", "dimensions": space.dim, "unit length": "yes" if space.normalized else "no"}
    lines = ["---", yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip(), "---", "", f"# {title}", ""]
    lines += ["Images in, vectors of one embedding space out.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {_plain(str(value))} |" for name, value in {**told, **facts}.items()]
    lines += ["", "## How to load it", "", "```python", "from samespace import Embedder", ""]
    lines += [f'model = Embedder.from_pretrained("{repo or "path/to/this/folder"}")']
    lines += ['vectors = model.encode(["photo.jpg"])', "```"]
    if certificate is not None:
        lines += ["", *_verdict(certificate)]
    return "\n".join(lines) + "\n"


def _verdict(certificate: dict[str, Any]) -> list[str]:
    """The certificate as a section: the verdict, a row for each metric, what it rests on."""
    old, data = certificate["old_space"], certificate["data"]
    compatible = certificate["compatible"]
    asking = "Queries of this model"
    if fusion := certificate.get("fusion"):
        asking = f"Queries fused of both models, {100 * fusion['alpha']:g} % of this one,"
    gallery = f"a gallery of {_plain(old['name']) or 'the old model'} (space `{old['id'] or 'undeclared'}`)"
    lines = [
        "## Certificate",
        "",
        f"**{'Compatible' if compatible else 'Not compatible'}.** {asking} {'may' if compatible else 'may not'} search "
        f"{gallery}.",
        "",
        "| % | old | cross | new | cross − old, interval | compatible |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for name, result in certificate["metrics"].items():
        low, high = (f"{100 * bound:+.2f}" for bound in result["difference"])
        values = " | ".join(_percent(result[test]) for test in _TESTS)
        lines.append(f"| {name} | {values} | {low} … {high} | {'yes' if result['compatible'] else 'no'} |")
    counted = ", ".join(f"{data[key]:,} {what}" for key, what in _COUNTS.items() if key in data)
    lines += ["", "; ".join(f"{test}: {meaning}" for test, meaning in _TESTS.items()) + ".", ""]
    lines.append(
        f"Measured on {counted}; intervals at {100 * certificate['confidence']:g} % from "
        f"{certificate['replicates']:,} bootstrap resamples, {certificate['created']}, samespace "
        f"{certificate['samespace']}. The whole certificate: [certificate.json](certificate.json)."
    )
    if certificate["notes"]:
        lines += ["", *(f"- {_plain(note)}" for note in certificate["notes"])]
    return lines


_COUNTS = {
    "queries": "queries",
    "gallery": "gallery items",
    "identities": "identities",
    "genuine_pairs": "genuine pairs",
}


def _index(title: str, certificate: dict[str, Any]) -> dict[str, Any]:
    """The figures as the Hub's model index has them, each in [0, 1]."""
    metrics = [
        {"type": name, "name": f"{name}, {meaning}", "value": result[test]}
        for name, result in certificate["metrics"].items()
        for test, meaning in _TESTS.items()
        if result[test] is not None
    ]
    dataset = {"type": "samespace-certificate", "name": "held-out classes of the certificate"}
    return {
        "name": title,
        "results": [{"task": {"type": _TASK, "name": "retrieval"}, "dataset": dataset, "metrics": metrics}],
    }


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _plain(text: str) -> str:
    """Text on one line that ends no cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
