package main

import (
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
)

const hour = 3_600_000

var (
	one     = big.NewInt(1_000_000)
	never   = new(big.Int).Lsh(big.NewInt(1), 200) // above every amount
	nothing = big.NewInt(-1)
	longest = map[string]int64{"hour": hour, "day": 25 * hour, "month": 745 * hour, "period": 745 * hour, "rolling": 1 << 62}
)

// Answer is what to do: allow, deny, or reserve, which means: ask the owner (quota.checks, or quotad).
type Answer struct {
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	Limit   string `json:"limit"`
}

// Question is what a customer would use; the quantity is in 10^-6, the time the reader's own (epoch ms).
type Question struct {
	Customer   string
	Meter      string
	Quantity   *big.Int
	Requests   int64
	Dimensions map[string]string
	At         int64
}

// Own is usage that this program sends; Offset is -1 until the broker has it.
type Own struct {
	gates     []gate
	partition int32
	quantity  *big.Int
	requests  int64
	Offset    int64
}

type gate struct{ account, scope, limit string }

type source struct {
	gate
	partition int32
}

type beat struct{ seen, offset, fresh int64 }

// View is what quota.state says, in memory: docs/quota-topics.md, "Reading quota.state". No Kafka in here.
type View struct {
	Ready      bool  // set it when the topic was read to its end
	heard      bool  // a heartbeat
	ahead      int64 // the furthest that a heartbeat was ahead of the reader's clock
	set        bool  // the reader's clock, by a heartbeat of now
	skew       int64 // what to add to the reader's clock
	beats      map[int32]beat
	profiles   map[string]*profile
	versions   map[string]*big.Int
	unreadable map[string]bool
	states     map[gate]map[int64]*state // by window start; nil is unknown
	asOf       map[source]int64
	own        []*Own
}

// NewView is a view that knows nothing yet.
func NewView() *View {
	return &View{
		beats:      map[int32]beat{},
		profiles:   map[string]*profile{},
		versions:   map[string]*big.Int{},
		unreadable: map[string]bool{},
		states:     map[gate]map[int64]*state{},
		asOf:       map[source]int64{},
	}
}

// Apply takes a record; a tombstone has no value. What makes no sense is passed over.
func (v *View) Apply(partition int32, key, value []byte, now int64) {
	var parts []json.RawMessage
	var kind string
	if json.Unmarshal(key, &parts) != nil || len(parts) == 0 || json.Unmarshal(parts[0], &kind) != nil {
		return
	}
	names, start := place(parts[1:])
	switch {
	case kind == "progress":
		v.takeHeartbeat(partition, value, now)
	case kind == "profile" && len(names) == 2:
		v.takeProfile(partition, names[1], value)
	case kind == "state" && len(names) == 3 && len(parts) == 5:
		v.takeState(partition, gate{names[0], names[1], names[2]}, start, value, now)
	}
}

// place is the names in a key, and the number behind them.
func place(parts []json.RawMessage) (names []string, start int64) {
	for _, part := range parts {
		var name string
		if json.Unmarshal(part, &name) == nil {
			names = append(names, name)
		} else {
			_ = json.Unmarshal(part, &start)
		}
	}
	return names, start
}

func (v *View) takeHeartbeat(partition int32, value []byte, now int64) {
	record, ok := decode[progress](value, "progress")
	if !ok {
		return
	}
	ahead := record.Emitted - now
	if !v.heard || ahead > v.ahead {
		v.heard, v.ahead = true, ahead
	}
	v.set = v.set || (v.Ready && record.Emitted > record.At) // an old one looks like a clock that is ahead
	if v.skew = v.ahead; !v.set {
		v.skew = max(0, v.ahead)
	}
	offset := max(record.Offset, v.beats[partition].offset)
	v.beats[partition] = beat{record.Emitted - v.skew, offset, record.LagMs * 3 / 2}
	v.own = slices.DeleteFunc(v.own, func(own *Own) bool {
		return own.partition == partition && own.Offset >= 0 && own.Offset < offset
	})
}

func (v *View) takeProfile(partition int32, customer string, value []byte) {
	record, ok := decode[profile](value, "profile")
	if !ok {
		v.unreadable[customer] = value != nil
		delete(v.profiles, customer)
		return
	}
	version := number(record.Version)
	if held := v.versions[customer]; held != nil && version.Cmp(held) < 0 {
		return
	}
	record.partition = partition
	v.unreadable[customer], v.versions[customer], v.profiles[customer] = false, version, record
}

func (v *View) takeState(partition int32, at gate, start int64, value []byte, now int64) {
	windows := v.states[at]
	if windows == nil {
		windows = map[int64]*state{}
		v.states[at] = windows
	}
	held := windows[start]
	record, ok := decode[state](value, "state")
	switch {
	case !ok && held != nil && held.WindowEnd <= now+v.skew:
		delete(windows, start) // it is over: nobody asks for it any more
	case !ok:
		windows[start] = nil
	case held == nil || number(record.Version).Cmp(number(held.Version)) > 0:
		windows[start] = record
		from := source{at, partition}
		v.asOf[from] = max(v.asOf[from], record.AsOf[strconv.Itoa(int(partition))])
	}
}

// Sent counts usage that this program sends until a state includes its offset; set Offset when the broker has it.
func (v *View) Sent(customer, meter string, quantity *big.Int, requests int64) *Own {
	own := &Own{quantity: quantity, requests: requests, Offset: -1}
	if held := v.profiles[customer]; held != nil {
		own.partition = held.partition
		for _, limit := range held.Limits {
			if limit.Meter == meter {
				own.gates = append(own.gates, gate{held.Account, limit.Scope, limit.ID})
			}
		}
	}
	v.own = append(v.own, own)
	return own
}

// Forget takes back usage that failed to send.
func (v *View) Forget(own *Own) {
	v.own = slices.DeleteFunc(v.own, func(one *Own) bool { return one == own })
}

// AccountOf is who counts a customer's usage: the key of its events.
func (v *View) AccountOf(customer string) string {
	if held := v.profiles[customer]; held != nil {
		return held.Account
	}
	return customer
}
