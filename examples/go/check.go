package main

import (
	"math/big"
	"slices"
)

// Check says whether the customer may use so much now.
func (v *View) Check(q Question) Answer {
	if q.Quantity.Sign() < 0 || q.Requests < 0 {
		return Answer{"deny", "bad_quantity", ""}
	}
	held := v.profiles[q.Customer]
	var limits []card
	if held != nil {
		limits = slices.DeleteFunc(slices.Clone(held.Limits), func(c card) bool { return c.Meter != q.Meter })
	}
	if len(limits) == 0 {
		return v.unlimited(q.Customer)
	}
	heard, ok := v.beats[held.partition]
	found := Answer{"allow", "ok", ""}
	for _, limit := range limits {
		if !ok && !v.Ready {
			return Answer{"reserve", "not_ready", ""}
		}
		if !ok || q.At-heard.seen > limit.ReuseMs {
			return Answer{limit.WhenStale, "stale", limit.ID}
		}
		at := gate{held.Account, limit.Scope, limit.ID}
		free, room, standing := v.standing(at, limit, q.At+v.skew)
		steps := limit.steps(q.Quantity, q.Requests)
		wanted := new(big.Int).Add(steps, v.pending(source{at, held.partition}, limit, heard.offset))
		isBehind := heard.isBehind(q.At-heard.seen, wanted, free, room)
		if wanted.Cmp(free) <= 0 && !isBehind {
			if standing != "ok" {
				found = Answer{"allow", standing, limit.ID}
			}
			continue
		}
		if steps.Sign() == 0 || !limit.covers(q.Dimensions) {
			continue
		}
		switch {
		case wanted.Cmp(room) > 0:
			return Answer{"deny", "limit_reached", limit.ID}
		case room == never:
			return Answer{"reserve", "unknown", limit.ID}
		case wanted.Cmp(free) <= 0:
			return Answer{"reserve", "behind", limit.ID}
		}
		return Answer{"reserve", "strict_zone", limit.ID}
	}
	return found
}

func (v *View) unlimited(customer string) Answer {
	switch {
	case !v.Ready:
		return Answer{"reserve", "not_ready", ""}
	case v.unreadable[customer]:
		return Answer{"reserve", "newer_format", ""}
	}
	return Answer{"allow", "no_limit", ""}
}

// isBehind says whether a view of this age cannot admit usage alone: the strict zone is as wide as the view is old.
func (b beat) isBehind(age int64, wanted, free, room *big.Int) bool {
	if age <= b.fresh || b.fresh == 0 || room == never {
		return false
	}
	zone := new(big.Int).Sub(room, free)
	zone.Mul(zone, big.NewInt(age)).Div(zone, big.NewInt(b.fresh))
	return wanted.Cmp(new(big.Int).Sub(room, zone)) > 0
}

// pending is the own usage that the state does not include yet.
func (v *View) pending(from source, limit card, heard int64) *big.Int {
	included, sum := max(heard, v.asOf[from]), new(big.Int)
	for _, own := range v.own {
		isLate := own.Offset < 0 || own.partition == from.partition && own.Offset >= included
		if isLate && slices.Contains(own.gates, from.gate) {
			sum.Add(sum, limit.steps(own.quantity, own.requests))
		}
	}
	return sum
}

// standing is what may be used without asking, what may be admitted at all, and the state of the window.
func (v *View) standing(at gate, limit card, clock int64) (free, room *big.Int, standing string) {
	for start, held := range v.states[at] {
		switch {
		case held == nil:
			if start <= clock && clock-start < longest[limit.Window] {
				return nothing, never, "ok"
			}
		case start <= clock && clock < held.WindowEnd:
			if held.Room == "" {
				return never, never, held.State
			}
			room = number(held.Room)
			return new(big.Int).Sub(room, number(held.StrictBelow)), room, held.State
		}
	}
	free, room = limit.begun()
	return free, room, "ok"
}

// begun is a window that has no state yet: nothing was used.
func (c card) begun() (free, room *big.Int) {
	room = number(c.Amount)
	switch {
	case c.Kind == "grace" && c.GracePercent > 0:
		room.Mul(room, big.NewInt(100+c.GracePercent)).Div(room, big.NewInt(100))
	case c.Kind != "hard":
		return never, never
	}
	if c.Counts == "money" {
		return nothing, never // what it buys is for the owner to say
	}
	return new(big.Int).Sub(room, new(big.Int).Div(room, big.NewInt(100))), room
}

func (c card) steps(quantity *big.Int, requests int64) *big.Int {
	if c.Counts == "requests" {
		return new(big.Int).Mul(big.NewInt(requests), one)
	}
	return quantity
}

// covers says whether usage with these values counts; values that are not given may.
func (c card) covers(dimensions map[string]string) bool {
	for name, wanted := range c.Where {
		if value, given := dimensions[name]; given && !slices.Contains(wanted, value) {
			return false
		}
	}
	return true
}
