"""From bytes to characters by what a page or a mail says of itself, taken as it is meant."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

__all__ = ["decoded"]

# What is meant where these are said (WHATWG Encoding Standard, "Names and labels"), by Python's names: programs say
# ISO 8859-1 and write Windows-1252, whose quotes and dashes are control characters in the other one.
_MEANT = {
    "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874", "gb2312": "gb18030",
    "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949",
}  # fmt: skip


def decoded(data: bytes, labels: Iterable[str] = ()) -> str:
    """The characters, by the first label under which all of the bytes are some; else as UTF-8 or as Windows-1252."""
    for label in (*labels, "utf-8"):
        try:
            name = codecs.lookup(label).name
            return data.decode(_MEANT.get(name, name))
        except (LookupError, ValueError):  # no encoding of text, or not this one
            continue
    return data.decode("cp1252", "replace")
