"""The map as a page and as a picture: whole, self-contained, the same each time; what a document says stays text."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2comp_apps.clustering.describing.timeline import topics_over_time
from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.clustering.output import map_html as map_page
from llm2comp_apps.clustering.output.map_html import MapData, map_html
from llm2comp_apps.clustering.output.map_png import write_map_png
from llm2comp_apps.clustering.output.map_points import label_positions
from llm2comp_apps.clustering.output.palette import OUTLIER_COLOR, topic_color
from llm2comp_apps.clustering.output.time_png import write_time_png
from llm2comp_apps.pictures import drawing


def topic(number, name, size, parent=None, level=1):
    return Topic(number, level, size, name, ((name, 1.0),), (0,), parent)


@pytest.fixture
def drawn():
    """A map of 60 documents of three topics and some outliers, with texts that would break a careless page."""
    random = np.random.default_rng(0)
    labels = np.array([0] * 25 + [1] * 20 + [2] * 10 + [-1] * 5, np.int32)
    positions = (random.standard_normal((60, 2)) + 6 * np.eye(3)[labels][:, :2]).astype(np.float32)
    texts = [f"text {i} " + "</script><script>alert(1)</script> {{JS}} <!-- & \u2028 é" * (i < 3) for i in range(60)]
    topics = [topic(0, "bread, dough", 25, 3), topic(1, "orbit, <moon>", 20, 3), topic(2, "chess", 10, 4)]
    topics += [topic(3, "both", 45, level=2), topic(4, "chess", 10, level=2)]
    probabilities = np.linspace(0, 1, 60, dtype=np.float32)
    return MapData("My <map>", positions, labels, probabilities, topics, [f"id-{i}" for i in range(60)], texts)


class Page(HTMLParser):
    """Collects the elements of a page, and the text of its data element."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.data, self._inside = [], "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = ("id", "data") in attrs

    def handle_data(self, data):
        self.data += data * self._inside

    def handle_endtag(self, tag):
        self._inside = False


def test_page_holds_all_documents_where_they_are(drawn):
    data = json.loads(Page(map_html(drawn)).data)
    x, y = (np.frombuffer(base64.b64decode(data[axis]), "<u2").astype(float) for axis in "xy")
    decoded = np.stack([x, 65_535 - y], axis=1)
    scale = np.ptp(drawn.positions, axis=0).max() / 65_535
    place, wanted = decoded * scale, drawn.positions
    np.testing.assert_allclose(place - place.min(axis=0), wanted - wanted.min(axis=0), atol=3 * scale)
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(data["topic"]), "<i2"), drawn.labels)
    probability = np.frombuffer(base64.b64decode(data["probability"]), "u1") / 255
    np.testing.assert_allclose(probability, drawn.probabilities, atol=1 / 255)
    assert data["ids"] == drawn.ids
    assert data["texts"][5] == drawn.texts[5].strip()
    assert [t["name"] for t in data["topics"]] == ["bread, dough", "orbit, <moon>", "chess"]
    assert [t["group"] for t in data["topics"]] == ["both", "both", "chess"]


