"""To the Hugging Face hub: one repository that sentence-transformers and this package both load by its name.

modules.json, config.json, model.safetensors, ...    for sentence-transformers, MTEB and others, at the root
llm2comp/                                             the checkpoint, for this package
README.md                                             a card with scores
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm2comp_apps.encoder.card import CARD, card_for_others, card_pictures
from llm2comp_apps.encoder.checkpoint import change_pooling, checkpoint_files, make_portable, works_alone
from llm2comp_apps.encoder.locate import IN_A_REPOSITORY, locate_checkpoint
from llm2comp_apps.encoder.portable import backbone_for_others, is_folder_here
from llm2comp_apps.encoder.publishing.card import ENCODER_CARD, export_card
from llm2comp_apps.encoder.publishing.export import checkpoint_of, export_model, fingerprint_of_checkpoint
from llm2comp_apps.encoder.publishing.scores import read_scores, score_table
from llm2comp_apps.encoder.settings import read_settings
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.files import first_line

__all__ = ["Pushed", "check_repository", "push_model"]

_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[\w.-]*\w)?/[A-Za-z0-9](?:[\w.-]{0,94}\w)?")
_OWN_USE = """
With `llm2comp-apps`, which also searches, clusters and trains:

```python
from llm2comp_apps import load_encoder

encoder = load_encoder("{repo}")
```
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What went up, or would.

    Attributes:
        repo: the repository.
        url: of the repository, of the pull request where one was opened, or ``None`` for a dry run.
        files: size in bytes of every file, by its path in the repository.
        smallest_cosine: of the folder for sentence-transformers to the encoder.
        unknown_backbone: what the checkpoint calls its backbone, where that is a folder of this machine; whoever loads
            the checkpoint has to say where theirs is. ``None`` where others find it.
    """

    repo: str
    url: str | None
    files: dict[str, int]
    smallest_cosine: float
    unknown_backbone: str | None = None

    def warnings(self) -> list[str]:
        """What whoever pushed should know."""
        if self.unknown_backbone is None:
            return []
        return [
            f"the backbone {self.unknown_backbone} is a folder of this machine, which others do not find: name a "
            "backbone that they do, such as its id on the hub, or who loads llm2comp/ has to say where theirs is"
        ]


def check_repository(repo: str) -> None:
    """Refuse what cannot be a repository of the hub.

    Raises:
        UsageError: it is not ``USER/NAME``, or has characters that the hub does not take.
    """
    if not _REPOSITORY.fullmatch(repo) or ".." in repo or "--" in repo:
        raise UsageError(
            f"must be USER/NAME, of letters, digits and single - _ . between them, not {repo!r}", field="repo"
        )


def push_model(
    encoder: str,
    repo: str,
    *,
    private: bool = False,
    pr: bool = False,
    scores: str | Path | None = None,
    folder: str | Path | None = None,
    dtype: str | None = None,
    backbone: str | None = None,
    dry_run: bool = False,
) -> Pushed:
    """Put an encoder on the hub.

    Args:
        encoder: name of a checkpoint of ours.
        repo: ``USER/NAME``; made if missing.
        private: of a repository that is made.
        pr: open a pull request instead of changing the main branch.
        scores: ``report.json`` of an evaluation of this encoder, for the card.
        folder: where what goes up is put together, and stays; by default a temporary folder, and for a dry run one with
            the repository's name in the working directory.
        dtype: of the weights, as for :func:`.export.export_model`.
        backbone: name by which others find the encoder's backbone, such as its id on the hub; needed where it is a
            folder of this machine, whose path does not go up.
        dry_run: put it together and send nothing; needs no network.

    Raises:
        UsageError: the name of the repository or the scores are wrong, or the folder holds something else.
        EncoderError: the encoder has no such form; the hub cannot be reached, knows no token, or refuses.
    """
    check_repository(repo)
    if dry_run and folder is None:
        folder = repo.partition("/")[2]
    api = None if dry_run else _api()
    with _staged(folder) as staged:
        # Before the export, which takes minutes, and replaces what is in the folder.
        results = [] if scores is None else read_scores(Path(scores), fingerprint_of_checkpoint(encoder))
        made = export_model(encoder, staged, dtype=dtype)
        name, pooling = checkpoint_of(encoder)
        checkpoint = locate_checkpoint(name)
        settings = read_settings(checkpoint)
        called = backbone or backbone_for_others(settings.backbone)
        _copy(checkpoint, staged / IN_A_REPOSITORY, pooling, called)
        more = _OWN_USE.format(repo=repo) + score_table(results)
        card = export_card(
            settings,
            "sentence-transformers",
            made.dimension,
            where=repo,
            own_card=checkpoint,
            own_card_at=f"{IN_A_REPOSITORY}/{CARD}",
            more=more,
            results=results,
        )
        (staged / CARD).write_text(card, "utf-8")
        for own in (ENCODER_CARD, *(picture.name for picture in card_pictures(checkpoint))):
            (staged / own).unlink(missing_ok=True)  # they lie beside the checkpoint
        files = {
            path.relative_to(staged).as_posix(): path.stat().st_size
            for path in sorted(staged.rglob("*"))
            if path.is_file()
        }
        url = None if api is None else _send(api, staged, repo, private=private, pr=pr)
    lost = backbone is None and is_folder_here(settings.backbone) and not works_alone(checkpoint, settings)
    return Pushed(
        repo=repo,
        url=url,
        files=files,
        smallest_cosine=made.comparison.smallest_cosine,
        unknown_backbone=called if lost else None,
    )


@contextmanager
def _staged(folder: str | Path | None) -> Iterator[Path]:
    if folder is not None:
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="llm2comp-push-") as scratch:
        yield Path(scratch) / "repository"


def _copy(checkpoint: Path, target: Path, pooling: str | None, backbone: str) -> None:
    """The checkpoint without what else may lie in its folder, such as the log of a training run.

    With the pooling that the encoder was named with, so that both forms in the repository are the same encoder, and
    without paths of this machine.
    """
    for path in checkpoint_files(checkpoint):
        place = target / path.relative_to(checkpoint)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    card = card_for_others(checkpoint, read_settings(checkpoint), backbone)
    if card is not None:
        (target / CARD).write_text(card, "utf-8")
    make_portable(target, backbone)
    if pooling is not None:
        change_pooling(target, pooling)


def _api() -> Any:
    """The hub, asked who we are: what fails then would fail after minutes of work."""
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise EncoderError("no token for the Hugging Face hub; run hf auth login, or set HF_TOKEN")
    api = HfApi()
    with _one_line():
        api.whoami()
    return api


def _send(api: Any, folder: Path, repo: str, *, private: bool, pr: bool) -> str:
    with _one_line():
        made = api.create_repo(repo, private=private, exist_ok=True)
        sent = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message="Upload an llm2comp encoder",
            create_pr=pr,
            delete_patterns=f"{IN_A_REPOSITORY}/*",  # of another kind of checkpoint, which would be taken for a part
        )
        return str(sent.pr_url if pr and sent.pr_url else made)


@contextmanager
def _one_line() -> Iterator[None]:
    """Whatever the hub, the network or the token makes go wrong, in one line."""
    from huggingface_hub.errors import HfHubHTTPError

    # What the client's HTTP library raises, which is httpx or httpx2 by its version: the first base of its own error.
    transport: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except (HfHubHTTPError, transport, OSError, ValueError) as error:
        raise EncoderError(f"Hugging Face hub: {first_line(error)}") from error
