"""Models of the hub: one loader, which reads weights from safetensors only and takes a checkpoint whole or not at all.

A source is a hub id, also with a revision (``owner/name@revision``: a branch, a tag or a commit), or a local folder. A revision
is resolved to one commit, once in a process: a model and its tokenizer are of one version. No code of the hub is run, and a pickle is
neither downloaded nor read. Where the hub does not answer, or ``HF_HUB_OFFLINE`` forbids to ask, its cache is read.

Transformers fills weights that a checkpoint lacks with random numbers, drops those that the model does not know, and says so in a log.
Here both are an error; what a caller knows to be of no use is named by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lib.datasets import DataError, note_hub_silence, only_cached

FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What is downloaded of a model: configuration, tokenizer, weights."""
LEFT_OUT = ("*/*", "consolidated*")
"""And what is not: subfolders, and a second copy of the weights for other programs."""
BUFFERS = (r"(^|\.)position_ids$", r"\.inv_freq$", r"\.(attn|attention)\.(masked_)?bias$")
"""Names of constants that older versions of transformers saved beside the weights."""


def snapshot(source: str, revision: str | None = None) -> Path:
    """The folder of a model's files, all of one commit.

    Args:
        source: hub id, hub id with ``@revision``, or local folder.
        revision: branch, tag or commit; of a local folder, a folder in it. None: the one that ``source`` names, else the hub's ``main``
            or the folder itself.

    Raises:
        DataError: if it cannot be had.
    """
    if not source:
        raise DataError("a model of the hub is asked for, and none is named")
    local = Path(source).expanduser()
    if local.is_dir():
        folder = local / (revision or "")
        if not folder.is_dir():
            raise DataError(f"{source} has no revision {revision!r}")
        return folder
    repository, _, named = source.partition("@")
    try:
        return _downloaded(repository, revision or named or "main")
    except _errors() as error:
        note_hub_silence(error)
        raise DataError(f"{_label(source, revision)} cannot be had: {_first_line(error)}") from error


@cache
def _downloaded(repository: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(FILES),
            ignore_patterns=list(LEFT_OUT),
            local_files_only=only_cached(repository),
        )
    )


def load_tokenizer(source: str, revision: str | None = None) -> Any:
    """The tokenizer of a model.

    Args:
        source, revision: see :func:`snapshot`.

    Raises:
        DataError: if it cannot be had.
    """
    transformers, folder = _transformers(), snapshot(source, revision)
    try:
        return transformers.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except _errors() as error:
        raise DataError(f"{_label(source, revision)} cannot be had: {_first_line(error)}") from error


def load_model(
    kind: str,
    source: str,
    revision: str | None = None,
    *,
    absent: Sequence[str] = (),
    unused: Sequence[str] = (),
    **options: Any,
) -> Any:
    """A model by one of transformers' classes, in evaluation mode, with every weight from the checkpoint and none left over.

    Args:
        kind: name of the class, e.g. ``AutoModelForMaskedLM``.
        source, revision: see :func:`snapshot`.
        absent: regular expressions of weights that the checkpoint may lack, because nothing that is computed here depends on them.
        unused: regular expressions of the checkpoint's weights that the model may not have, e.g. the head of a model used without one.
        options: further arguments of ``from_pretrained``, e.g. ``dtype``.

    Raises:
        DataError: if transformers is missing, or the source cannot be had, holds no safetensors, is damaged, lacks a weight or holds
            another one.
    """
    transformers, folder, label = _transformers(), snapshot(source, revision), _label(source, revision)
    if not any(folder.glob("*.safetensors")):
        raise DataError(f"{label} holds no safetensors file; weights in another format are not read")
    try:
        model, report = getattr(transformers, kind).from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to be refused below, in one line
            trust_remote_code=False,
            local_files_only=True,
            **options,
        )
    except _errors() as error:
        raise DataError(f"{label} cannot be had: {_first_line(error)}") from error
    _refuse(f"{label} lacks weights of {kind}", report["missing_keys"], absent)
    _refuse(
        f"{label} holds weights that {kind} does not have", report["unexpected_keys"], (*unused, *BUFFERS)
    )
    _refuse(
        f"{label} holds weights of another shape than {kind}",
        (key[0] for key in report["mismatched_keys"]),
        (),
    )
    return model.eval()


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors files.

    Raises:
        DataError: if there is no such file, or one is damaged.
    """
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise DataError(f"{folder.name} holds no safetensors file; weights in another format are not read")
    state: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            raise DataError(f"{file.name} is no regular file")
        try:
            state |= load_file(file)
        except _errors() as error:
            raise DataError(f"{file.name} is damaged: {_first_line(error)}") from error
    return state


def load_weights(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Put a checkpoint's tensors into a module of this collection, every one of them in its place.

    Raises:
        DataError: for a missing or further tensor, or one of another shape.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(
            f"{source} does not fit {type(module).__name__}: {' '.join(str(error).split())}"
        ) from error


def _refuse(message: str, names: Iterable[str], allowed: Sequence[str]) -> None:
    refused = sorted(name for name in names if not any(re.search(pattern, name) for pattern in allowed))
    if refused:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise DataError(f"{message}: {refused[0]}{more}")


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise DataError(
            "models of the hub need the package transformers: pip install transformers"
        ) from error
    return transformers


def _errors() -> tuple[type[Exception], ...]:
    """What the libraries raise for a source that is out of reach, forbidden, malformed or damaged."""
    from huggingface_hub.errors import HTTPError
    from safetensors import SafetensorError

    return (OSError, ValueError, RuntimeError, KeyError, HTTPError, SafetensorError)


def _label(source: str, revision: str | None) -> str:
    return source if revision is None else f"{source} at revision {revision!r}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
