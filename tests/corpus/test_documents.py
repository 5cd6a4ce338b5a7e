"""Documents that people have: PDF, HTML, office files, books, mail, source code."""

from __future__ import annotations

import gzip
import io
import math
import os
import signal
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from llm2comp_apps.corpus import CorpusOptions, ReadReport, read_corpus
from llm2comp_apps.corpus.readers import READERS, isolation
from llm2comp_apps.corpus.readers.archive import Archive
from llm2comp_apps.corpus.records import BrokenFileError
from llm2comp_apps.errors import CorpusError, UsageError

from . import forms

TEXT = "Whales sing in the deep sea."


@pytest.mark.parametrize("form", forms.FORMS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_form_gives_its_text_and_its_title(
    form: str, packed: bool, write: Any, read: Any, tmp_path: Path
) -> None:
    content = forms.FORMS[form](TEXT, "On whales")
    name = f"docs/a.{form}{'.gz' if packed else ''}"
    write(name, gzip.compress(content) if packed else content)
    (document,), report = read(str(tmp_path / "docs"))
    assert TEXT in document.text
    assert document.id.partition("#")[0] == name
    assert document.title == {"txt": "", "py": Path(name).name}.get(form, "On whales")
    assert report.notes == []
    assert [count.documents for count in report.kinds.values()] == [1]
    assert report.fraction == 1.0


def test_a_folder_of_every_form_is_read_in_one_process(write: Any, read: Any, tmp_path: Path) -> None:
    for form, make in forms.FORMS.items():
        write(f"docs/{form}/a.{form}", make(f"{TEXT} {form}", "On whales"))
    isolation._IDLE.clear()
    documents, report = read(str(tmp_path / "docs"))
    assert sorted(document.text.count(TEXT) for document in documents) == [1] * len(forms.FORMS)
    assert report.kinds.keys() == {*READERS, "md", "rst", "txt", "code"}
    assert len(isolation._IDLE) == 1


def test_pdf_by_page(write: Any, read: Any) -> None:
    path = write("a.pdf", forms.pdf(["one exam-\nple", "", "three"], "A title"))
    (whole,), _ = read(path)
    assert (whole.id, whole.title, whole.text.split("\n\n")[-1]) == ("a.pdf", "A title", "three")
    assert whole.metadata == {"author": "Ada", "date": "2024-06-01T10:00:00", "pages": 3}
    documents, report = read(path, pages=True)
    assert [(d.id, d.text.split()[0], d.metadata["page"]) for d in documents] == [
        ("a.pdf#page=1", "one", 1), ("a.pdf#page=3", "three", 3),
    ]  # fmt: skip
    assert report.documents == 2


@pytest.mark.parametrize(("title", "kept"), [("report.docx", ""), ("Untitled 1", ""), ("Microsoft Word - x", "")])
def test_pdf_titles_of_programs_are_none(title: str, kept: str, write: Any, read: Any) -> None:
    assert read(write("a.pdf", forms.pdf([TEXT], title)))[0][0].title == kept


def test_slides_and_chapters(write: Any, read: Any) -> None:
    slides = [("First", "one"), ("Second", "two")]
    documents, _ = read(write("a.pptx", forms.pptx(slides, "The show")), pages=True)
    assert [(d.id, d.title, d.metadata["slide"]) for d in documents] == [
        ("a.pptx#slide=1", "First", 1), ("a.pptx#slide=2", "Second", 2),
    ]  # fmt: skip
    assert "Say hello 2." in documents[0].text, "stored as the second"
    assert "77" not in documents[0].text, "the number of a slide is none of its text"
    documents, _ = read(write("a.epub", forms.epub([("", "one"), ("Two", "two")], "The book")), pages=True)
    assert [(d.id, d.title, d.text, d.metadata["book"]) for d in documents] == [
        ("a.epub#chapter=1", "The book", "one", "The book"), ("a.epub#chapter=2", "Two", "two", "The book"),
    ]  # fmt: skip
    (book,), _ = read(write("b.epub", forms.epub([("", "one"), ("Two", "two")], "The book")))
    assert book.text == "one\n\ntwo"


def test_a_process_with_many_open_files_reads_documents(write: Any, read: Any) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1300
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("this system allows fewer open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1030)]  # beyond what select() takes
    isolation._IDLE.clear()  # a new process gets pipes with high numbers
    try:
        (page,), _ = read(write("a.html", b"<title>Whales</title><p>They sing in the deep sea.</p>"))
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "sing in the deep sea" in page.text


def test_sheets(write: Any, read: Any) -> None:
    sheets = [
        ("Prices", [["name", "price"], ["whale song", "12.5", ""], ["", ""], ["a  b\nc", "7"]]),
        ("Empty", []),
        ("Notes", [["of the deep sea"]]),
    ]
    path = write("a.xlsx", forms.xlsx(sheets, "The book"))
    (whole,), _ = read(path)
    assert whole.text == "Prices\nname\tprice\nwhale song\t12.5\na b c\t7\n\nNotes\nof the deep sea"
    assert (whole.title, whole.metadata["sheets"]) == ("The book", 3)
    documents, _ = read(path, pages=True)
    assert [(d.id, d.metadata["sheet"], d.text.split()[0]) for d in documents] == [
        ("a.xlsx#sheet=1", "Prices", "name"), ("a.xlsx#sheet=3", "Notes", "of"),
    ]  # fmt: skip
    assert "spoken" not in whole.text


def test_a_long_text_that_many_cells_show_is_refused(write: Any, read: Any, tmp_path: Path) -> None:
    rows = [["x" * 1000 for _ in range(100)] for _ in range(100)]
    write("docs/a.xlsx", forms.xlsx([("Sheet", rows)]))
    with pytest.raises(CorpusError, match="longer than 20000 characters"):
        read(str(tmp_path / "docs" / "a.xlsx"), max_record_chars=20_000)


def test_html_is_its_main_content(write: Any, read: Any) -> None:
    page = (
        "<html><head><title> A\n page </title><meta name=description content='About it'></head><body class=x>"
        "<div role=navigation>menu</div><aside>advert</aside><article><h1>Head<a class=headerlink>¶</a></h1>"
        "<p>One <b>bo</b>ld&nbsp;word &amp; <script>no()</script>more.<p>Next<br>line</p>"
        "<pre>a = 1\n\n  b = 2</pre><table><tr><td>x<td>y</tr></table><ul><li>i<li>j</ul>end</article>"
        "<footer>imprint</footer></body></html>"
    )
    (document,), _ = read(write("a.html", page))
    expected = "Head\n\nOne bold word & more.\n\nNext\nline\n\na = 1\n\nb = 2\n\nx y\n\ni\nj\n\nend"
    assert (document.title, document.text) == ("A page", expected)
    assert document.metadata == {"description": "About it"}


@pytest.mark.parametrize(
    "content",
    [
        '<meta charset="latin-1"><p>café'.encode("latin-1"),
        "<p>café".encode("cp1252"),
        "<p>café".encode("utf-8-sig"),
        "<p>café".encode("utf-16"),
        '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251"><p>caf&eacute;'.encode("cp1251"),
        '<meta charset="no-such"><p>café'.encode(),
    ],
)
def test_html_in_any_encoding(content: bytes, write: Any, read: Any) -> None:
    assert read(write("a.html", content))[0][0].text == "café"


def test_word_documents_without_what_was_removed(write: Any, read: Any) -> None:
    (document,), _ = read(write("a.docx", forms.docx("One.\nTwo.")))
    assert (document.title, document.text) == ("The heading", "The heading\nOne.\nTwo.\n\nA footnote.")
    (document,), _ = read(write("a.odt", forms.odt("One.")))
    assert (document.title, document.text) == ("The heading", "The heading\n\nOne. end\nx")


def test_mail_with_attachments(write: Any, read: Any) -> None:
    inner = forms.eml("Deeper.", "Inner", {"deep.txt": b"The deepest."})
    mail = forms.eml(
        "See there.",
        "Größe",
        {"a.pdf": forms.pdf([TEXT]), "b.docx": b"broken", "c.bin": b"\0", "../../d.md": b"# Note", "e.eml": inner},
    )
    documents, report = read(write("a.eml", mail))
    assert [(d.id, d.title) for d in documents] == [
        ("a.eml", "Größe"),
        ("a.eml#attachment=a.pdf", "a.pdf"),
        ("a.eml#attachment=d.md", "d.md"),
        ("a.eml#attachment=e.eml", "Inner"),
        ("a.eml#attachment=e.eml/attachment=deep.txt", "deep.txt"),
    ]
    assert documents[0].metadata["attachments"] == ["a.pdf", "b.docx", "c.bin", "d.md", "e.eml"]
    assert documents[0].metadata["from"] == "Ada Löve <ada@example.org>"
    assert documents[1].metadata["mail"] == "Größe"
    assert documents[1].metadata["date"] == "2024-06-01T10:00:00+02:00"
    assert ["b.docx" in note for note in report.notes] == [True]


def test_mailbox(write: Any, read: Any) -> None:
    mails = [
        forms.eml(f"Text {number}.\nFrom here on.", f"Mail {number}", message_id=f"<{number % 2}@x>")
        for number in range(3)
    ]
    documents, _ = read(write("a.mbox", forms.mbox(mails)))
    assert [(d.id, d.title) for d in documents] == [
        ("a.mbox#0@x", "Mail 0"), ("a.mbox#1@x", "Mail 1"), ("a.mbox#0@x~2", "Mail 2"),
    ]  # fmt: skip
    assert documents[0].text == "Text 0.\nFrom here on."
    with pytest.raises(CorpusError, match="not a mailbox"):
        read(write("b.mbox", b"just text\n"))


def test_mail_without_plain_text(write: Any, read: Any) -> None:
    mail = b"From: a@x\nSubject: =?utf-8?q?caf=C3=A9?=\nContent-Type: text/html\n\n<style>x</style><p>One &amp; two"
    (document,), _ = read(write("a.eml", mail))
    assert (document.title, document.text) == ("café", "One & two")


def test_markdown_metadata(write: Any, read: Any) -> None:
    head = "---\ntitle: Kettles\ntags: [a, b]\ndate: 2024-06-01\ntext: no\n---\n\n# Heading\n\nBoil.\n"
    (document,), _ = read(write("a.md", head))
    assert (document.title, document.text) == ("Kettles", "# Heading\n\nBoil.\n")
    assert document.metadata == {"tags": ["a", "b"], "date": "2024-06-01"}
    (document,), _ = read(write("b.md", '+++\nkind = "x"\n+++\n# Heading\n'))
    assert (document.title, document.metadata) == ("Heading", {"kind": "x"})
    for text in (
        "---\n\nA rule above.\n\n---\nmore\n",
        "---\nnot: [closed\n---\nText\n",
        "---\nno end\n",
        "--- x\n---\n",
    ):
        (document,), report = read(write("c.md", text))
        assert document.metadata == {}
        assert document.text == text
        assert len(report.notes) == ("closed" in text)


def test_markdown_metadata_is_no_bomb(write: Any, read: Any) -> None:
    lines = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    (document,), report = read(write("a.md", f"---\n{lines}---\nText\n"))
    assert document.metadata == {}
    assert "aliases" in report.notes[0]


CODE = '''"""What it is for."""

import os

LIMIT = 5


# Explains one.
@decorator
def one():
    """First."""
    return {body}


def two(x):

    if x:
        return 2


class Three:
    """Third."""

    def inner(self):
        return {body}
'''


def test_code_by_function(write: Any, read: Any) -> None:
    source = CODE.replace("{body}", "[" + "'a long line', " * 60 + "]")
    documents, _ = read(write("pkg/mod.py", source))
    assert [(d.id, d.title, d.metadata["line"]) for d in documents] == [
        ("mod.py#part", "mod.py", 1), ("mod.py#one", "mod.py: one", 8), ("mod.py#two", "mod.py: two", 15),
        ("mod.py#Three", "mod.py: Three", 21),
    ]  # fmt: skip
    assert documents[1].text.startswith("# Explains one.\n@decorator\ndef one")
    assert "".join(d.text for d in documents).replace("\n", "") == source.replace("\n", "")
    (short,), _ = read(write("short.py", CODE.replace("{body}", "1")))
    assert short.id == "short.py"


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("a.go", "package a\n\nfunc (r *T) Run() {\n%s}\n\ntype B struct {\n%s}\n", ["Run", "B"]),
        ("a.rs", "use x;\n\n/// Doc.\npub fn run<T>(x: T) {\n%s}\n\nimpl B {\n%s}\n", ["run", "B"]),
        ("a.js", "'use strict'\n\nexport async function run(x) {\n%s}\n\nclass B {\n%s}\n", ["run", "B"]),
        ("a.c", "#include <a.h>\n\nstatic int run(int x)\n{\n%s}\n\nstruct B {\n%s};\n", ["run", "B"]),
        ("a.sql", "-- x\n\nCREATE TABLE run (\n%s);\n\nCREATE FUNCTION b(\n%s);\n", ["run", "b"]),
    ],
)
def test_code_of_other_languages(name: str, source: str, found: list[str], write: Any, read: Any) -> None:
    body = "".join(f"    line {number} of the body;\n" for number in range(40))
    documents, _ = read(write(name, source % (body, body)))
    assert [d.id.partition("#")[2] for d in documents][-2:] == found


