package main

import "encoding/binary"

// murmur2 is the hash of Kafka's default partitioner, with Kafka's seed.
func murmur2(data []byte) uint32 {
	const m = 0x5bd1e995
	value := uint32(0x9747b28c) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		word := binary.LittleEndian.Uint32(data) * m
		word = (word ^ word>>24) * m
		value = value*m ^ word
	}
	if len(data) > 0 {
		var rest [4]byte
		copy(rest[:], data)
		value = (value ^ binary.LittleEndian.Uint32(rest[:])) * m
	}
	value = (value ^ value>>13) * m
	return value ^ value>>15
}

// partitionOf is the partition of a key, as Kafka's Java client chooses it.
func partitionOf(key string, partitions int) int {
	return int(murmur2([]byte(key))&0x7fffffff) % partitions
}
