"""Records that a producer should not send, and unusual ones that are valid. The key is the field `id`, the event time
the ISO 8601 text in the field `at`.

None of them may stop a batch. An invalid record must get exactly the fault that stands here, a valid one exactly this
key.
"""

from __future__ import annotations

from dataclasses import dataclass

from dedup_api.faults import Fault

_AT = b'"at":"2024-05-06T07:08:09Z"'


@dataclass(frozen=True)
class CorpusRecord:
    name: str
    value: bytes | None
    fault: Fault | None
    """None for a valid record."""
    text: bytes | None = None
    """The text whose hash is the key of a valid record."""

    @property
    def is_large(self) -> bool:
        return len(self.value or b"") > 900_000


def _with_id(literal: bytes) -> bytes:
    return b'{"id":' + literal + b"," + _AT + b"}"


CORPUS = (
    CorpusRecord("tombstone", None, Fault.TOMBSTONE),
    # bytes
    CorpusRecord("bytes that cannot begin a UTF-8 text", b"\xff\xfe", Fault.NOT_UTF8),
    CorpusRecord("UTF-8 that is cut off in the key", _with_id(b'"\xc3"'), Fault.NOT_UTF8),
    CorpusRecord("UTF-8 that is cut off at the end", _with_id(b"1") + b"\xe2\x82", Fault.NOT_UTF8),
    CorpusRecord("a byte of Latin-1 outside of the key", b'{"id":1,"z":"\xe4",' + _AT + b"}", Fault.NOT_UTF8),
    CorpusRecord("a slash in overlong UTF-8", _with_id(b'"\xc0\xaf"'), Fault.NOT_UTF8),
    CorpusRecord("a surrogate in UTF-8", _with_id(b'"\xed\xa0\x80"'), Fault.NOT_UTF8),
    CorpusRecord("a code point beyond Unicode", _with_id(b'"\xf4\x90\x80\x80"'), Fault.NOT_UTF8),
    CorpusRecord("UTF-16 with a byte order mark", _with_id(b"1").decode().encode("utf-16"), Fault.NOT_UTF8),
    CorpusRecord("UTF-16 without a byte order mark", _with_id(b"1").decode().encode("utf-16-le"), Fault.NOT_JSON),
    CorpusRecord("UTF-32 without a byte order mark", _with_id(b"1").decode().encode("utf-32-be"), Fault.NOT_JSON),
    CorpusRecord("UTF-8 with a byte order mark", b"\xef\xbb\xbf" + _with_id(b"1"), Fault.NOT_JSON),
    CorpusRecord("zeros", b"\x00" * 1000, Fault.NOT_JSON),
    # values that are not an object
    CorpusRecord("empty", b"", Fault.NOT_JSON),
    CorpusRecord("blank", b" \r\n\t", Fault.NOT_JSON),
    CorpusRecord("null", b"null", Fault.NOT_JSON),
    CorpusRecord("a number", b"1", Fault.NOT_JSON),
    CorpusRecord("a text", b'"x"', Fault.NOT_JSON),
    CorpusRecord("a list", b"[]", Fault.NOT_JSON),
    CorpusRecord("a list of the record", b"[" + _with_id(b"1") + b"]", Fault.NOT_JSON),
    CorpusRecord("a text that is not JSON", b"not json", Fault.NOT_JSON),
    CorpusRecord("Confluent's magic byte", b"\x00\x00\x00\x00\x07" + _with_id(b"1"), Fault.NOT_JSON),
    # values that begin like an object
    CorpusRecord("an opening brace", b"{", Fault.NOT_JSON),
    CorpusRecord("a closing brace", b"}", Fault.NOT_JSON),
    CorpusRecord("cut off before the value", b'{"id":', Fault.NOT_JSON),
    CorpusRecord("cut off in the value", b'{"id":1', Fault.NOT_JSON),
    CorpusRecord("cut off behind the fields that the driver reads", b'{"id":1,' + _AT + b',"z":"', Fault.NOT_JSON),
    CorpusRecord("a field without a value", b'{"id":1,"at":}', Fault.NOT_JSON),
    CorpusRecord("two objects", _with_id(b"1") + _with_id(b"2"), Fault.NOT_JSON),
    CorpusRecord("an object and a brace", _with_id(b"1") + b"}", Fault.NOT_JSON),
    CorpusRecord("single quotes", b"{'id':1," + _AT + b"}", Fault.NOT_JSON),
    CorpusRecord("a name without quotes", b"{id:1," + _AT + b"}", Fault.NOT_JSON),
    CorpusRecord("a comment", b'{/* */"id":1,' + _AT + b"}", Fault.NOT_JSON),
    CorpusRecord("a comma behind the last field", b'{"id":1,' + _AT + b",}", Fault.NOT_JSON),
    CorpusRecord("a line break in a text", _with_id(b'"a\nb"'), Fault.NOT_JSON),
    CorpusRecord("an escape that JSON does not know", _with_id(rb'"\x41"'), Fault.NOT_JSON),
    CorpusRecord("NaN", _with_id(b"NaN"), Fault.NOT_JSON),
    CorpusRecord("Infinity", _with_id(b"-Infinity"), Fault.NOT_JSON),
    CorpusRecord("a number with a leading zero", _with_id(b"01"), Fault.NOT_JSON),
    CorpusRecord("a number with a plus sign", _with_id(b"+1"), Fault.NOT_JSON),
    CorpusRecord("a number that begins with its point", _with_id(b".5"), Fault.NOT_JSON),
    CorpusRecord("a number that ends with its point", _with_id(b"1."), Fault.NOT_JSON),
    CorpusRecord("lists that never close", b'{"id":' + b"[" * 5000 + b"," + _AT + b"}", Fault.NOT_JSON),
    CorpusRecord("lists deep in another field", b'{"z":' + b"[" * 50_000 + b"]" * 50_000 + b',"id":1,' + _AT + b"}", Fault.NOT_JSON),
    CorpusRecord(
        "objects deep in another field", b'{"z":' + b'{"z":' * 5000 + b"1" + b"}" * 5000 + b',"id":1,' + _AT + b"}", Fault.NOT_JSON
    ),
    CorpusRecord("10 MB of open lists", b'{"z":' + b"[" * 10_000_000, Fault.NOT_JSON),
    # the key
    CorpusRecord("no fields", b"{}", Fault.KEY_MISSING),
    CorpusRecord("no key", b"{" + _AT + b"}", Fault.KEY_MISSING),
    CorpusRecord("the key's name in capitals", b'{"ID":1,' + _AT + b"}", Fault.KEY_MISSING),
    CorpusRecord("the key in a nested object", b'{"z":{"id":1},' + _AT + b"}", Fault.KEY_MISSING),
    CorpusRecord("a null key", _with_id(b"null"), Fault.KEY_MISSING),
    CorpusRecord("the key twice, null last", b'{"id":1,"id":null,' + _AT + b"}", Fault.KEY_MISSING),
    CorpusRecord("an empty key", _with_id(b'""'), Fault.KEY_EMPTY),
    CorpusRecord("an object as key", _with_id(b'{"x":1,"x":2}'), Fault.KEY_UNREADABLE),
    CorpusRecord("a list as key", _with_id(b"[1]"), Fault.KEY_UNREADABLE),
    CorpusRecord("900 nested lists as key", _with_id(b"[" * 900 + b"]" * 900), Fault.KEY_UNREADABLE),
    CorpusRecord("half a surrogate pair", _with_id(rb'"\ud800"'), Fault.KEY_UNREADABLE),
    CorpusRecord("a surrogate pair in the wrong order", _with_id(rb'"\udc00\ud800"'), Fault.KEY_UNREADABLE),
    # the time
    CorpusRecord("no time", b'{"id":1}', Fault.TIME_MISSING),
    CorpusRecord("a null time", b'{"id":1,"at":null}', Fault.TIME_MISSING),
    CorpusRecord("a text that is not a time", b'{"id":1,"at":"not a time"}', Fault.TIME_UNREADABLE),
    CorpusRecord("an empty text as time", b'{"id":1,"at":""}', Fault.TIME_UNREADABLE),
    CorpusRecord("true as time", b'{"id":1,"at":true}', Fault.TIME_UNREADABLE),
    CorpusRecord("an object as time", b'{"id":1,"at":{"x":1}}', Fault.TIME_UNREADABLE),
    CorpusRecord("a list as time", b'{"id":1,"at":[1]}', Fault.TIME_UNREADABLE),
    CorpusRecord("a number with a huge exponent as time", b'{"id":1,"at":1e999999999}', Fault.TIME_UNREADABLE),
    CorpusRecord("the 30th of February", b'{"id":1,"at":"2024-02-30T00:00:00Z"}', Fault.TIME_UNREADABLE),
    CorpusRecord("a word that Spark reads as a time", b'{"id":1,"at":"now"}', Fault.TIME_UNREADABLE),
    CorpusRecord("the year 294247", b'{"id":1,"at":"294247-01-10T04:00:54Z"}', Fault.TIME_UNREADABLE),
    CorpusRecord("half a surrogate pair as time", rb'{"id":1,"at":"\ud800"}', Fault.TIME_UNREADABLE),
    CorpusRecord("the year 2099", b'{"id":1,"at":"2099-01-01T00:00:00Z"}', Fault.TIME_IN_FUTURE),
    CorpusRecord("the year 9999", b'{"id":1,"at":"9999-12-31T23:59:59Z"}', Fault.TIME_IN_FUTURE),
    # unusual and valid
    CorpusRecord("blanks around every part", b" \n{ " + _AT + b' , "z" : [ 1 , { "id" : 5 } ] , "id" : "odd-1" }\r\n\t', None, b"s5:odd-1"),
    CorpusRecord("an escaped field name", rb'{"\u0069d":"odd-2",' + _AT + b"}", None, b"s5:odd-2"),
    CorpusRecord("the key twice", b'{"id":"first","id":"odd-3",' + _AT + b"}", None, b"s5:odd-3"),
    CorpusRecord("half a surrogate pair in another field", b'{"id":"odd-4","z":"\\ud800",' + _AT + b"}", None, b"s5:odd-4"),
    CorpusRecord("a zero byte in the key", _with_id(rb'"\u0000"'), None, b"s1:\x00"),
    CorpusRecord("U+FFFD in the key", _with_id(b'"\xef\xbf\xbd"'), None, b"s3:\xef\xbf\xbd"),
    CorpusRecord("a number with a huge exponent", _with_id(b"1e999999999"), None, b"n11:1e999999999"),
    CorpusRecord("a number of 5,000 digits", _with_id(b"7" * 5000), None, b"n5000:" + b"7" * 5000),
    CorpusRecord("a text of 2 MB as key", _with_id(b'"' + b"x" * 2_000_000 + b'"'), None, b"s2000000:" + b"x" * 2_000_000),
    CorpusRecord("10 MB in another field", b'{"z":"' + b"x" * 10_000_000 + b'","id":"odd-5",' + _AT + b"}", None, b"s5:odd-5"),
    CorpusRecord("the earliest time that is not late in a new job", b'{"id":"odd-6","at":"1970-01-01T00:00:00.001Z"}', None, b"s5:odd-6"),
)
