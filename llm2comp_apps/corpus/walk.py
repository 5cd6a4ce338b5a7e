"""From what the user names to files: folders, patterns, BEIR folders, standard input."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from llm2comp_apps.corpus.files import FORMAT_BY_SUFFIX, SourceFile, format_suffix, readable_once
from llm2comp_apps.corpus.ignoring import IgnoreRules
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.records import NOT_OPENED
from llm2comp_apps.corpus.report import FOLDER, PassedOver, ReadReport
from llm2comp_apps.errors import CorpusError, UsageError

__all__ = ["check_sources", "find_files", "pattern_root", "printable"]

STDIN = "<stdin>"
_MAGIC = re.compile(r"[*?\[]")
# What this program writes beside a corpus is not part of the corpus.
_OUR_FOLDERS = (".index", ".clusters")
_OUR_FILES = (".clusters.jsonl", ".clusters.parquet")


def check_sources(
    sources: Iterable[str | os.PathLike[str]], options: CorpusOptions, report: ReadReport
) -> list[str | os.PathLike[str]]:
    """Find out before the first document whether every source is there, and how many bytes there are.

    Returns:
        The sources, to be read more than once, as those of a generator cannot be.

    Raises:
        UsageError: no source, one that is in no list, or standard input twice.
        CorpusError: a source does not exist, or a folder holds nothing to read, or what was made of a corpus.
    """
    if isinstance(sources, str | os.PathLike):  # a string would be read by its letters
        reason = f"must be a list of files and folders, not one; write [{os.fspath(sources)!r}]"
        raise UsageError(reason, field="corpus")
    if not isinstance(sources, Iterable):
        raise UsageError(f"must be a list of files and folders, not {sources!r:.60}", field="corpus")
    sources = list(sources)
    wrong = [source for source in sources if not isinstance(source, str | os.PathLike)]
    if wrong:
        raise UsageError(f"must be a list of files and folders, and {wrong[0]!r:.60} is neither", field="corpus")
    names = [os.fspath(source) for source in sources]
    if not names:
        raise UsageError("no corpus given: name a file, a folder or - for standard input")
    if names.count("-") > 1:
        raise UsageError("standard input (-) can be read only once")
    report.bytes_total = None if any(map(readable_once, names)) else 0
    for name in names:
        pattern = pattern_root(name) is not None
        if name != "-" and not pattern:
            if not Path(name).exists():
                raise CorpusError(f"{name}: no such file or folder")
            _check_is_no_result(Path(name))
        count = 0
        for file in find_files([name], options):
            count += 1
            if report.bytes_total is not None:
                report.bytes_total += file.size
        if not count:
            kinds = " ".join(FORMAT_BY_SUFFIX)
            what = "no file to read matches" if pattern else "the folder holds no file to read"
            raise CorpusError(f"{name}: {what} (looked for {kinds}, also .gz and .zst)")
    return sources


def _check_is_no_result(folder: Path) -> None:
    """Refuse an index and a clustering, whose files would be read as tables and pages."""
    if (folder / "store.db").is_file() and (folder / "segments").is_dir():
        written = f"`llm2comp index export {folder} documents.parquet` writes its documents"
        raise CorpusError(f"{folder}: an index, and no corpus; {written}")
    if (folder / "topics.json").is_file() and (folder / "model").is_dir():
        raise CorpusError(f"{folder}: a clustering, and no corpus; name what it was made of, or its documents.csv")


def pattern_root(source: str | os.PathLike[str]) -> Path | None:
    """The folder in which a pattern such as ``notes/**/*.md`` looks; ``None`` for what is no pattern."""
    path = Path(source)
    if not _MAGIC.search(os.fspath(source)) or path.exists():
        return None
    plain = [part for part in path.parts if not _MAGIC.search(part)]
    return Path(*path.parts[: next(place for place, part in enumerate(path.parts) if part not in plain)])


def find_files(
    sources: Sequence[str | os.PathLike[str]], options: CorpusOptions, report: ReadReport | None = None
) -> Iterator[SourceFile]:
    """Walk the sources in order, folders sorted by name, without holding the list.

    Of a BEIR folder (``corpus.jsonl`` beside ``queries.jsonl`` or ``qrels``) only the corpus is read.

    Args:
        sources: files, folders, patterns, ``-``.
        options: ``format`` decides which files of a folder are wanted.
        report: counts the others.
    """
    names = [os.fspath(source) for source in sources]
    for name, called in zip(names, _distinct(names), strict=True):
        root = pattern_root(name)
        if name == "-":
            yield SourceFile(None, STDIN, STDIN)
        elif root is not None or Path(name).is_dir():
            above = f"{called}/" if called and options.folder_in_ids else ""
            found = _walk(Path(name), options, report) if root is None else _matches(name, root, options, report)
            for path, given in found:
                relative = printable(path.relative_to(Path(name) if root is None else root))
                yield SourceFile(path, printable(path), relative, above + relative, not given)
        else:
            yield SourceFile(Path(name), printable(Path(name)), printable(Path(Path(name).name)), called)


def _distinct(names: Sequence[str]) -> list[str]:
    """What sources are called in ids: their own names, with as many folders before them as tell them apart."""
    places = [_place(name) for name in names]
    lengths = dict.fromkeys(places, 1)
    while True:
        called = {place: "/".join(place[-length:]) for place, length in lengths.items()}
        taken = list(called.values())
        alike = [place for place, name in called.items() if taken.count(name) > 1 and lengths[place] < len(place)]
        if not alike:
            return [printable(Path(called[place])) if place else "" for place in places]
        for place in alike:
            lengths[place] += 1


def _place(name: str) -> tuple[str, ...]:
    root = pattern_root(name)
    return () if name == "-" else Path(os.path.abspath(name if root is None else root)).parts[1:]  # noqa: PTH100 - no links


def _matches(
    pattern: str, root: Path, options: CorpusOptions, report: ReadReport | None
) -> Iterator[tuple[Path, bool]]:
    """The files that match a pattern, those of hidden folders and of our own aside."""
    rest = Path(pattern).parts[len(root.parts) :]
    if report is not None:  # what only counts files need not look twice
        _look_for_unread(root, None if "**" in rest else len(rest), _refusing(root, options, report))
    try:
        matches = sorted(root.glob("/".join(rest)))
    except (ValueError, NotImplementedError) as error:  # a**b
        raise CorpusError(f"{pattern}: {error}") from None
    for path in matches:
        inside = path.relative_to(root).parts
        ours = any(part.startswith(".") or part.endswith(_OUR_FOLDERS) for part in inside)
        if not ours and _is_file(path) and _is_wanted(path.name, options, report):
            yield path, False


def _look_for_unread(root: Path, depth: int | None, refuse: Callable[[OSError], None]) -> None:
    """Folders that a pattern looks into and that cannot be listed; matching itself passes over them without a word.

    Args:
        root: where the pattern looks.
        depth: levels of folders that it looks into; ``None`` for all.
        refuse: what to do with them.
    """
    if not root.is_dir():
        return
    for folder, subfolders, _ in os.walk(root, onerror=refuse):
        level = 1 + len(Path(folder).relative_to(root).parts)
        inside = [name for name in subfolders if not name.startswith(".") and not name.endswith(_OUR_FOLDERS)]
        subfolders[:] = inside if depth is None or level < depth else []


def _refusing(root: Path, options: CorpusOptions, report: ReadReport | None) -> Callable[[OSError], None]:
    """What happens with a folder that cannot be listed: an error, or it is passed over."""

    def refuse(error: OSError) -> None:
        reason = f"the folder cannot be read: {error.strerror}"
        if options.on_error == "stop" or Path(error.filename) == root:
            raise CorpusError(f"{error.filename}: {reason}")
        if report is not None:
            report.pass_over(PassedOver(printable(Path(error.filename)), FOLDER, NOT_OPENED, reason))

    return refuse


def _walk(root: Path, options: CorpusOptions, report: ReadReport | None) -> Iterator[tuple[Path, bool]]:
    """The files of a folder, each with whether it stands for the folder: the corpus of a BEIR folder."""
    visited = set()
    rules = IgnoreRules(root) if options.gitignore else None

    def kept_out(path: Path, *, folder: bool) -> bool:
        ignored = rules is not None and rules.ignores(path, folder=folder)
        if ignored and report is not None:
            report.git_ignored += 1
        return ignored

    for folder, subfolders, names in os.walk(root, onerror=_refusing(root, options, report), followlinks=True):
        here = Path(folder)
        identity = (here.stat().st_dev, here.stat().st_ino)
        if identity in visited:  # a link that leads back up would never end
            subfolders.clear()
            continue
        visited.add(identity)
        corpus = _beir_corpus(subfolders, names)
        if corpus:
            subfolders.clear()
            names = [corpus]
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and not name.endswith(_OUR_FOLDERS) and not kept_out(here / name, folder=True)
        )
        for name in sorted(names):
            path = here / name
            if name.startswith(".") or not _is_file(path) or kept_out(path, folder=False):
                continue
            if _is_wanted(name, options, report):
                yield path, name == corpus


def _is_file(path: Path) -> bool:
    """Whether it is a file.

    Where that cannot be told, in a folder that may be listed and not entered, say, it counts as one: reading it says
    what is wrong, as of any file.
    """
    try:
        return path.is_file()
    except OSError:
        return True


def _is_wanted(name: str, options: CorpusOptions, report: ReadReport | None) -> bool:
    if name.endswith(_OUR_FILES):
        return False
    wanted = options.format != "auto" or format_suffix(name) in FORMAT_BY_SUFFIX
    if not wanted and report is not None:
        report.other_kinds[format_suffix(name)] += 1
    return wanted


def printable(path: Path) -> str:
    """A path for messages and ids: with ``/``, and U+FFFD for what is not UTF-8 in a file's name."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _beir_corpus(subfolders: Sequence[str], names: Sequence[str]) -> str | None:
    """The corpus file's name if a folder with these entries is a BEIR folder."""
    stems = {name.split(".")[0]: name for name in sorted(names) if format_suffix(name) == ".jsonl"}
    judged = "queries" in stems or "qrels" in subfolders or "qrels.tsv" in names
    return stems.get("corpus") if judged else None
