"""Keywords of topics: class-based TF-IDF (Grootendorst 2022) over words and word pairs, made diverse.

A term's weight in a topic is its share of the topic's terms times ``log(1 + A / f)``, f being how often it occurs
anywhere and A the mean number of terms in a topic: frequent here, rare elsewhere. Two changes to the original: a
document's counts enter by their square root, lest one long document name the topic; and of the share in the topic the
share in all topics is taken off, since among few topics the logarithm alone leaves ``time`` or ``people`` on top.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.describing.words import composed, in_text, split_words

if TYPE_CHECKING:
    from scipy import sparse

__all__ = ["TermCounts", "alike", "count_terms", "ctfidf", "topic_keywords", "without_inflections"]

_CHARACTERS = 4_000  # of a document: the start of a long one says what it is about
_MOST_TERMS = 50_000
_CANDIDATES = 30
_RELEVANCE = 0.7  # of maximal marginal relevance; the rest is diversity
_SURFACE_SAMPLE = 50  # documents with a keyword that are asked how it is written
_SAME_START = 5  # letters
_PHRASE_SHARE = 0.6
_ACRONYM = 4  # letters of the longest
_QUIET_SHARE = 0.2
_FEW = 3  # documents that a keyword is in, fewer in a topic of less than 16
_RARE_WEIGHT = np.float32(0.1)

# What scikit-learn's English list has not: contractions as the pattern above keeps them, words of talk and mail, and
# who an article is from.
_MORE_STOP_WORDS = """
a's ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't he'd he'll he's i'd i'll i'm i've isn't it'd
it'll it's let's mustn't shan't she'd she'll she's shouldn't that's there's they'd they'll they're they've wasn't we'd
we'll we're we've weren't what's where's who's won't wouldn't you'd you'll you're you've im ive dont doesnt didnt cant
just like know think want use used using need way really good make make going got did does said says say let ve ll re
don new use thanks mr mrs ms thank subject re fwd edu com www http https html lt gt amp quot nbsp href
monday tuesday wednesday thursday friday saturday sunday ago today yesterday tomorrow tonight week weeks month months
year years day days said told announce announces announced announcing report reports reported according including
reuters afp ap upi
"""
#: The line of Markdown that opens or closes a listing, and names its language.
_FENCE = re.compile(r"^[ \t]*(?:```|~~~).*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TermCounts:
    """How much each of T terms occurs in each of n documents.

    Attributes:
        counts: ``(n, T)`` sparse, square roots of occurrences.
        terms: T lower-case words and pairs of words.
    """

    counts: sparse.csr_matrix
    terms: npt.NDArray[np.str_]


def count_terms(texts: Sequence[str], language: str = "english") -> TermCounts:
    """Count words and pairs of neighbouring words, without stop words and without terms that occur only once.

    A pair has nothing but white space between its words: not the end of a sentence, a number or a stop word.

    Args:
        texts: n documents; the first 4,000 characters of each are read.
        language: ``english``, or ``none`` for no stop words.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, CountVectorizer

    stop_words = frozenset(ENGLISH_STOP_WORDS | set(_MORE_STOP_WORDS.split())) if language == "english" else frozenset()
    least = 2 if len(texts) > 20 else 1

    def terms_of(text: str) -> list[str]:
        words = split_words(_FENCE.sub(".", text))
        kept = [None if len(word) < 2 or word in stop_words else word for word in words]
        pairs = [f"{a} {b}" for a, b in itertools.pairwise(kept) if a and b and a != b]
        return [word for word in kept if word] + pairs

    counter = CountVectorizer(analyzer=terms_of, min_df=least, max_features=_MOST_TERMS, dtype=np.float32)
    try:
        counts = counter.fit_transform([composed(text[:_CHARACTERS].lower()) for text in texts])
    except ValueError:  # scikit-learn's word for "no term is left"
        return TermCounts(sparse.csr_matrix((len(texts), 0), dtype=np.float32), np.array([], dtype=np.str_))
    return TermCounts(counts.sqrt(), counter.get_feature_names_out())


def ctfidf(counts: TermCounts, labels: IntArray, topics: int) -> sparse.csr_matrix:
    """Weigh the terms in each topic: ``(C, T)``; outliers (label -1) count for no topic."""
    from scipy import sparse

    inside = labels >= 0
    ones = np.ones(int(inside.sum()), dtype=np.float32)
    member = sparse.csr_matrix((ones, (labels[inside], np.flatnonzero(inside))), shape=(topics, len(labels)))
    frequency = (member @ counts.counts).tocsr()
    total = np.asarray(frequency.sum(axis=1)).ravel()
    everywhere = np.asarray(frequency.sum(axis=0)).ravel()
    share = (sparse.diags(np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)) @ frequency).tocsr()
    if np.count_nonzero(total) > 1:
        share.data = np.maximum(share.data - (everywhere / everywhere.sum())[share.indices], 0)
    rarity = np.log1p(total[total > 0].mean() / np.maximum(everywhere, 1e-12)) if everywhere.any() else everywhere
    weights = (share @ sparse.diags(rarity)).tocsr()
    weights.eliminate_zeros()
    return weights


