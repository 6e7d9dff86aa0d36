"""The corpus of hostile records: values that nobody should have sent, and what each is. Key field `id`, event time field `at`, ISO 8601.

None of them may stop a batch, whatever its bytes; each that is invalid has this fault and no other, and each that is valid this key.
"""

from __future__ import annotations

from dataclasses import dataclass

from dedup_api.faults import Fault

_AT = b'"at":"2024-05-06T07:08:09Z"'


@dataclass(frozen=True)
class Hostile:
    name: str
    value: bytes | None
    fault: Fault | None
    """None for a valid record, however odd."""
    text: bytes | None = None
    """What is hashed to the key of a valid one."""

    @property
    def is_large(self) -> bool:
        return len(self.value or b"") > 900_000


def _with_id(literal: bytes) -> bytes:
    return b'{"id":' + literal + b"," + _AT + b"}"


CORPUS = (
    Hostile("tombstone", None, Fault.TOMBSTONE),
    # bytes
    Hostile("bytes that no UTF-8 begins with", b"\xff\xfe", Fault.NOT_UTF8),
    Hostile("UTF-8 that is cut off in the key", _with_id(b'"\xc3"'), Fault.NOT_UTF8),
    Hostile("UTF-8 that is cut off at the end", _with_id(b"1") + b"\xe2\x82", Fault.NOT_UTF8),
    Hostile("a byte of Latin-1 outside of the key", b'{"id":1,"z":"\xe4",' + _AT + b"}", Fault.NOT_UTF8),
    Hostile("an overlong slash", _with_id(b'"\xc0\xaf"'), Fault.NOT_UTF8),
    Hostile("a surrogate in UTF-8", _with_id(b'"\xed\xa0\x80"'), Fault.NOT_UTF8),
    Hostile("beyond Unicode", _with_id(b'"\xf4\x90\x80\x80"'), Fault.NOT_UTF8),
    Hostile("UTF-16 with its mark", _with_id(b"1").decode().encode("utf-16"), Fault.NOT_UTF8),
    Hostile("UTF-16 without", _with_id(b"1").decode().encode("utf-16-le"), Fault.NOT_JSON),
    Hostile("UTF-32 without", _with_id(b"1").decode().encode("utf-32-be"), Fault.NOT_JSON),
    Hostile("byte order mark", b"\xef\xbb\xbf" + _with_id(b"1"), Fault.NOT_JSON),
    Hostile("zeros", b"\x00" * 1000, Fault.NOT_JSON),
    # what is no object
    Hostile("empty", b"", Fault.NOT_JSON),
    Hostile("blank", b" \r\n\t", Fault.NOT_JSON),
    Hostile("null", b"null", Fault.NOT_JSON),
    Hostile("a number", b"1", Fault.NOT_JSON),
    Hostile("a text", b'"x"', Fault.NOT_JSON),
    Hostile("a list", b"[]", Fault.NOT_JSON),
    Hostile("a list of the record", b"[" + _with_id(b"1") + b"]", Fault.NOT_JSON),
    Hostile("prose", b"not json", Fault.NOT_JSON),
    Hostile("Confluent's magic byte", b"\x00\x00\x00\x00\x07" + _with_id(b"1"), Fault.NOT_JSON),
    # what begins like one
    Hostile("brace", b"{", Fault.NOT_JSON),
    Hostile("closing brace", b"}", Fault.NOT_JSON),
    Hostile("cut off before the value", b'{"id":', Fault.NOT_JSON),
    Hostile("cut off in the value", b'{"id":1', Fault.NOT_JSON),
    Hostile("cut off behind all that is read", b'{"id":1,' + _AT + b',"z":"', Fault.NOT_JSON),
    Hostile("a field without a value", b'{"id":1,"at":}', Fault.NOT_JSON),
    Hostile("two objects", _with_id(b"1") + _with_id(b"2"), Fault.NOT_JSON),
    Hostile("an object and a brace", _with_id(b"1") + b"}", Fault.NOT_JSON),
    Hostile("single quotes", b"{'id':1," + _AT + b"}", Fault.NOT_JSON),
    Hostile("a name without quotes", b"{id:1," + _AT + b"}", Fault.NOT_JSON),
    Hostile("a comment", b'{/* */"id":1,' + _AT + b"}", Fault.NOT_JSON),
    Hostile("a comma too many", b'{"id":1,' + _AT + b",}", Fault.NOT_JSON),
    Hostile("a line break in a text", _with_id(b'"a\nb"'), Fault.NOT_JSON),
    Hostile("an escape that is none", _with_id(rb'"\x41"'), Fault.NOT_JSON),
    Hostile("NaN", _with_id(b"NaN"), Fault.NOT_JSON),
    Hostile("Infinity", _with_id(b"-Infinity"), Fault.NOT_JSON),
    Hostile("a zero before the number", _with_id(b"01"), Fault.NOT_JSON),
    Hostile("a plus before the number", _with_id(b"+1"), Fault.NOT_JSON),
    Hostile("a number that begins with its point", _with_id(b".5"), Fault.NOT_JSON),
    Hostile("a number that ends with its point", _with_id(b"1."), Fault.NOT_JSON),
    Hostile("lists that never close", b'{"id":' + b"[" * 5000 + b"," + _AT + b"}", Fault.NOT_JSON),
    Hostile("lists deep in another field", b'{"z":' + b"[" * 50_000 + b"]" * 50_000 + b',"id":1,' + _AT + b"}", Fault.NOT_JSON),
    Hostile("objects deep in another field", b'{"z":' + b'{"z":' * 5000 + b"1" + b"}" * 5000 + b',"id":1,' + _AT + b"}", Fault.NOT_JSON),
    Hostile("10 MB of open lists", b'{"z":' + b"[" * 10_000_000, Fault.NOT_JSON),
    # the key
    Hostile("no fields", b"{}", Fault.KEY_MISSING),
    Hostile("no key", b"{" + _AT + b"}", Fault.KEY_MISSING),
    Hostile("the key in capitals", b'{"ID":1,' + _AT + b"}", Fault.KEY_MISSING),
    Hostile("the key one level down", b'{"z":{"id":1},' + _AT + b"}", Fault.KEY_MISSING),
    Hostile("a null key", _with_id(b"null"), Fault.KEY_MISSING),
    Hostile("the key twice, null last", b'{"id":1,"id":null,' + _AT + b"}", Fault.KEY_MISSING),
    Hostile("an empty key", _with_id(b'""'), Fault.KEY_EMPTY),
    Hostile("an object for a key", _with_id(b'{"x":1,"x":2}'), Fault.KEY_UNREADABLE),
    Hostile("a list for a key", _with_id(b"[1]"), Fault.KEY_UNREADABLE),
    Hostile("900 lists for a key", _with_id(b"[" * 900 + b"]" * 900), Fault.KEY_UNREADABLE),
    Hostile("half a surrogate pair", _with_id(rb'"\ud800"'), Fault.KEY_UNREADABLE),
    Hostile("a pair the wrong way round", _with_id(rb'"\udc00\ud800"'), Fault.KEY_UNREADABLE),
    # the time
    Hostile("no time", b'{"id":1}', Fault.TIME_MISSING),
    Hostile("a null time", b'{"id":1,"at":null}', Fault.TIME_MISSING),
    Hostile("prose for a time", b'{"id":1,"at":"not a time"}', Fault.TIME_UNREADABLE),
    Hostile("an empty time", b'{"id":1,"at":""}', Fault.TIME_UNREADABLE),
    Hostile("true for a time", b'{"id":1,"at":true}', Fault.TIME_UNREADABLE),
    Hostile("an object for a time", b'{"id":1,"at":{"x":1}}', Fault.TIME_UNREADABLE),
    Hostile("a list for a time", b'{"id":1,"at":[1]}', Fault.TIME_UNREADABLE),
    Hostile("a number without end for a time", b'{"id":1,"at":1e999999999}', Fault.TIME_UNREADABLE),
    Hostile("the 30th of February", b'{"id":1,"at":"2024-02-30T00:00:00Z"}', Fault.TIME_UNREADABLE),
    Hostile("a word that Spark takes for a time", b'{"id":1,"at":"now"}', Fault.TIME_UNREADABLE),
    Hostile("the year 294247", b'{"id":1,"at":"294247-01-10T04:00:54Z"}', Fault.TIME_UNREADABLE),
    Hostile("half a pair for a time", rb'{"id":1,"at":"\ud800"}', Fault.TIME_UNREADABLE),
    Hostile("the year 2099", b'{"id":1,"at":"2099-01-01T00:00:00Z"}', Fault.TIME_IN_FUTURE),
    Hostile("the year 9999", b'{"id":1,"at":"9999-12-31T23:59:59Z"}', Fault.TIME_IN_FUTURE),
    # odd, and valid
    Hostile("blanks around all", b" \n{ " + _AT + b' , "z" : [ 1 , { "id" : 5 } ] , "id" : "odd-1" }\r\n\t', None, b"s5:odd-1"),
    Hostile("an escaped name", rb'{"\u0069d":"odd-2",' + _AT + b"}", None, b"s5:odd-2"),
    Hostile("the key twice", b'{"id":"first","id":"odd-3",' + _AT + b"}", None, b"s5:odd-3"),
    Hostile("half a pair in another field", b'{"id":"odd-4","z":"\\ud800",' + _AT + b"}", None, b"s5:odd-4"),
    Hostile("a zero byte in the key", _with_id(rb'"\u0000"'), None, b"s1:\x00"),
    Hostile("U+FFFD in the key", _with_id(b'"\xef\xbf\xbd"'), None, b"s3:\xef\xbf\xbd"),
    Hostile("a number without end", _with_id(b"1e999999999"), None, b"n11:1e999999999"),
    Hostile("a number of 5,000 digits", _with_id(b"7" * 5000), None, b"n5000:" + b"7" * 5000),
    Hostile("a text of 2 MB for a key", _with_id(b'"' + b"x" * 2_000_000 + b'"'), None, b"s2000000:" + b"x" * 2_000_000),
    Hostile("10 MB in another field", b'{"z":"' + b"x" * 10_000_000 + b'","id":"odd-5",' + _AT + b"}", None, b"s5:odd-5"),
    Hostile("the first millisecond that is not late in a new job", b'{"id":"odd-6","at":"1970-01-01T00:00:00.001Z"}', None, b"s5:odd-6"),
)
