package main

import (
	"encoding/json"
	"math/big"
)

const format = 1

// progress is a partition's heartbeat.
type progress struct {
	Offset  int64 `json:"offset"`
	At      int64 `json:"at"`
	Emitted int64 `json:"emitted"`
	LagMs   int64 `json:"lag_ms"`
}

// UnmarshalJSON fills in what a record leaves out because it is the default.
func (p *progress) UnmarshalJSON(data []byte) error {
	type plain progress
	p.LagMs = 1_000
	return json.Unmarshal(data, (*plain)(p))
}

// profile is all limits that apply to one customer.
type profile struct {
	Account   string `json:"account"`
	Limits    []card `json:"limits"`
	Version   string `json:"version"`
	partition int32
}

// card is a limit; what a record leaves out has a default, see UnmarshalJSON.
type card struct {
	ID           string              `json:"id"`
	Scope        string              `json:"scope"`
	Meter        string              `json:"meter"`
	Counts       string              `json:"counts"`
	Kind         string              `json:"kind"`
	Amount       string              `json:"amount"`
	Window       string              `json:"window"`
	Where        map[string][]string `json:"where"`
	WhenStale    string              `json:"when_stale"`
	ReuseMs      int64               `json:"reuse_ms"`
	GracePercent int64               `json:"grace_percent"`
}

// UnmarshalJSON fills in what a record leaves out because it is the default.
func (c *card) UnmarshalJSON(data []byte) error {
	type plain card
	c.WhenStale, c.ReuseMs = "deny", 60_000
	return json.Unmarshal(data, (*plain)(c))
}

// state is how one limit stands in one window.
type state struct {
	WindowStart int64            `json:"window_start"`
	WindowEnd   int64            `json:"window_end"`
	Room        string           `json:"room"` // empty: no bound
	StrictBelow string           `json:"strict_below"`
	State       string           `json:"state"`
	AsOf        map[string]int64 `json:"as_of"`
	Version     string           `json:"version"`
}

// decode reads a record of a kind; false for a tombstone, for one of a newer format and for what is no record.
func decode[T any](value []byte, kind string) (*T, bool) {
	head := struct {
		Kind string `json:"kind"`
		V    int    `json:"v"`
	}{V: 1}
	if value == nil || json.Unmarshal(value, &head) != nil || head.Kind != kind || head.V > format {
		return nil, false
	}
	record := new(T)
	return record, json.Unmarshal(value, record) == nil
}

// number is an amount or a version; text that is none is 0.
func number(text string) *big.Int {
	if found, ok := new(big.Int).SetString(text, 10); ok {
		return found
	}
	return new(big.Int)
}
