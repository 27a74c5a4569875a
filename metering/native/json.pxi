# Plain JSON of usage events. What is unusual in any way is no error here: it is left to the plain path.
#
# A Python bytes object ends with a NUL, which no token here takes: so no pointer runs past the end.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

cdef enum:
    MOST_SLOTS = 32
    NAME_LIMIT = 256
    DIGITS = 18

cdef int64_t LATEST_MS = 253402300799999

cdef enum Kind:
    NOTHING, TEXT, INTEGER, DECIMAL, LITERAL

cdef struct Name:  # text without its quotes
    const uint8_t *at
    Py_ssize_t size

cdef struct Slot:  # one entry of `data`
    Name key
    Name value
    Kind kind

cdef struct Event:
    Name id
    Name source
    Name type
    Name customer
    Name subject
    Name specversion
    Name time_digits  # of a time in milliseconds, as they stand there
    int64_t at
    Name data  # with its braces
    bint is_canonical  # `data` is written as the plain path writes it again
    int slots
    Slot[MOST_SLOTS] slot

cdef int[13] MONTH_DAYS
cdef int[13] BEFORE_MONTH
cdef uint8_t[256] IS_PLAIN  # inside a string: printable ASCII without quote and backslash


cdef inline const uint8_t *behind_space(const uint8_t *p) noexcept nogil:
    while p[0] == 32 or p[0] == 10 or p[0] == 13 or p[0] == 9:
        p += 1
    return p


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return 48 <= c <= 57


cdef inline const uint8_t *text(const uint8_t *p, Name *found) noexcept nogil:
    """A string; behind its closing quote, or NULL."""
    if p[0] != 34:
        return NULL
    p += 1
    found.at = p
    while IS_PLAIN[p[0]]:
        p += 1
    if p[0] != 34:
        return NULL
    found.size = p - found.at
    return p + 1


cdef const uint8_t *number(const uint8_t *p, Slot *slot) noexcept nogil:
    """A number of at most 18 digits and 6 decimals, without an exponent: its text is what it is."""
    cdef const uint8_t *first
    slot.value.at = p
    slot.kind = INTEGER
    if p[0] == 45:
        p += 1
    first = p
    while is_digit(p[0]):
        p += 1
    if p == first or p - first > DIGITS or (first[0] == 48 and p - first > 1):
        return NULL
    if p[0] == 46:
        slot.kind = DECIMAL
        p += 1
        first = p
        while is_digit(p[0]):
            p += 1
        if p == first or p - first > 6:
            return NULL
    elif slot.value.at[0] == 45 and first[0] == 48:
        return NULL  # -0 is 0
    if p[0] == 101 or p[0] == 69:
        return NULL
    slot.value.size = p - slot.value.at
    return p


cdef const uint8_t *scalar(const uint8_t *p, Slot *slot) noexcept nogil:
    """A string, a number, true, false or null; behind it, or NULL."""
    slot.kind = LITERAL
    if p[0] == 34:
        slot.kind = TEXT
        return text(p, &slot.value)
    if p[0] == 116:
        slot.value.at, slot.value.size = p, 4
        return p + 4 if p[1] == 114 and p[2] == 117 and p[3] == 101 else NULL
    if p[0] == 102:
        slot.value.at, slot.value.size = p, 5
        return p + 5 if p[1] == 97 and p[2] == 108 and p[3] == 115 and p[4] == 101 else NULL
    if p[0] == 110:
        slot.value.at, slot.value.size = p, 4
        return p + 4 if p[1] == 117 and p[2] == 108 and p[3] == 108 else NULL
    return number(p, slot)


cdef inline int order(const Name *a, const Name *b) noexcept nogil:
    cdef Py_ssize_t least = a.size if a.size < b.size else b.size
    cdef int found = memcmp(a.at, b.at, least)
    if found:
        return found
    return (a.size > b.size) - (a.size < b.size)


cdef const uint8_t *data_object(const uint8_t *p, Event *event) noexcept nogil:
    """`data`: an object of scalars; behind its brace, or NULL."""
    cdef const uint8_t *q
    cdef Slot *slot
    if p[0] != 123:
        return NULL
    event.data.at = p
    event.is_canonical = True
    p += 1
    q = behind_space(p)
    event.slots = 0
    if q[0] == 125:
        event.is_canonical = q == p
        event.data.size = q + 1 - event.data.at
        return q + 1
    while True:
        if event.slots == MOST_SLOTS:
            return NULL
        slot = &event.slot[event.slots]
        event.is_canonical &= q == p
        p = text(q, &slot.key)
        if p == NULL:
            return NULL
        q = behind_space(p)
        if q[0] != 58:
            return NULL
        event.is_canonical &= q == p
        p = q + 1
        q = behind_space(p)
        event.is_canonical &= q == p
        p = scalar(q, slot)
        if p == NULL:
            return NULL
        event.is_canonical &= slot.kind != DECIMAL
        if event.slots and order(&event.slot[event.slots - 1].key, &slot.key) >= 0:
            event.is_canonical = False
        event.slots += 1
        q = behind_space(p)
        event.is_canonical &= q == p
        if q[0] == 125:
            event.data.size = q + 1 - event.data.at
            return q + 1
        if q[0] != 44:
            return NULL
        p = q + 1
        q = behind_space(p)


