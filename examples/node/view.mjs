// What quota.state says, in memory: docs/quota-topics.md, "Reading quota.state". No Kafka in here.
// Amounts are integers of 10^-6 as BigInt, times are milliseconds.

const ONE = 1_000_000n
const FORMAT = 1
const HOUR = 3_600_000
const LONGEST = { hour: HOUR, day: 25 * HOUR, month: 745 * HOUR, period: 745 * HOUR, rolling: Infinity }

const place = (...parts) => JSON.stringify(parts)
const answer = (verdict, reason, limit = '') => ({ verdict, reason, limit })

function parse(text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

export class View {
  isReady = false // set it when the topic was read to its end
  #ahead = null // the furthest that a heartbeat was ahead of the reader's clock
  #isSet = false // the reader's clock, by a heartbeat of now
  #skew = 0 // what to add to the reader's clock
  #beats = new Map() // partition → when its last heartbeat was sent, up to which offset
  #profiles = new Map() // customer → its limits
  #versions = new Map() // customer → the version of its limits
  #unreadable = new Set() // customers whose limits are of a newer format
  #states = new Map() // account, scope, limit → window start → state; null is unknown
  #asOf = new Map() // account, scope, limit, partition → offset up to which usage is in its state
  #own = []

  // Take a record; key and value are text, a tombstone has the value null.
  apply(partition, key, value, now) {
    const parts = parse(key)
    if (!Array.isArray(parts)) return
    const [kind, ...rest] = parts
    let record = value === null ? null : parse(value)
    if (record !== null && (record.kind !== kind || (record.v ?? 1) > FORMAT)) record = null
    if (kind === 'progress') this.#takeHeartbeat(partition, record, now)
    else if (kind === 'profile' && rest.length === 2) this.#takeProfile(partition, rest[1], record, value === null)
    else if (kind === 'state' && rest.length === 4) this.#takeState(partition, rest, record, now)
  }

  #takeHeartbeat(partition, record, now) {
    if (record === null) return
    const ahead = record.emitted - now
    this.#ahead = this.#ahead === null ? ahead : Math.max(this.#ahead, ahead)
    this.#isSet ||= this.isReady && record.emitted > record.at // an old one looks like a clock that is ahead
    this.#skew = this.#isSet ? this.#ahead : Math.max(0, this.#ahead)
    const offset = Math.max(record.offset, this.#beats.get(partition)?.offset ?? 0)
    const fresh = Math.floor(((record.lag_ms ?? 1_000) * 3) / 2)
    this.#beats.set(partition, { seen: record.emitted - this.#skew, offset, fresh })
    this.#own = this.#own.filter((own) => own.partition !== partition || own.offset === null || own.offset >= offset)
  }

  #takeProfile(partition, customer, record, isGone) {
    if (record === null) {
      this.#unreadable[isGone ? 'delete' : 'add'](customer)
      this.#profiles.delete(customer)
      return
    }
    const version = BigInt(record.version)
    if (version < (this.#versions.get(customer) ?? 0n)) return
    this.#unreadable.delete(customer)
    this.#versions.set(customer, version)
    this.#profiles.set(customer, { ...record, partition })
  }

  #takeState(partition, [account, scope, limit, start], record, now) {
    const key = place(account, scope, limit)
    if (!this.#states.has(key)) this.#states.set(key, new Map())
    const windows = this.#states.get(key)
    const held = windows.get(start)
    if (record !== null) {
      if (held && BigInt(record.version) <= BigInt(held.version)) return
      windows.set(start, record)
      const from = place(key, partition)
      this.#asOf.set(from, Math.max(this.#asOf.get(from) ?? 0, record.as_of[partition] ?? 0))
    } else if (held && held.window_end <= now + this.#skew) {
      windows.delete(start) // it is over: nobody asks for it any more
    } else {
      windows.set(start, null)
    }
  }

  // Usage that this program sends: it counts until a state includes its offset. Set `offset` when the
  // broker has it; take it back with `forget` when it failed.
  sent(customer, meter, quantity, requests = 1, offset = null) {
    const profile = this.#profiles.get(customer)
    const limits = (profile?.limits ?? []).filter((card) => card.meter === meter)
    const keys = limits.map((card) => place(profile.account, card.scope, card.id))
    const own = { keys, partition: profile?.partition, quantity, requests, offset }
    this.#own.push(own)
    return own
  }

  forget(own) {
    this.#own = this.#own.filter((one) => one !== own)
  }

  // Who counts a customer's usage: the key of its events.
  accountOf(customer) {
    return this.#profiles.get(customer)?.account ?? customer
  }

  // May this customer use so much now? `reserve` means: ask the owner (quota.checks, or quotad).
  check(customer, meter, quantity, now, { requests = 1, dimensions = {} } = {}) {
    if (quantity < 0n || requests < 0) return answer('deny', 'bad_quantity')
    const profile = this.#profiles.get(customer)
    const limits = (profile?.limits ?? []).filter((card) => card.meter === meter)
    if (limits.length === 0) {
      if (!this.isReady) return answer('reserve', 'not_ready')
      return this.#unreadable.has(customer) ? answer('reserve', 'newer_format') : answer('allow', 'no_limit')
    }
    const beat = this.#beats.get(profile.partition)
    let found = answer('allow', 'ok')
    for (const card of limits) {
      if (!beat && !this.isReady) return answer('reserve', 'not_ready')
      if (!beat || now - beat.seen > (card.reuse_ms ?? 60_000)) {
        return answer(card.when_stale ?? 'deny', 'stale', card.id)
      }
      const key = place(profile.account, card.scope, card.id)
      const { free, room, standing } = this.#standing(key, card, now + this.#skew)
      const steps = card.counts === 'requests' ? BigInt(requests) * ONE : quantity
      const wanted = steps + this.#pending(key, card, profile.partition, beat.offset)
      const behind = isBehind(now - beat.seen, beat.fresh, wanted, free, room)
      if (wanted <= free && !behind) {
        if (standing !== 'ok') found = answer('allow', standing, card.id)
      } else if (steps > 0n && covers(card, dimensions)) {
        if (wanted > room) return answer('deny', 'limit_reached', card.id)
        const reason = wanted <= free ? 'behind' : 'strict_zone'
        return answer('reserve', room === Infinity ? 'unknown' : reason, card.id)
      }
    }
    return found
  }

  #pending(key, card, partition, heard) {
    const included = Math.max(heard, this.#asOf.get(place(key, partition)) ?? 0)
    let sum = 0n
    for (const own of this.#own) {
      if (!own.keys.includes(key)) continue
      if (own.offset !== null && (own.partition !== partition || own.offset < included)) continue
      sum += card.counts === 'requests' ? BigInt(own.requests) * ONE : own.quantity
    }
    return sum
  }

  #standing(key, card, clock) {
    for (const [start, state] of this.#states.get(key) ?? []) {
      if (state === null) {
        if (start <= clock && clock < start + LONGEST[card.window]) return unknown
      } else if (start <= clock && clock < state.window_end) {
        const room = state.room === '' ? Infinity : BigInt(state.room)
        const free = room === Infinity ? Infinity : room - BigInt(state.strict_below ?? '0')
        return { free, room, standing: state.state }
      }
    }
    return begun(card)
  }
}

// The strict zone is as wide as the view is old.
function isBehind(age, fresh, wanted, free, room) {
  if (age <= fresh || fresh === 0 || room === Infinity) return false
  return wanted > room - ((room - free) * BigInt(age)) / BigInt(fresh)
}

const unknown = { free: -1n, room: Infinity, standing: 'ok' }

// A window that has no state yet: nothing was used.
function begun(card) {
  let amount = BigInt(card.amount)
  if (card.kind === 'grace' && card.grace_percent) amount = (amount * BigInt(100 + card.grace_percent)) / 100n
  else if (card.kind !== 'hard') return { free: Infinity, room: Infinity, standing: 'ok' }
  if (card.counts === 'money') return unknown // what it buys is for the owner to say
  return { free: amount - amount / 100n, room: amount, standing: 'ok' }
}

function covers(card, dimensions) {
  return Object.entries(card.where ?? {}).every(([name, wanted]) => !(name in dimensions) || wanted.includes(dimensions[name]))
}
