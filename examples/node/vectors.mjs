// Runs the checked vectors: node vectors.mjs ../../tests/vectors/quota

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { murmur2, partitionOf } from './partition.mjs'
import { View } from './view.mjs'

const read = (name) => JSON.parse(readFileSync(join(process.argv[2], name), 'utf8'))
let answers = 0

function run({ title, steps }) {
  const view = new View()
  steps.forEach(({ record, own, check, answer, end }, number) => {
    if (record) view.apply(record.partition, record.key, record.value, record.at)
    else if (own) view.sent(own.customer, own.meter, BigInt(own.quantity), own.requests, own.offset)
    else if (end) view.isReady = true
    else {
      const { customer, meter, quantity, at, ...more } = check
      const found = view.check(customer, meter, BigInt(quantity), at, more)
      assert.deepEqual(found, answer, `${title}, step ${number}: ${JSON.stringify(check)}`)
      answers += 1
    }
  })
}

const stories = read('topic.json')
stories.forEach(run)
const places = read('partitions.json')
for (const { key, murmur2: hash, partitions } of places) {
  assert.equal(murmur2(Buffer.from(key)), hash, key)
  for (const [count, wanted] of Object.entries(partitions)) assert.equal(partitionOf(key, Number(count)), wanted, key)
}
console.log(`${stories.length} stories, ${answers} answers, ${places.length} keys: all as they should be`)