cdef inline int pair(const uint8_t *p) noexcept nogil:
    return (p[0] - 48) * 10 + (p[1] - 48) if is_digit(p[0]) and is_digit(p[1]) else -1


cdef int64_t instant(const Name *said) noexcept nogil:
    """Epoch ms of `2026-01-05T10:00:00Z` with 0, 3 or 6 decimals; -1 for what is anything else."""
    cdef const uint8_t *p = said.at
    cdef int century, years, year, month, day, hour, minute, second, i
    cdef int leap = 0
    cdef int milliseconds = 0
    cdef int64_t past, days
    if said.size != 20 and said.size != 24 and said.size != 27:
        return -1
    if p[4] != 45 or p[7] != 45 or p[10] != 84 or p[13] != 58 or p[16] != 58 or p[said.size - 1] != 90:
        return -1
    if said.size > 20:
        if p[19] != 46:
            return -1
        for i in range(20, said.size - 1):
            if not is_digit(p[i]):
                return -1
        milliseconds = (p[20] - 48) * 100 + (p[21] - 48) * 10 + (p[22] - 48)
    century, years, month, day = pair(p), pair(p + 2), pair(p + 5), pair(p + 8)
    hour, minute, second = pair(p + 11), pair(p + 14), pair(p + 17)
    if century < 19 or years < 0 or not 1 <= month <= 12 or day < 1:
        return -1
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return -1
    year = century * 100 + years
    if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        leap = 1
    if year < 1970 or day > MONTH_DAYS[month] + (leap if month == 2 else 0):
        return -1
    past = year - 1
    days = past * 365 + past // 4 - past // 100 + past // 400 - 719162
    days += BEFORE_MONTH[month] + (leap if month > 2 else 0) + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60000 + second * 1000 + milliseconds


cdef inline bint reads(const Name *name, const char *said, Py_ssize_t size) noexcept nogil:
    return name.size == size and memcmp(name.at, said, size) == 0


cdef const uint8_t *time_of(const uint8_t *p, Event *event) noexcept nogil:
    cdef Slot slot
    cdef Py_ssize_t i
    p = scalar(p, &slot)
    if p == NULL:
        return NULL
    event.time_digits.size = 0
    if slot.kind == TEXT:
        event.at = instant(&slot.value)
    elif slot.kind == INTEGER and slot.value.at[0] != 45:
        event.at = 0
        for i in range(slot.value.size):
            event.at = event.at * 10 + (slot.value.at[i] - 48)
        event.time_digits = slot.value
    else:
        return NULL
    return p if 0 <= event.at <= LATEST_MS else NULL


cdef const uint8_t *field(const uint8_t *p, const Name *key, Event *event, int *seen) noexcept nogil:
    """One field of an event; behind its value, or NULL."""
    cdef Slot other
    cdef Name *name = NULL
    cdef int bit = 0
    if reads(key, b"id", 2):
        name, bit = &event.id, 1
    elif reads(key, b"customer", 8):
        name, bit = &event.customer, 2
    elif reads(key, b"source", 6):
        name, bit = &event.source, 4
    elif reads(key, b"type", 4):
        name, bit = &event.type, 8
    elif reads(key, b"subject", 7):
        name, bit = &event.subject, 16
    elif reads(key, b"specversion", 11):
        name, bit = &event.specversion, 32
    elif reads(key, b"time", 4):
        bit = 64
    elif reads(key, b"data", 4):
        bit = 128
    elif reads(key, b"at", 2) or reads(key, b"backfill", 8) or reads(key, b"lease", 5):
        return NULL
    else:
        return scalar(p, &other)  # a field that nobody reads
    if seen[0] & bit:
        return NULL
    seen[0] |= bit
    if name != NULL:
        p = text(p, name)
        return p if p != NULL and name.size <= NAME_LIMIT else NULL
    return time_of(p, event) if bit == 64 else data_object(p, event)


cdef const uint8_t *event_object(const uint8_t *p, Event *event) noexcept nogil:
    """One usage event; behind its brace, or NULL when it is not plain or lacks something."""
    cdef int seen = 0
    cdef Name key
    event.source.size = event.subject.size = event.specversion.size = event.customer.size = 0
    event.source.at = event.subject.at = event.customer.at = p
    if p[0] != 123:
        return NULL
    p = behind_space(p + 1)
    while True:
        p = text(p, &key)
        if p == NULL:
            return NULL
        p = behind_space(p)
        if p[0] != 58:
            return NULL
        p = field(behind_space(p + 1), &key, event, &seen)
        if p == NULL:
            return NULL
        p = behind_space(p)
        if p[0] == 125:
            break
        if p[0] != 44:
            return NULL
        p = behind_space(p + 1)
    if event.specversion.size:
        event.customer = event.subject
    if seen & 201 != 201 or not event.id.size or not event.type.size or not event.customer.size:
        return NULL
    return p + 1


cdef fill_json_tables():
    cdef int c, month
    for c in range(256):
        IS_PLAIN[c] = 32 <= c < 127 and c != 34 and c != 92
    for month, days in enumerate((0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)):
        MONTH_DAYS[month] = days
    BEFORE_MONTH[0] = BEFORE_MONTH[1] = 0
    for month in range(2, 13):
        BEFORE_MONTH[month] = BEFORE_MONTH[month - 1] + MONTH_DAYS[month - 1]
