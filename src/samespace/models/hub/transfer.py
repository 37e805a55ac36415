"""Model folders from and to the Hugging Face Hub; the only place that asks the network for a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samespace.errors import InputError

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = ("config.json", "model.safetensors", "classifier.safetensors", "certificate.json", "README.md")


def is_repo(name: str) -> bool:
    """Whether a name that is no folder is meant for the Hub: owner/name, and no folder `owner` is here.

    Example:
        >>> is_repo("somebody/marks-v2"), is_repo("./marks-v2"), is_repo("marks-v2")
        (True, False, False)
    """
    return bool(_REPO.fullmatch(name)) and not Path(name).parent.exists()


def download(repo: str, *, revision: str | None, token: str | None, cache_dir: str | Path | None) -> Path:
    """The folder of a model of the Hub, in the local cache, fetched where it is not there yet.

    Raises:
        InputError: huggingface_hub is not installed, or the Hub gives no such model.
    """
    hub = _library()
    with _one_line(f"could not load {repo} from the Hugging Face Hub"):
        place = hub.snapshot_download(
            repo, revision=revision, token=token, cache_dir=cache_dir, allow_patterns=list(_FILES)
        )
    return Path(place)


def upload(
    folder: Path, repo: str, *, revision: str | None, token: str | None, private: bool | None, message: str
) -> str:
    """Put a folder's files into a repository of the Hub, made where there is none; the address of the commit.

    Raises:
        InputError: huggingface_hub is not installed, or the Hub refuses.
    """
    hub = _library()
    if not _REPO.fullmatch(repo):
        raise InputError(f"the repository is {repo!r}; expected owner/name")
    with _one_line(f"could not push to {repo} on the Hugging Face Hub"):
        api = hub.HfApi(token=token)
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        return str(api.upload_folder(repo_id=repo, folder_path=folder, revision=revision, commit_message=message))


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(
            "models of the Hugging Face Hub need the package huggingface_hub: pip install 'samespace[hub]'"
        ) from error
    return huggingface_hub


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Turn what the Hub's library, or what it reaches the network by, raises into one line."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError | ValueError) and _package(error) not in ("huggingface_hub", "httpx"):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what}: {reason}") from error


def _package(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]
