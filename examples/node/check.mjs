// May a customer use so much now? Reads quota.state into memory and answers from there:
//   node check.mjs 127.0.0.1:9092 acme-robotics input_tokens 1200 [TOPIC_PREFIX]

import { randomUUID } from 'node:crypto'
import { Consumer, ListOffsetTimestamps, MessagesStreamModes, stringDeserializers } from '@platformatic/kafka'
import { View } from './view.mjs'

const [brokers, customer, meter, quantity, prefix = ''] = process.argv.slice(2)
if (quantity === undefined) {
  console.error('usage: node check.mjs BROKERS CUSTOMER METER QUANTITY [TOPIC_PREFIX]')
  process.exit(2)
}
const topic = `${prefix}quota.state`
const view = new View()
const consumer = new Consumer({
  clientId: 'quota-reader',
  groupId: `quota-reader-${randomUUID()}`, // of its own: every process reads every partition
  bootstrapBrokers: brokers.split(','),
  deserializers: stringDeserializers,
})

// Where the topic ends now; partitions without records are read already.
async function unread() {
  const at = async (timestamp) => (await consumer.listOffsets({ topics: [topic], timestamp })).get(topic)
  const [first, ends] = [await at(ListOffsetTimestamps.EARLIEST), await at(ListOffsetTimestamps.LATEST)]
  return new Map([...ends.entries()].filter(([partition, end]) => end > first[partition]))
}

const waiting = await unread()
const stream = await consumer.consume({ topics: [topic], mode: MessagesStreamModes.EARLIEST, autocommit: false })
if (waiting.size > 0) {
  for await (const { partition, offset, key, value } of stream) {
    view.apply(partition, key, value ?? null, Date.now())
    if (offset + 1n >= waiting.get(partition)) waiting.delete(partition)
    if (waiting.size === 0) break // a real program goes on reading
  }
}
view.isReady = true
const found = view.check(customer, meter, BigInt(quantity) * 1_000_000n, Date.now())
console.log(JSON.stringify({ ...found, key: view.accountOf(customer) }))
await consumer.close(true)