def test_what_strings_of_several_lines_say_begins_nothing(write: Any, read: Any) -> None:
    text = '"""Title.\n\nclass that is none\n\ndef neither\n"""\n\nROOT = Path(__file__)\n' + "a = 1\n" * 200
    documents, _ = read(write("a.py", text + "\n\ndef real():\n" + "    x = 1\n" * 200))
    assert [d.id for d in documents] == ["a.py#part", "a.py#part~2", "a.py#real"]


def test_a_long_class_is_cut_between_its_methods(write: Any, read: Any) -> None:
    methods = "".join(f"    def method_{n}(self):\n" + "        call(something)\n" * 40 + "\n" for n in range(20))
    documents, _ = read(write("a.py", "class Big:\n    x = 1\n\n" + methods))
    assert len(documents) > 15
    assert max(len(d.text) for d in documents) < 2500
    assert "a.py#method_7" in {d.id for d in documents}


def refused(read: Any, tmp_path: Path) -> dict[str, tuple[str, str]]:
    """What was passed over in the folder ``docs``: why, and the reason."""
    (tmp_path / "docs" / "good.txt").write_text("a good file")
    documents, report = read(str(tmp_path / "docs"))
    assert [d.id for d in documents] == ["docs/good.txt"]
    return {Path(file.path).name: (file.why, file.reason) for file in report.passed_over}


