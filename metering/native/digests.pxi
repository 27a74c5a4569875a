# The two digests of an event: BLAKE2b (RFC 7693) of who it is, CRC-32 (ISO 3309) of what it says.
# They give what `hashlib.blake2b(text, digest_size=12)` and `zlib.crc32` give. Little-endian machines only.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef uint64_t[8] IV
cdef uint8_t[12][16] SIGMA  # which words of a block each round mixes
cdef uint32_t[8][256] CRC  # what eight bytes at a time need


cdef inline uint64_t rotated(uint64_t word, int bits) noexcept nogil:
    return (word >> bits) | (word << (64 - bits))


cdef inline void mix(uint64_t *v, int a, int b, int c, int d, uint64_t x, uint64_t y) noexcept nogil:
    v[a] = v[a] + v[b] + x
    v[d] = rotated(v[d] ^ v[a], 32)
    v[c] = v[c] + v[d]
    v[b] = rotated(v[b] ^ v[c], 24)
    v[a] = v[a] + v[b] + y
    v[d] = rotated(v[d] ^ v[a], 16)
    v[c] = v[c] + v[d]
    v[b] = rotated(v[b] ^ v[c], 63)


cdef void compress(uint64_t *h, const uint8_t *block, uint64_t length, bint is_last) noexcept nogil:
    cdef uint64_t[16] v
    cdef uint64_t[16] m
    cdef uint8_t *s
    cdef int i
    memcpy(m, block, 128)
    for i in range(8):
        v[i] = h[i]
        v[i + 8] = IV[i]
    v[12] ^= length
    if is_last:
        v[14] = ~v[14]
    for i in range(12):
        s = SIGMA[i]
        mix(v, 0, 4, 8, 12, m[s[0]], m[s[1]])
        mix(v, 1, 5, 9, 13, m[s[2]], m[s[3]])
        mix(v, 2, 6, 10, 14, m[s[4]], m[s[5]])
        mix(v, 3, 7, 11, 15, m[s[6]], m[s[7]])
        mix(v, 0, 5, 10, 15, m[s[8]], m[s[9]])
        mix(v, 1, 6, 11, 12, m[s[10]], m[s[11]])
        mix(v, 2, 7, 8, 13, m[s[12]], m[s[13]])
        mix(v, 3, 4, 9, 14, m[s[14]], m[s[15]])
    for i in range(8):
        h[i] ^= v[i] ^ v[i + 8]


cdef void blake2b_12(const uint8_t *text, Py_ssize_t size, uint8_t *out) noexcept nogil:
    cdef uint64_t[8] h
    cdef uint8_t[128] block
    cdef Py_ssize_t done = 0
    memcpy(h, IV, 64)
    h[0] ^= 0x01010000 ^ 12
    while size - done > 128:
        compress(h, text + done, done + 128, False)
        done += 128
    memset(block, 0, 128)
    memcpy(block, text + done, size - done)
    compress(h, block, size, True)
    memcpy(out, h, 12)


cdef uint32_t crc32(uint32_t crc, const uint8_t *text, Py_ssize_t size) noexcept nogil:
    cdef uint32_t low, high
    crc = ~crc
    while size >= 8:
        memcpy(&low, text, 4)
        memcpy(&high, text + 4, 4)
        low ^= crc
        crc = (
            CRC[7][low & 255] ^ CRC[6][(low >> 8) & 255] ^ CRC[5][(low >> 16) & 255] ^ CRC[4][low >> 24]
            ^ CRC[3][high & 255] ^ CRC[2][(high >> 8) & 255] ^ CRC[1][(high >> 16) & 255] ^ CRC[0][high >> 24]
        )
        text += 8
        size -= 8
    while size:
        crc = CRC[0][(crc ^ text[0]) & 255] ^ (crc >> 8)
        text += 1
        size -= 1
    return ~crc


cdef fill_tables():
    cdef uint32_t word
    cdef int i, j
    for i, start in enumerate((
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    )):
        IV[i] = start
    rounds = (
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
        (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
        (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
        (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
        (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
        (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
        (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
        (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
        (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
        (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
    )
    for i in range(12):
        for j in range(16):
            SIGMA[i][j] = rounds[i % 10][j]
    for i in range(256):
        word = i
        for j in range(8):
            word = (word >> 1) ^ (0xEDB88320 if word & 1 else 0)
        CRC[0][i] = word
    for j in range(1, 8):
        for i in range(256):
            CRC[j][i] = (CRC[j - 1][i] >> 8) ^ CRC[0][CRC[j - 1][i] & 255]
