"""What ``.gitignore`` files leave out of a folder, by the rules of git.

The last pattern that matches decides, those of deeper folders after those above; where the folder lies inside a git
repository, the files above it up to the repository's top count, too, and ``.git/info/exclude`` before all of them.
What a person has configured for all repositories (``core.excludesFile``) does not count: a corpus must not depend on
who reads it. Rules above a folder that leave out the folder itself do not count either: somebody named it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["IgnoreRules"]

_NAME = ".gitignore"


class IgnoreRules:
    """The rules of one folder tree, read once; make new ones to see changes of ``.gitignore`` files.

    Args:
        root: the folder that is going to be walked.
    """

    def __init__(self, root: Path) -> None:
        self._top = _repository(root.resolve()) or root.resolve()
        self._root = root
        self._walked = root.resolve()
        self._specs: dict[Path, GitIgnoreSpec | None] = {}
        if self._leaves_out(self._walked, folder=True):
            self._top = self._walked

    def ignores(self, path: Path, *, folder: bool) -> bool:
        """Whether a file, or a folder with all that it holds, is left out.

        Args:
            path: below the root, spelled as the root was; the folders above it are not left out themselves.
            folder: whether it is one.
        """
        return self._leaves_out(self._walked / path.relative_to(self._root), folder=folder)

    def _leaves_out(self, place: Path, *, folder: bool) -> bool:
        for base in [place.parent, *place.parent.parents]:
            if not base.is_relative_to(self._top):
                break
            spec = self._spec(base)
            relative = place.relative_to(base).as_posix() + ("/" if folder else "")
            decided = None if spec is None else spec.check_file(relative).include
            if decided is not None:
                return decided
        return False

    def _spec(self, folder: Path) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            from pathspec import GitIgnoreSpec  # 40 ms that a program which searches need not wait for

            sources = [folder / _NAME]
            if folder == self._top:
                sources.insert(0, folder / ".git" / "info" / "exclude")
            lines = [line for source in sources for line in _lines(source)]
            self._specs[folder] = GitIgnoreSpec.from_lines(lines) if lines else None
        return self._specs[folder]


def _repository(folder: Path) -> Path | None:
    """The top of the git repository that a folder lies in."""
    return next((each for each in [folder, *folder.parents] if (each / ".git").exists()), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        return []