def test_what_holds_no_text_or_is_locked_is_named(write: Any, read: Any, tmp_path: Path) -> None:
    write("docs/scan.pdf", forms.pdf(["", ""]))
    write("docs/empty.html", "<html><body><nav>x</nav></body></html>")
    write("docs/old.docx", b"\xd0\xcf\x11\xe0" + bytes(100))
    locked = "<encryption><CipherReference URI='OEBPS/text/c 0.xhtml'/></encryption>"
    write("docs/drm.epub", forms.epub([("", "x")], "t", **{"META-INF/encryption.xml": locked}))
    found = refused(read, tmp_path)
    assert {name: why for name, (why, _) in found.items()} == {
        "scan.pdf": "no text in it", "empty.html": "no text in it", "old.docx": "encrypted", "drm.epub": "encrypted",
    }  # fmt: skip
    assert found["scan.pdf"][1] == "2 pages without a text layer: a scan?"


def test_bombs_are_refused(write: Any, read: Any, tmp_path: Path, monkeypatch: Any) -> None:
    laughs = "<!DOCTYPE x [<!ENTITY a 'ha'>" + "".join(
        f"<!ENTITY {b} '&{a};&{a};'>" for a, b in zip("abcd", "bcde", strict=True)
    )
    write("docs/laughs.docx", forms.zipped({"word/document.xml": f"{laughs}]><x>&e;</x>"}))
    outside = "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>"
    write("docs/outside.odt", forms.zipped({"content.xml": outside}))
    write("docs/large.docx", forms.zipped({"word/document.xml": b"<x>" + bytes(300 * 2**20)}))
    write("docs/many.epub", forms.zipped({f"{number}.txt": b"" for number in range(20_001)}))
    found = refused(read, tmp_path)
    assert {name: why for name, (why, _) in found.items()} == {
        "laughs.docx": "too large", "outside.odt": "too large", "large.docx": "damaged", "many.epub": "too large",
    }  # fmt: skip