def test_page_needs_no_network_and_runs_no_foreign_script(drawn):
    page = map_html(drawn)
    elements = Page(page).elements
    assert sum(tag == "script" for tag, _ in elements) == 2
    assert not any({"src", "href", "srcset"} & attributes.keys() for _, attributes in elements)
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", page)
    policy = next(a["content"] for t, a in elements if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "<title>My &lt;map&gt;</title>" in page
    assert "alert(1)</script>" not in page


def test_same_data_same_bytes(drawn, tmp_path):
    assert map_html(drawn) == map_html(drawn)
    for name in ("one.png", "other.png"):
        write_map_png(drawn, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_picture_shows_the_colors_of_the_topics(drawn, tmp_path):
    from matplotlib.image import imread

    write_map_png(drawn, tmp_path / "map.png")
    pixels = imread(tmp_path / "map.png")[:, :, :3]
    assert min(pixels.shape[:2]) > 500
    flat = pixels.reshape(-1, 3)
    for rank in range(3):
        wanted = np.array([int(topic_color(rank)[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(flat - (0.75 * wanted + 0.25)).max(axis=1) < 0.03).sum() > 100, rank
    assert (flat.min(axis=1) > 0.99).mean() > 0.3


@pytest.mark.parametrize("stretch", [(1, 50), (50, 1), (0, 0), (1, 0)])
def test_maps_of_any_shape(stretch, drawn, tmp_path):
    from dataclasses import replace

    from matplotlib.image import imread

    data = replace(drawn, positions=drawn.positions * np.array(stretch, np.float32))
    assert Page(map_html(data)).data
    write_map_png(data, tmp_path / "map.png")
    height, width = imread(tmp_path / "map.png").shape[:2]
    assert 1 / 3 < height / width < 3


def test_map_of_outliers_only_and_of_one_document(drawn, tmp_path):
    for n in (1, 5):
        none, zero = np.full(n, -1, np.int32), np.zeros(n, np.float32)
        data = MapData("few", drawn.positions[:n], none, zero, [], drawn.ids[:n], drawn.texts[:n])
        assert json.loads(Page(map_html(data)).data)["topics"] == []
        write_map_png(data, tmp_path / "map.png")


def test_long_texts_are_cut_and_more_so_in_a_large_corpus(drawn, monkeypatch):
    from dataclasses import replace

    page = map_html(replace(drawn, texts=["word " * 10_000] * 60))
    assert len(page) < 60 * 300 + 40_000
    assert json.loads(Page(page).data)["texts"][0].endswith("word…")
    monkeypatch.setattr(map_page, "_TEXTS_LENGTH", 60 * 100)
    texts = json.loads(Page(map_html(replace(drawn, texts=["word " * 10_000] * 60))).data)["texts"]
    assert all(90 <= len(text) <= 100 for text in texts)


def further(data):
    return json.loads(Page(map_html(data)).data)["further"]


def test_words_beyond_what_is_shown_can_be_searched(drawn):
    """Each once, in lower case, without what stands around it; and none that the shown part has."""
    from dataclasses import replace

    assert further(replace(drawn, texts=["short … text"] * 60)) == []
    long = "word " * 100 + "(Mitosis), word's mitosis; x<y E.coli"
    texts = ["short", long, " " * 2000 + "Late start"] * 20
    assert further(replace(drawn, texts=texts)) == ["", "mitosis word's x<y e.coli", "late start"] * 20


def test_words_of_a_large_corpus_are_left_out_and_the_page_says_so(drawn, monkeypatch):
    """All or none: what the search looks at is one line."""
    from dataclasses import replace

    long = replace(drawn, texts=["word " * 100 + f"é{i}" for i in range(100, 160)])
    monkeypatch.setattr(map_page, "_FURTHER_LENGTH", 5 * 60)  # bytes
    assert further(long) == [f"é{i}" for i in range(100, 160)]
    monkeypatch.setattr(map_page, "_FURTHER_LENGTH", 5 * 60 - 1)
    page = map_html(long)
    data = json.loads(Page(page).data)
    assert (data["further"], data["length"]) == (None, 240)
    assert len(page) < len(map_html(drawn)) + 60 * 240


def test_names_stand_on_documents_of_the_topic(drawn):
    places = label_positions(drawn.positions, drawn.labels, 3)
    for number, place in enumerate(places):
        own = drawn.positions[drawn.labels == number]
        assert (own == place).all(axis=1).any()


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@given(st.integers(0, 2000), st.sampled_from([("light", "#fcfcfa"), ("dark", "#14161b")]))
def test_colors_stand_out_from_the_page(rank, theme):
    """By the contrast that WCAG 2.1 asks of graphics, 3:1, or nearly."""
    color = topic_color(rank, theme[0])
    assert re.fullmatch("#[0-9a-f]{6}", color)
    light, dark = sorted([luminance(color), luminance(theme[1])], reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 2.1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colors_of_the_largest_topics_differ(theme):
    def rgb(color):
        return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])

    colors = [rgb(topic_color(rank, theme)) for rank in range(12)] + [rgb(OUTLIER_COLOR)]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(colors) for b in colors[:i]]
    assert min(distances) > 40


def test_letters_are_drawn_by_any_font_that_has_them(drawn, tmp_path, monkeypatch, caplog):
    from dataclasses import replace

    from matplotlib import font_manager

    fonts = [each for each in font_manager.fontManager.ttflist if each.name in ("DejaVu Sans", "STIXSizeFiveSym")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    letter = "\u20ec"  # stands for a script that matplotlib's own font lacks, in a font without bold letters
    with drawing(["bread", "dough"]) as families:
        assert families == ["sans-serif"]
    with drawing(["bread", letter, "\ue999"]) as families:
        assert families == ["sans-serif", "STIXSizeFiveSym"]
    topics = [replace(each, name=f"bread {letter}") for each in drawn.topics]
    assert write_map_png(replace(drawn, topics=topics), tmp_path / "map.png") == []
    timeline = topics_over_time(["2024"] * 60, drawn.labels, 3)
    write_time_png(timeline, topics[:3], tmp_path / "with.png")
    assert not caplog.messages
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [each for each in fonts if each.name == "DejaVu Sans"])
    write_time_png(timeline, topics[:3], tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_letters_that_no_font_has_are_told_in_one_line(drawn, tmp_path):
    from dataclasses import replace

    assert write_map_png(drawn, tmp_path / "latin.png") == []
    topics = [replace(each, name="कोशिका विभाजन") for each in drawn.topics]
    (line,) = write_map_png(replace(drawn, topics=topics), tmp_path / "hindi.png")
    assert "which no font here has; map.html shows them" in line


@pytest.mark.parametrize("name", [r"tax $\b$ cut", "from $5 to $10", r"a \$ and $x"])
def test_dollars_in_a_name_are_no_formula(name, drawn, tmp_path, monkeypatch):
    from dataclasses import replace

    from matplotlib.mathtext import MathTextParser

    def refuse(*_):
        pytest.fail("read as a formula")

    monkeypatch.setattr(MathTextParser, "parse", refuse)
    topics = [replace(each, name=name) for each in drawn.topics]
    assert write_map_png(replace(drawn, topics=topics), tmp_path / "map.png") == []
    timeline = topics_over_time([2020, 2021, 2021], np.array([0, 1, 2], np.int32), 3)
    write_time_png(timeline, topics[:3], tmp_path / "time.png")


def test_every_large_topic_is_named_inside_the_picture_and_in_the_legend(drawn, tmp_path, monkeypatch):
    """Three topics in one place: their names must make room for one another."""
    from dataclasses import replace

    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig

    def remember(figure, *args, **options):
        figures.append(figure)
        return save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    crowded = replace(drawn, positions=(drawn.positions * 0.01).astype(np.float32))
    write_map_png(crowded, tmp_path / "map.png")
    (figure,) = figures
    renderer = figure.canvas.get_renderer()
    texts = {text.get_text().replace("\n", " "): text.get_window_extent(renderer) for text in figure.axes[0].texts}
    assert set(texts) == {"bread, dough", "orbit, <moon>", "chess"}
    boxes = list(texts.values())
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "bread, dough  25", "orbit, <moon>  20", "chess  10", "outliers  5",
    ]  # fmt: skip