def topic_keywords(
    counts: TermCounts,
    weights: sparse.csr_matrix,
    labels: IntArray,
    texts: Sequence[str],
    topics: Iterable[int],
    count: int = 10,
) -> dict[int, list[tuple[str, float]]]:
    """Pick the keywords of each topic with their weights, the most telling first, spelled as the documents spell them.

    Maximal marginal relevance (Carbonell and Goldstein 1998) keeps out what only repeats a keyword already taken: two
    terms are alike as far as they occur in the same documents, and more so with a word in common; two forms of one word
    are one, and a word that comes mostly in one pair gives way to the pair.
    """
    keywords = {}
    for topic in topics:
        row = weights.getrow(topic)
        best = np.lexsort((row.indices, -row.data))[:_CANDIDATES]
        members = np.flatnonzero(labels == topic)
        candidates = without_inflections(counts.terms, row.indices[best])
        relevance = np.asarray(weights[topic, candidates].todense()).ravel()
        present = (counts.counts[members][:, candidates] > 0).astype(np.float32).tocsc()
        together = np.asarray((present.T @ present).todense())  # documents that have both terms, (c, c)
        # In a small corpus, a word of one or two documents is in no other topic by chance: it comes after the others.
        rare = together.diagonal() < min(_FEW, 1 + len(members) // 8)
        relevance = np.where(rare, relevance * _RARE_WEIGHT, relevance)
        relevance = _favor_phrases(relevance, together, [str(term) for term in counts.terms[candidates]])
        size = np.sqrt(np.maximum(together.diagonal(), 1.0))
        likeness = (together / np.outer(size, size) + alike(counts.terms[candidates])).astype(np.float32)
        chosen = _diverse(relevance, likeness, count)
        found = []
        for c in chosen:
            having = members[present[:, [c]].nonzero()[0][:_SURFACE_SAMPLE]]
            spelled = _as_written(str(counts.terms[candidates[c]]), [texts[i] for i in having.tolist()])
            found.append((spelled, round(float(relevance[c]), 6)))
        keywords[topic] = found
    return keywords


def without_inflections(terms: npt.NDArray[np.str_], candidates: IntArray) -> IntArray:
    """Keep the first of ``gun`` and ``guns``, ``study`` and ``studies``, ``windows`` and ``window``."""
    first = {_stem(str(terms[candidate])): candidate for candidate in reversed(candidates)}
    return np.array([candidate for candidate in candidates if candidate in first.values()], dtype=np.int32)


def _stem(term: str) -> str:
    words = [re.sub(r"['’]s$", "", word) for word in re.split(r"[ -]", term)]
    for _ in range(2):  # viruses, virus, viru
        words = [re.sub(r"(?<=..)(?:ies|es?|(?<!s)s|y)$", "", word) for word in words]
    return " ".join(words)


def _favor_phrases(relevance: FloatArray, together: FloatArray, terms: Sequence[str]) -> FloatArray:
    """Move the weight of ``coli`` to ``escherichia coli`` where most documents that have the one have the other."""
    moved = relevance.copy()
    for pair, phrase in enumerate(terms):
        for word in [terms.index(part) for part in phrase.split() if part in terms and part != phrase]:
            if together[word, pair] >= _PHRASE_SHARE * together[word, word]:
                moved[pair] = max(moved[pair], relevance[word])
                moved[word] = 0.0
    return moved


def alike(terms: npt.NDArray[np.str_]) -> FloatArray:
    """2 for two terms with a word in common, or nearly (``Israel`` and ``Israeli``), else 0: ``(c, c)``."""
    words = [{word[:_SAME_START] for word in str(term).split()} for term in terms]
    return np.array([[2.0 * bool(one & other) for other in words] for one in words], dtype=np.float32)


def _diverse(relevance: FloatArray, likeness: FloatArray, count: int) -> list[int]:
    if not len(relevance):
        return []
    scaled = relevance / max(float(relevance.max()), 1e-12)
    chosen = [int(relevance.argmax())]
    while len(chosen) < min(count, int(np.count_nonzero(relevance))):
        gain = _RELEVANCE * scaled - (1 - _RELEVANCE) * likeness[:, chosen].max(axis=1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen


def _as_written(term: str, texts: Sequence[str]) -> str:
    """Give back the capitals that most of the documents use: ``NASA``, but ``gun`` also at a sentence's start.

    A long word in capitals only is more often a shout than an acronym: it gives way to a quieter form that is not rare.
    """
    pool = "\n".join(composed(text[:_CHARACTERS]) for text in texts)
    forms = Counter(" ".join(form.split()) for form in re.findall(in_text(term), pool, flags=re.IGNORECASE))
    quiet = {form: count for form, count in forms.items() if not form.isupper()}
    if max(map(len, term.split(" "))) > _ACRONYM and sum(quiet.values()) >= _QUIET_SHARE * forms.total():
        forms = Counter(quiet)
    return max(forms, key=lambda form: (forms[form], form)) if forms else term