def test_an_archive_is_read_within_bounds_whatever_it_claims(monkeypatch: Any) -> None:
    from llm2comp_apps.corpus.readers import archive
    from llm2comp_apps.corpus.records import BrokenFileError

    data = io.BytesIO(forms.zipped({"a": bytes(1000), "b": bytes(1000)}))
    with zipfile.ZipFile(data) as opened:
        monkeypatch.setattr(archive, "_MAX_ENTRY", 999)
        with pytest.raises(BrokenFileError, match="a bomb"):
            Archive(opened).read("a")
        monkeypatch.setattr(archive, "_MAX_ENTRY", 2000)
        monkeypatch.setattr(archive, "_MAX_BYTES", 1500)
        both = Archive(opened)
        both.read("a")
        with pytest.raises(BrokenFileError, match="a bomb"):
            both.read("b")


def test_a_reader_that_hangs_or_crashes_costs_its_file_only(
    write: Any, read: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """A program that stands in for the reading process does what damaged files can make a parser do."""
    for name in ("1-hangs.html", "2-crashes.html", "3-fills.html", "4-fine.html"):
        write(f"docs/{name}", f"<p>{name}")
    stand_in = tmp_path / "worker.py"
    stand_in.write_text(
        "import os, time\nfrom llm2comp_apps.corpus.readers import html, worker\n"
        "read = html.read\ndef broken(file, job):\n"
        "    if 'hangs' in job.name: time.sleep(60)\n"
        "    if 'crashes' in job.name: os.kill(os.getpid(), 11)\n"
        "    if 'fills' in job.name: held = [bytes(2**28) for _ in range(8)]\n"
        "    return read(file, job)\nhtml.read = broken\nworker.main()\n"
    )
    monkeypatch.setattr(isolation, "_PROGRAM", stand_in)
    monkeypatch.setattr(isolation, "_IDLE", [])
    start = time.monotonic()
    documents, report = read(str(tmp_path / "docs"), max_seconds=2.0)
    assert time.monotonic() - start < 20
    assert [d.id for d in documents] == ["docs/4-fine.html"]
    assert [(Path(file.path).name, file.why) for file in report.passed_over] == [
        ("1-hangs.html", "took too long"), ("2-crashes.html", "damaged"), ("3-fills.html", "too large"),
    ]  # fmt: skip
    assert f"signal {signal.SIGSEGV.value}" in report.passed_over[1].reason


class Slow(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        time.sleep(0.05)
        return super().read(size)


def test_unpacking_may_not_take_longer_than_reading_and_a_pipe_may() -> None:
    with pytest.raises(BrokenFileError, match=r"took more than 0\.01 seconds") as caught:
        isolation._copy(Slow(b"text"), io.BytesIO(), 0.01)
    assert caught.value.why == "took too long"
    copied = io.BytesIO()
    assert isolation._copy(Slow(b"text"), copied, math.inf) >= 0.05
    assert copied.getvalue() == b"text"


def test_what_unpacking_took_is_not_there_for_reading(write: Any, read: Any, tmp_path: Path, monkeypatch: Any) -> None:
    with gzip.open(tmp_path / "hangs.html.gz", "wb") as packed:
        packed.write(b"<p>text")
    stand_in = tmp_path / "worker.py"
    stand_in.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(isolation, "_PROGRAM", stand_in)
    monkeypatch.setattr(isolation, "_IDLE", [])
    copy = isolation._copy
    monkeypatch.setattr(isolation, "_copy", lambda *given: copy(*given) + 39.9)
    start = time.monotonic()
    with pytest.raises(CorpusError, match="took more than 40 seconds"):
        read(str(tmp_path / "hangs.html.gz"), max_seconds=40.0)
    assert time.monotonic() - start < 20


def test_readings_side_by_side_and_given_up_do_not_mix(write: Any, tmp_path: Path) -> None:
    mails = [forms.eml(f"Text {number}.", f"Mail {number}", message_id=f"<{number}@x>") for number in range(50)]
    path = write("a.mbox", forms.mbox(mails))
    two = zip(read_corpus([path]), read_corpus([path]), strict=True)
    assert all(one == other for one, other in two)
    given_up = read_corpus([path])
    next(given_up)
    given_up.close()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(list(read_corpus([path]))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [50] * 4


def test_an_extra_that_is_missing_is_named(write: Any, read: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = write("docs/a.pdf", forms.pdf([TEXT]))
    found = refused(read, tmp_path)
    assert found["a.pdf"][0] == "needs the extra `documents`"
    assert "pip install 'llm2comp-apps[documents]'" in found["a.pdf"][1]
    with pytest.raises(CorpusError, match="reading pdf needs pypdfium2"):
        read(path)


@pytest.mark.parametrize("form", ["pdf", "html"])
def test_documents_through_a_pipe_go_by_their_content(form: str, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(forms.FORMS[form](TEXT, "On whales"),))
    writer.start()
    (document,) = read_corpus([path], CorpusOptions(), ReadReport())
    writer.join()
    assert TEXT in document.text


def test_seconds_must_be_some() -> None:
    with pytest.raises(UsageError, match="max_seconds must be above 0"):
        CorpusOptions(max_seconds=0)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (("store.db", "segments/x"), "an index, and no corpus; `llm2comp index export .* documents.parquet` writes"),
        (("topics.json", "documents.csv", "model/x"), "a clustering, and no corpus; name what it was made of, or its"),
    ],
)
def test_what_was_made_of_a_corpus_is_none(tmp_path, made, message):
    for name in (*made, "notes.txt"):
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).write_text("text", encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        list(read_corpus([tmp_path / "made"]))
    (tmp_path / "made" / made[0]).unlink()
    assert "text" in [document.text for document in read_corpus([tmp_path / "made"])]
