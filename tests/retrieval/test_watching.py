"""A collection that follows a folder."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from llm2comp_indexes import IndexLockedError, IndexMissingError

from llm2comp_apps import Collection, CorpusError, Document, FolderWatch, UsageError
from llm2comp_apps.corpus import reading
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.corpus.readers import Form
from llm2comp_apps.retrieval.watching import open_or_create


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "cells.txt").write_text("Cells divide by mitosis.")
    (folder / "stars.md").write_text("# Stars\nThey burn hydrogen.")
    write(folder / "more.jsonl", {"_id": "bread", "text": "Bread rises."}, {"_id": "ships", "text": "Ships float."})
    return folder


@pytest.fixture
def library(tmp_path: Path, hash_encoder):
    with Collection.create(tmp_path / "notes.index", encoder=hash_encoder) as library:
        yield library


@pytest.fixture
def watch(library, notes):
    with FolderWatch(library, notes) as watch:
        yield watch


def write(path: Path, *records: dict[str, str]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def ids(library: Collection) -> set[str]:
    return set(library.index.ids())


def found(library: Collection, query: str) -> str:
    return library.search(query, k=1, mode="lexical")[0].id


def test_new_changed_and_vanished_files(watch, library, notes) -> None:
    report = watch.sync()
    assert (report.files, report.changed, report.added, report.deleted) == (3, 3, 4, 0)
    assert ids(library) == {"notes/cells.txt", "notes/stars.md", "bread", "ships"}
    (notes / "cells.txt").write_text("Nothing but whales.")
    write(notes / "more.jsonl", {"_id": "ships", "text": "Ships float."}, {"_id": "gold", "text": "Gold is heavy."})
    (notes / "stars.md").unlink()
    report = watch.sync()
    assert (report.files, report.changed, report.gone) == (2, 2, 1)
    assert (report.added, report.unchanged, report.deleted) == (2, 1, 2)
    assert ids(library) == {"notes/cells.txt", "ships", "gold"}
    assert found(library, "whales") == "notes/cells.txt"
    assert not watch.sync().news


def test_a_quiet_folder_costs_no_reading_and_no_encoder(watch, library, notes, monkeypatch) -> None:
    watch.sync()
    os.utime(notes / "cells.txt", (1, 1))  # another time, the same content
    monkeypatch.setattr(Collection, "update", lambda *_, **__: pytest.fail("nothing has changed"))
    assert watch.sync().changed == 0
    monkeypatch.setattr(FolderWatch, "_digest", lambda *_: pytest.fail("nothing looks changed"))
    assert watch.sync().files == 3


def test_what_happened_while_nobody_watched(library, notes) -> None:
    with FolderWatch(library, notes) as watch:
        watch.sync()
    (notes / "cells.txt").unlink()
    (notes / "new.txt").write_text("A new note.")
    with FolderWatch(library, notes) as watch:
        report = watch.sync()
    assert (report.added, report.deleted) == (1, 1)
    assert ids(library) == {"notes/new.txt", "notes/stars.md", "bread", "ships"}


def test_documents_from_elsewhere_stay(watch, library, notes) -> None:
    library.update([Document("other", "From another place.")])
    watch.sync()
    (notes / "cells.txt").unlink()
    watch.sync()
    assert ids(library) == {"other", "notes/stars.md", "bread", "ships"}


def test_two_folders_in_one_collection(watch, library, notes, tmp_path) -> None:
    shutil.copytree(notes, tmp_path / "second")
    (tmp_path / "second" / "cells.txt").write_text("Other cells.")
    watch.sync()
    with FolderWatch(library, tmp_path / "second") as second:
        second.sync()
        (tmp_path / "second" / "cells.txt").unlink()
        second.sync()
        assert {"notes/cells.txt", "notes/stars.md", "second/stars.md", "bread", "ships"} == ids(library)
        (tmp_path / "second" / "more.jsonl").unlink()
        second.sync()
    assert "bread" in ids(library), "the first folder has it, too"
    assert found(library, "mitosis") == "notes/cells.txt"


def test_a_document_that_moves_to_another_file_stays(watch, library, notes) -> None:
    watch.sync()
    write(notes / "more.jsonl", {"_id": "ships", "text": "Ships float."})
    write(notes / "another.jsonl", {"_id": "bread", "text": "Bread rises."})
    report = watch.sync()
    assert (report.added, report.deleted) == (0, 0)
    (notes / "another.jsonl").unlink()
    assert watch.sync().deleted == 1
    assert ids(library) == {"notes/cells.txt", "notes/stars.md", "ships"}


def test_an_id_in_two_files_is_named_and_goes_with_the_last_of_them(watch, library, notes) -> None:
    write(notes / "again.jsonl", {"_id": "bread", "text": "Bread is baked."})
    assert "'bread'" in watch.sync().warnings[0]
    (notes / "again.jsonl").unlink()
    watch.sync()
    watch.sync()
    assert found(library, "bread rises") == "bread"
    (notes / "more.jsonl").unlink()
    watch.sync()
    assert ids(library) == {"notes/cells.txt", "notes/stars.md"}


def test_broken_files_are_named_and_delete_nothing(watch, library, notes) -> None:
    watch.sync()
    whole = (notes / "more.jsonl").read_text()
    (notes / "more.jsonl").write_text(whole[:-20])  # as an editor that is still writing leaves it
    report = watch.sync()
    assert report.deleted == 0
    assert "more.jsonl:2" in report.warnings[0]
    assert ids(library) >= {"bread", "ships"}
    write(notes / "more.jsonl", {"_id": "bread", "text": "Bread rises."})
    assert watch.sync().deleted == 1


@pytest.mark.parametrize("line", [1, 2])
def test_a_file_that_fails_between_its_digest_and_its_reading_is_tried_again(
    watch, library, notes, monkeypatch, line
) -> None:
    parse = reading.parse

    def failing(opened, *arguments):
        if opened.file.name.endswith("more.jsonl"):
            kind, records = parse(opened, *arguments)
            return kind, itertools.chain(itertools.islice(records, line - 1), broken_off())
        return parse(opened, *arguments)

    def broken_off():
        raise OSError(errno.EIO, "Input/output error")
        yield

    with monkeypatch.context() as context:
        context.setattr(reading, "parse", failing)
        report = watch.sync()
    assert "Input/output error" in report.warnings[0]
    assert ids(library) & {"bread", "ships"} == ({"bread"} if line == 2 else set())
    assert watch.sync().added == 3 - line
    assert ids(library) >= {"bread", "ships"}
    assert not watch.sync().news


def test_names_that_differ_in_no_character_do_not_take_turns(watch, library, notes) -> None:
    for name, text in ((b"a\xfe.txt", "first"), (b"a\xff.txt", "second")):
        Path(os.fsdecode(os.fsencode(notes) + b"/" + name)).write_text(f"the {text} text")
    for again in range(3):
        report = watch.sync()
        assert report.added == (0 if again else 5)
        assert "its name is that of another file; rename one" in report.warnings[0]
        assert library.index.get(["notes/a\ufffd.txt"])[0].text == "the first text"
    Path(os.fsdecode(os.fsencode(notes) + b"/a\xfe.txt")).unlink()
    assert (watch.sync().added, watch.sync().warnings) == (1, [])
    assert library.index.get(["notes/a\ufffd.txt"])[0].text == "the second text"


def test_an_empty_folder_deletes_nothing_and_a_missing_one_neither(watch, library, notes) -> None:
    watch.sync()
    notes.rename(notes.with_name("elsewhere"))
    with pytest.raises(CorpusError, match="no such folder"):
        watch.sync()
    notes.mkdir()
    report = watch.sync()
    assert report.deleted == 0
    assert "not mounted" in report.warnings[0]
    assert len(library) == 4


def test_a_subfolder_that_cannot_be_read_is_not_gone(watch, library, notes, monkeypatch) -> None:
    for folder in ("sub", "sub/below", "subway"):
        (notes / folder).mkdir()
        (notes / folder / "a.txt").write_text(f"A note in {folder}.")
    watch.sync()
    before = ids(library)
    (notes / "subway" / "a.txt").unlink()
    scandir = os.scandir

    def refused(path):
        if str(path) == str(notes / "sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    report = watch.sync()
    assert report.warnings == [
        f"{notes / 'sub'}: the folder cannot be read: Permission denied; what the index holds of it stays"
    ]
    assert (report.gone, report.deleted, ids(library)) == (1, 1, before - {"notes/subway/a.txt"})
    monkeypatch.setattr("llm2comp_apps.corpus.report._MAX_FILES", 0)
    (notes / "cells.txt").unlink()
    assert watch.sync().deleted == 0, "nobody remembers which folders those were"
    monkeypatch.undo()
    shutil.rmtree(notes / "sub" / "below")
    report = watch.sync()
    assert (report.added, report.deleted, report.warnings) == (0, 2, [])
    assert ids(library) == before - {"notes/subway/a.txt", "notes/sub/below/a.txt", "notes/cells.txt"}


def test_gitignore_counts_unless_told_otherwise(library, notes) -> None:
    (notes / ".gitignore").write_text("*.md\n")
    with FolderWatch(library, notes) as watch:
        watch.sync()
        assert "notes/stars.md" not in ids(library)
    with FolderWatch(library, notes, options=CorpusOptions(gitignore=False)) as watch:
        watch.sync()
        assert "notes/stars.md" in ids(library)
    with FolderWatch(library, notes) as watch:
        assert watch.sync().deleted == 1, "what is ignored from now on goes"


def test_files_that_are_being_written_wait(watch, library, notes) -> None:
    for path in notes.iterdir():
        os.utime(path, (time.time() - 60, time.time() - 60))
    (notes / "fresh.txt").write_text("half a sen")
    report = watch.sync(settle=30)
    assert (report.waiting, report.changed) == (1, 3)
    assert "notes/fresh.txt" not in ids(library)
    assert watch.sync(settle=0).added == 1


def test_another_way_of_reading_reads_everything_again(library, notes) -> None:
    write(notes / "more.jsonl", {"_id": "bread", "text": "Bread rises.", "summary": "Yeast."})
    with FolderWatch(library, notes) as watch:
        watch.sync()
    with FolderWatch(library, notes, options=CorpusOptions(text_field="summary")) as watch:
        report = watch.sync()
    assert found(library, "yeast") == "bread"
    assert report.changed == 3


def test_a_reader_that_is_installed_later_reads_what_was_passed_over(library, notes, monkeypatch) -> None:
    (notes / "page.html").write_text("<p>Whales sing.</p>")
    with monkeypatch.context() as patch:
        patch.setattr(Form, "missing", True)
        with FolderWatch(library, notes) as watch:
            assert "needs" in "".join(watch.sync().warnings)
            assert watch.sync().changed == 0
    with FolderWatch(library, notes) as watch:
        assert watch.sync().added == 1
    assert found(library, "whales") == "notes/page.html"


def test_a_stopped_look_continues_with_the_next(watch, library, notes) -> None:
    report = watch.sync(should_stop=lambda: True)
    assert report.interrupted
    assert report.deleted == 0
    watch.sync()
    assert ids(library) == {"notes/cells.txt", "notes/stars.md", "bread", "ships"}


def test_a_failed_deletion_is_made_up_for(watch, library, notes, monkeypatch) -> None:
    """As after a crash between the file that is gone and the commit that deletes its documents."""
    watch.sync()
    (notes / "cells.txt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "delete", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            watch.sync()
    assert watch.sync().deleted == 1


def test_run_follows_until_it_is_stopped_and_tells_a_trouble_once(watch, library, notes, monkeypatch) -> None:
    monkeypatch.setattr("llm2comp_apps.retrieval.watching._SETTLE", 0.0)
    reports, looks = [], 0

    def should_stop() -> bool:
        nonlocal looks
        looks += 1
        if looks == 10:
            (notes / "late.txt").write_text("A late note.")
        return looks > 40

    with library.index.writer():  # another writer holds the lock for a while
        steps = iter([False] * 8)
        watch.run(interval=0.01, should_stop=lambda: next(steps, True), on_report=reports.append)
    assert len(reports) == 1
    assert "tried again" in reports[0].warnings[0]
    reports.clear()
    watch.run(interval=0.01, should_stop=should_stop, on_report=reports.append)
    assert [report.added for report in reports] == [4, 1]
    with pytest.raises(UsageError, match="interval must be above 0"):
        watch.run(interval=0)


def test_two_programs_that_follow_one_folder_lose_nothing(watch, library, notes, hash_encoder) -> None:
    """Both had read what stood in the index when they began."""
    with Collection.open(library.path, encoder=hash_encoder) as opened, FolderWatch(opened, notes) as other:
        watch.sync()
        (notes / "cells.txt").write_text("Nothing but whales.")
        assert (report := other.sync()).added == 1
        assert report.warnings == []
        assert watch.sync().added == 0
        library.index.refresh()
        assert found(library, "whales") == "notes/cells.txt"


def test_one_program_at_a_time_takes_files_in(watch, library, notes, hash_encoder) -> None:
    def looking_too(_: object) -> None:
        with pytest.raises(IndexLockedError, match=r"another program takes files of a folder in; try again"):
            other.sync()
        asked.append(other)

    asked: list[FolderWatch] = []
    with Collection.open(library.path, encoder=hash_encoder) as opened, FolderWatch(opened, notes) as other:
        look = other._look

        def late(*given):
            """What was new when this one looked, the other one has taken in since."""
            seen = look(*given)
            if not asked:
                watch.sync(on_progress=looking_too)
            return seen

        other._look = late
        report = other.sync()
        assert asked
        assert (report.changed, report.added, report.unchanged) == (0, 0, 0)
    assert ids(library) == {"notes/cells.txt", "notes/stars.md", "bread", "ships"}


def test_an_index_that_is_made_again_is_filled_again(watch, library, notes, hash_encoder, monkeypatch) -> None:
    monkeypatch.setattr("llm2comp_apps.retrieval.watching._SETTLE", 0.0)
    watch.sync()
    shutil.rmtree(library.path)
    reports, steps = [], iter(range(20))

    def should_stop() -> bool:
        step = next(steps, None)
        if step == 6:
            Collection.create(library.path, encoder=hash_encoder).close()
        return step is None

    watch.run(interval=0.01, should_stop=should_stop, on_report=reports.append)
    assert [(report.added, len(report.warnings)) for report in reports] == [(0, 1), (4, 0)]
    assert "there is no index here" in reports[0].warnings[0]
    assert ids(library) == {"notes/cells.txt", "notes/stars.md", "bread", "ships"}


def test_an_index_that_is_removed_during_a_look_is_missed_in_a_line(watch, library, monkeypatch) -> None:
    digest = watch._digest

    def removing(file):
        shutil.rmtree(library.path, ignore_errors=True)
        return digest(file)

    monkeypatch.setattr(watch, "_digest", removing)
    with pytest.raises(IndexMissingError, match=r"the index was removed"):
        watch.sync()


def test_open_or_create(tmp_path, hash_encoder, monkeypatch) -> None:
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda *_, **__: hash_encoder)
    open_or_create(tmp_path / "new.index", chunk=32).close()
    with open_or_create(tmp_path / "new.index", chunk=32) as library:
        assert library.plan.chunk == 32
    with pytest.raises(UsageError, match="chunk"):
        open_or_create(tmp_path / "new.index", chunk=16)


def test_no_folder(library, tmp_path) -> None:
    with pytest.raises(UsageError, match="folder must be a folder"):
        FolderWatch(library, tmp_path / "none")
