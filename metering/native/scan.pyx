# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A batch of plain usage events straight into columns: the compiled twin of the columns' plain path.

It reads what most applications send and nothing else: ASCII names without escapes, flat `data`, times as
`instants` reads them. Whatever is not so is named in `left`, and the plain path decides on it. What it does
read must come out as there, bit by bit; tests/native compares both.
"""

import sys

import numpy as np

from cpython.dict cimport PyDict_GetItem
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_CheckExact
from cpython.long cimport PyLong_AsLong
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

cdef extern from "digests.h" nogil:
    void blake2b_12(const uint8_t *text, Py_ssize_t size, uint8_t *out)
    void fill_crc()
    uint32_t crc32(uint32_t crc, const uint8_t *text, Py_ssize_t size)

include "json.pxi"

cdef enum:
    MOST_TYPES = 64
    MOST_FIELDS = 8
    LONGEST_KEY = 4096
    ID_BYTES = 16
    SMALLEST_EVENT = 50  # bytes; no event that has all it needs is shorter
    ENVELOPE_LIMIT = 1000
    HOUR_MS = 3600000

cdef int64_t LARGEST = 9223372036854775807

MOST_TYPES_READ, MOST_FIELDS_READ = MOST_TYPES, MOST_FIELDS  # of a scanner

if sys.byteorder != "little":
    raise ImportError("the scanner was written for little-endian machines")
fill_crc()
fill_json_tables()


cdef struct Layout:
    Name type
    uint32_t crc  # of the type and a NUL
    int texts
    int numbers
    Name[MOST_FIELDS] text
    Name[MOST_FIELDS] number
    int[MOST_FIELDS] scale


cdef Name name_of(bytes text):
    cdef Name name
    name.at = <const uint8_t *> PyBytes_AS_STRING(text)
    name.size = PyBytes_GET_SIZE(text)
    return name


cdef class Scanner:
    """Reads events of the types in `layouts`: (type, keys of texts, keys and scales of numbers).

    A type with too many fields, or a name that is not plain, is left to the plain path.
    """

    cdef Layout *_layouts
    cdef int _types
    cdef int _last
    cdef int _width
    cdef dict _codes
    cdef list _kept

    def __cinit__(self):
        self._layouts = <Layout *> malloc(MOST_TYPES * sizeof(Layout))
        if self._layouts == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._layouts)

    def __init__(self, layouts):
        self._types = self._last = self._width = 0
        self._codes = {}
        self._kept = []
        for event_type, texts, numbers in layouts:
            if self._types == MOST_TYPES or len(texts) > MOST_FIELDS or len(numbers) > MOST_FIELDS:
                raise ValueError(f"more than the scanner holds: type {event_type}")
            self._add(event_type.encode(), [t.encode() for t in texts], [(k.encode(), s) for k, s in numbers])

    cdef _add(self, bytes event_type, list texts, list numbers):
        cdef Layout *layout = &self._layouts[self._types]
        self._kept.append((event_type, texts, numbers))
        layout.type = name_of(event_type)
        layout.crc = crc32(crc32(0, layout.type.at, layout.type.size), <const uint8_t *> b"\0", 1)
        layout.texts, layout.numbers = len(texts), len(numbers)
        for n, text in enumerate(texts):
            layout.text[n] = name_of(text)
        for n, (key, scale) in enumerate(numbers):
            layout.number[n] = name_of(key)
            layout.scale[n] = scale
        self._width = max(self._width, layout.numbers)
        self._types += 1

    def scan(self, list values):
        """Columns of the plain values, the values that are `left`, and places that were never met before.

        Returns (value_of, place, type, code, at, packed, whole, micro, left, fresh). A row's `code` stands
        for (type, customer, hour in epoch s, texts), which `fresh` lists once each in the order of their
        codes. `whole` and `micro` are a column a number: an integer, and what it is in micro-units; -1: none.
        """
        cdef Py_ssize_t room = len(values), n = 0, began, v
        for value in values:
            if value is not None:
                room += len(<bytes> value) // SMALLEST_EVENT
        rows = _Columns(room, self._width)
        cdef _Columns c = rows
        cdef list left = [], fresh = []
        cdef const uint8_t *p
        cdef const uint8_t *end
        for v in range(len(values)):
            value = values[v]
            began = n
            if value is not None:
                p = <const uint8_t *> PyBytes_AS_STRING(value)
                end = p + PyBytes_GET_SIZE(value)
                n = self._value(p, end, v, n, c, fresh)
            if n < 0 or value is None:
                n = began
                left.append(v)
        return (*c.cut(n), left, fresh)

    cdef Py_ssize_t _value(
        self, const uint8_t *p, const uint8_t *end, Py_ssize_t v, Py_ssize_t n, _Columns c, list fresh
    ) except? -2:
        """The row behind the last one of this value; -1 when it is left."""
        cdef Event event
        cdef int place = 0
        p = behind_space(p)
        if p[0] == 123:
            p = event_object(p, &event)
            if p == NULL or behind_space(p) != end or not self._row(&event, v, -1, n, c, fresh):
                return -1
            return n + 1
        if p[0] != 91:
            return -1
        p = behind_space(p + 1)
        while True:
            p = event_object(p, &event)
            if p == NULL or place == ENVELOPE_LIMIT or not self._row(&event, v, place, n, c, fresh):
                return -1
            n += 1
            place += 1
            p = behind_space(p)
            if p[0] == 93:
                return n if behind_space(p + 1) == end else -1
            if p[0] != 44:
                return -1
            p = behind_space(p + 1)

    cdef bint _row(self, Event *event, Py_ssize_t v, int place, Py_ssize_t n, _Columns c, list fresh) except -1:
        cdef int kind = self._type_of(&event.type)
        cdef long code
        cdef Layout *layout
        if kind < 0 or n == c.room or not _sorted_keys(event):
            return 0
        layout = &self._layouts[kind]
        code = self._code(event, kind, fresh)
        if code < 0:
            return 0
        c.value_of[n], c.place[n], c.kind[n], c.code[n], c.at[n] = v, place, kind, code, event.at
        _identify(event, layout, c.packed + n * ID_BYTES)
        _measure(event, layout, n, c)
        return 1

    cdef int _type_of(self, const Name *said) noexcept:
        cdef int n
        if self._types and order(said, &self._layouts[self._last].type) == 0:
            return self._last
        for n in range(self._types):
            if order(said, &self._layouts[n].type) == 0:
                self._last = n
                return n
        return -1

    cdef long _code(self, Event *event, int kind, list fresh) except -2:
        cdef uint8_t[LONGEST_KEY] key
        cdef int64_t hour = event.at // HOUR_MS * 3600
        cdef Py_ssize_t size = 9
        cdef Layout *layout = &self._layouts[kind]
        cdef const Slot *slot
        cdef int n
        key[0] = kind
        memcpy(key + 1, &hour, 8)
        memcpy(key + size, event.customer.at, event.customer.size)
        size += event.customer.size
        for n in range(layout.texts):
            key[size] = 0
            size += 1
            slot = _slot(event, &layout.text[n])
            if slot != NULL and not (slot.kind == LITERAL and slot.value.at[0] == 110):  # null is no text
                if size + slot.value.size + MOST_FIELDS > LONGEST_KEY:
                    return -1
                memcpy(key + size, slot.value.at, slot.value.size)
                size += slot.value.size
        packed = PyBytes_FromStringAndSize(<const char *> key, size)
        found = PyDict_GetItem(self._codes, packed)
        if found != NULL:
            return PyLong_AsLong(<object> found)
        code = len(self._codes)
        self._codes[packed] = code
        customer, *texts = packed[9:].decode("ascii").split("\0")
        fresh.append((kind, customer, hour, tuple(texts)))
        return code


cdef const Slot *_slot(const Event *event, const Name *key) noexcept nogil:
    cdef int n
    for n in range(event.slots):
        if event.slot[n].key.size == key.size and memcmp(event.slot[n].key.at, key.at, key.size) == 0:
            return &event.slot[n]
    return NULL


cdef bint _sorted_keys(Event *event) noexcept nogil:
    """Put the entries of `data` in the order of their keys; no when one comes twice."""
    cdef int n, place
    cdef Slot slot
    if event.is_canonical:
        return True
    for n in range(1, event.slots):
        slot = event.slot[n]
        place = n
        while place and order(&event.slot[place - 1].key, &slot.key) > 0:
            event.slot[place] = event.slot[place - 1]
            place -= 1
        event.slot[place] = slot
    for n in range(1, event.slots):
        if order(&event.slot[n - 1].key, &event.slot[n].key) == 0:
            return False
    return True


cdef void _identify(const Event *event, const Layout *layout, uint8_t *packed) noexcept nogil:
    """12 bytes of who it is and 4 of what it says, as `dedupe` packs them."""
    cdef uint8_t[3 * NAME_LIMIT + 2] joined
    cdef Py_ssize_t size = event.customer.size
    cdef uint32_t content
    memcpy(joined, event.customer.at, size)
    joined[size] = 0
    memcpy(joined + size + 1, event.source.at, event.source.size)
    size += 1 + event.source.size
    joined[size] = 0
    memcpy(joined + size + 1, event.id.at, event.id.size)
    size += 1 + event.id.size
    blake2b_12(joined, size, packed)
    content = _content(event, layout)
    packed[12], packed[13] = content >> 24, (content >> 16) & 255
    packed[14], packed[15] = (content >> 8) & 255, content & 255


cdef uint32_t _content(const Event *event, const Layout *layout) noexcept nogil:
    cdef uint32_t crc = layout.crc
    cdef uint8_t[20] digits
    cdef int64_t at = event.at
    cdef int place = 20
    cdef int n
    cdef const Slot *slot
    if event.time_digits.size:
        crc = crc32(crc, event.time_digits.at, event.time_digits.size)
    else:
        while True:
            place -= 1
            digits[place] = 48 + at % 10
            at //= 10
            if not at:
                break
        crc = crc32(crc, digits + place, 20 - place)
    if event.is_canonical:
        return crc32(crc, event.data.at, event.data.size)
    crc = crc32(crc, <const uint8_t *> b"{", 1)
    for n in range(event.slots):
        slot = &event.slot[n]
        crc = crc32(crc, <const uint8_t *> b',"', 2) if n else crc32(crc, <const uint8_t *> b'"', 1)
        crc = crc32(crc, slot.key.at, slot.key.size)
        crc = crc32(crc, <const uint8_t *> b'":', 2)
        if slot.kind == TEXT or slot.kind == DECIMAL:  # a Decimal is written as text
            crc = crc32(crc, <const uint8_t *> b'"', 1)
        crc = crc32(crc, slot.value.at, slot.value.size)
        if slot.kind == TEXT or slot.kind == DECIMAL:
            crc = crc32(crc, <const uint8_t *> b'"', 1)
    return crc32(crc, <const uint8_t *> b"}", 1)


cdef void _measure(const Event *event, const Layout *layout, Py_ssize_t n, _Columns c) noexcept:
    cdef int k
    cdef const Slot *slot
    for k in range(layout.numbers):
        slot = _slot(event, &layout.number[k])
        c.whole[k * c.room + n] = c.micro[k * c.room + n] = -1
        if slot != NULL and slot.kind != LITERAL:
            _quantity(slot, layout.scale[k], &c.whole[k * c.room + n], &c.micro[k * c.room + n])


cdef void _quantity(const Slot *slot, int scale, int64_t *whole, int64_t *micro) noexcept nogil:
    """What `measure.plain_number` reads: digits, perhaps a point and up to `scale` digits."""
    cdef const uint8_t *p = slot.value.at
    cdef const uint8_t *end = p + slot.value.size
    cdef const uint8_t *start = p
    cdef int64_t value = 0
    cdef int64_t part = 0
    cdef int decimals = 0
    while p < end and is_digit(p[0]):
        if p - start == DIGITS:
            return
        value = value * 10 + (p[0] - 48)
        p += 1
    if p == start:
        return
    if p == end:
        if slot.kind == INTEGER:
            whole[0] = value
    elif p[0] == 46 and 1 <= end - p - 1 <= scale:
        p += 1
        while p < end:
            if not is_digit(p[0]):
                return
            part = part * 10 + (p[0] - 48)
            decimals += 1
            p += 1
    else:
        return
    while decimals < 6:
        part *= 10
        decimals += 1
    if value <= (LARGEST - part) // 1000000:
        micro[0] = value * 1000000 + part


cdef class _Columns:
    """Room for rows; the arrays own the memory."""

    cdef Py_ssize_t room
    cdef tuple _arrays
    cdef int64_t *value_of
    cdef int64_t *place
    cdef int64_t *kind
    cdef int64_t *code
    cdef int64_t *at
    cdef uint8_t *packed
    cdef int64_t *whole
    cdef int64_t *micro

    def __init__(self, Py_ssize_t room, int width):
        self.room = room
        made = [np.empty(room, np.int64) for _ in range(5)]
        made.append(np.empty((room, ID_BYTES), np.uint8))
        made += [np.empty((width, room), np.int64) for _ in range(2)]
        self._arrays = tuple(made)
        self.value_of, self.place = _longs(made[0]), _longs(made[1])
        self.kind, self.code, self.at = _longs(made[2]), _longs(made[3]), _longs(made[4])
        self.packed = <uint8_t *> <size_t> made[5].ctypes.data
        self.whole, self.micro = _longs(made[6]), _longs(made[7])

    def cut(self, Py_ssize_t n):
        """The arrays, as far as they are filled."""
        *flat, whole, micro = self._arrays
        return *[one[:n] for one in flat], whole[:, :n], micro[:, :n]


cdef int64_t *_longs(array):
    return <int64_t *> <size_t> array.ctypes.data
