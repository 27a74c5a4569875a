"""Which partition a customer belongs to: Kafka's default partitioner, murmur2 over the key.

A customer lives in one partition: its totals and ids are kept there. An event of it elsewhere (a
producer with another partitioner, an envelope of several customers) would make a second set of
totals that overwrites the first, so the meter fold refuses it.
"""

from functools import lru_cache

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=1 << 17)
def partition_of(customer: str, partitions: int) -> int:
    """The partition of a customer's key, as Kafka's Java client and aiokafka choose it."""
    return (murmur2(customer.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Austin Appleby's murmur2, 32 bits, with Kafka's seed."""
    whole = len(data) & ~3
    value = (_SEED ^ len(data)) & _MASK
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        word = (word ^ (word >> 24)) * _M & _MASK
        value = (value * _M & _MASK) ^ word
    if len(data) > whole:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    value = (value ^ (value >> 13)) * _M & _MASK
    return value ^ (value >> 15)
