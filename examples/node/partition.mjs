// The partition of a key, as Kafka's Java client chooses it: murmur2 with Kafka's seed.

const M = 0x5bd1e995

export function murmur2(data) {
  const whole = data.length & ~3
  let value = 0x9747b28c ^ data.length
  for (let i = 0; i < whole; i += 4) {
    let word = Math.imul(data.readInt32LE(i), M)
    word = Math.imul(word ^ (word >>> 24), M)
    value = Math.imul(value, M) ^ word
  }
  if (data.length > whole) {
    value = Math.imul(value ^ data.readUIntLE(whole, data.length - whole), M)
  }
  value = Math.imul(value ^ (value >>> 13), M)
  return (value ^ (value >>> 15)) >>> 0
}

export function partitionOf(key, partitions) {
  return (murmur2(Buffer.from(key)) & 0x7fffffff) % partitions
}
