package main

import (
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

type step struct {
	Record *struct {
		Partition int32
		Key       string
		Value     *string
		At        int64
	}
	Own *struct {
		Customer, Meter, Quantity string
		Requests                  int64
		Offset                    *int64
	}
	Check *struct {
		Customer, Meter, Quantity string
		Requests, At              int64
		Dimensions                map[string]string
	}
	Answer Answer
	End    bool
}

// read decodes a file of the vectors: QUOTA_VECTORS, or where they are in the repository.
func read(t *testing.T, name string, into any) {
	folder := os.Getenv("QUOTA_VECTORS")
	if folder == "" {
		folder = filepath.Join("..", "..", "tests", "vectors", "quota")
	}
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func amount(t *testing.T, text string) *big.Int {
	found, ok := new(big.Int).SetString(text, 10)
	if !ok {
		t.Fatalf("%q is no amount", text)
	}
	return found
}

func TestTheAnswersAreThoseOfTheVectors(t *testing.T) {
	var stories []struct {
		Title string
		Steps []step
	}
	read(t, "topic.json", &stories)
	if len(stories) == 0 {
		t.Fatal("no stories")
	}
	for _, story := range stories {
		t.Run(story.Title, func(t *testing.T) {
			view := NewView()
			for n, s := range story.Steps {
				run(t, view, n, s)
			}
		})
	}
}

func run(t *testing.T, view *View, n int, s step) {
	switch {
	case s.Record != nil:
		var value []byte
		if s.Record.Value != nil {
			value = []byte(*s.Record.Value)
		}
		view.Apply(s.Record.Partition, []byte(s.Record.Key), value, s.Record.At)
	case s.Own != nil:
		own := view.Sent(s.Own.Customer, s.Own.Meter, amount(t, s.Own.Quantity), s.Own.Requests)
		if s.Own.Offset != nil {
			own.Offset = *s.Own.Offset
		}
	case s.End:
		view.Ready = true
	default:
		c := s.Check
		found := view.Check(Question{c.Customer, c.Meter, amount(t, c.Quantity), c.Requests, c.Dimensions, c.At})
		if found != s.Answer {
			t.Fatalf("step %d %+v: %+v, not %+v", n, *c, found, s.Answer)
		}
	}
}

func TestAKeyLiesInThePartitionOfTheVectors(t *testing.T) {
	var places []struct {
		Key        string
		Murmur2    uint32
		Partitions map[string]int
	}
	read(t, "partitions.json", &places)
	for _, place := range places {
		if found := murmur2([]byte(place.Key)); found != place.Murmur2 {
			t.Errorf("%q: %d, not %d", place.Key, found, place.Murmur2)
		}
		for count, wanted := range place.Partitions {
			n, _ := strconv.Atoi(count)
			if found := partitionOf(place.Key, n); found != wanted {
				t.Errorf("%q in %d: %d, not %d", place.Key, n, found, wanted)
			}
		}
	}
}
