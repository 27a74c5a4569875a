/* The two digests of an event: BLAKE2b (RFC 7693) of who it is, CRC-32 (ISO 3309) of what it says.
 *
 * They give what hashlib.blake2b(text, digest_size=12) and zlib.crc32 give. Little-endian machines only.
 */
#include <stdint.h>
#include <string.h>

static const uint64_t IV[8] = {
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
};

/* Which words of a block each round mixes. */
static const uint8_t SIGMA[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

#define ROTATED(word, bits) (((word) >> (bits)) | ((word) << (64 - (bits))))
#define MIX(a, b, c, d, x, y)                                                                                  \
    a += b + m[x];                                                                                             \
    d = ROTATED(d ^ a, 32);                                                                                    \
    c += d;                                                                                                    \
    b = ROTATED(b ^ c, 24);                                                                                    \
    a += b + m[y];                                                                                             \
    d = ROTATED(d ^ a, 16);                                                                                    \
    c += d;                                                                                                    \
    b = ROTATED(b ^ c, 63);

static void compress(uint64_t *h, const uint8_t *block, uint64_t length, int is_last)
{
    uint64_t v[16], m[16];
    memcpy(m, block, 128);
    memcpy(v, h, 64);
    memcpy(v + 8, IV, 64);
    v[12] ^= length;
    if (is_last)
        v[14] = ~v[14];
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) {
        const uint8_t *s = SIGMA[i];
        MIX(v[0], v[4], v[8], v[12], s[0], s[1])
        MIX(v[1], v[5], v[9], v[13], s[2], s[3])
        MIX(v[2], v[6], v[10], v[14], s[4], s[5])
        MIX(v[3], v[7], v[11], v[15], s[6], s[7])
        MIX(v[0], v[5], v[10], v[15], s[8], s[9])
        MIX(v[1], v[6], v[11], v[12], s[10], s[11])
        MIX(v[2], v[7], v[8], v[13], s[12], s[13])
        MIX(v[3], v[4], v[9], v[14], s[14], s[15])
    }
    for (int i = 0; i < 8; i++)
        h[i] ^= v[i] ^ v[i + 8];
}

static void blake2b_12(const uint8_t *text, Py_ssize_t size, uint8_t *out)
{
    uint64_t h[8];
    uint8_t block[128] = {0};
    Py_ssize_t done = 0;
    memcpy(h, IV, 64);
    h[0] ^= 0x01010000 ^ 12;
    for (; size - done > 128; done += 128)
        compress(h, text + done, done + 128, 0);
    memcpy(block, text + done, size - done);
    compress(h, block, size, 1);
    memcpy(out, h, 12);
}

static uint32_t CRC[8][256]; /* what eight bytes at a time need */

static void fill_crc(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        CRC[0][i] = i;
        for (int j = 0; j < 8; j++)
            CRC[0][i] = (CRC[0][i] >> 1) ^ (CRC[0][i] & 1 ? 0xEDB88320 : 0);
    }
    for (int j = 1; j < 8; j++)
        for (int i = 0; i < 256; i++)
            CRC[j][i] = (CRC[j - 1][i] >> 8) ^ CRC[0][CRC[j - 1][i] & 255];
}

static uint32_t crc32(uint32_t crc, const uint8_t *text, Py_ssize_t size)
{
    uint32_t low, high;
    crc = ~crc;
    for (; size >= 8; text += 8, size -= 8) {
        memcpy(&low, text, 4);
        memcpy(&high, text + 4, 4);
        low ^= crc;
        crc = CRC[7][low & 255] ^ CRC[6][(low >> 8) & 255] ^ CRC[5][(low >> 16) & 255] ^ CRC[4][low >> 24]
            ^ CRC[3][high & 255] ^ CRC[2][(high >> 8) & 255] ^ CRC[1][(high >> 16) & 255] ^ CRC[0][high >> 24];
    }
    for (; size; text++, size--)
        crc = CRC[0][(crc ^ text[0]) & 255] ^ (crc >> 8);
    return ~crc;
}
