// May a customer use so much now? Reads quota.state into memory and answers from there:
//
//	go run . 127.0.0.1:9092 acme-robotics input_tokens 1200 [TOPIC_PREFIX]
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "usage: go run . BROKERS CUSTOMER METER QUANTITY [TOPIC_PREFIX]")
		os.Exit(2)
	}
	prefix := strings.Join(os.Args[5:], "")
	if err := answer(os.Args[1], prefix+"quota.state", os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer(brokers, topic, customer, meter, quantity string) error {
	units, ok := new(big.Int).SetString(quantity, 10)
	if !ok {
		return fmt.Errorf("%q is no whole quantity", quantity)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// Without a group: every process reads every partition, from the beginning on.
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	view := NewView()
	if err := readToEnd(ctx, client, topic, view); err != nil { // a real program goes on reading
		return err
	}
	question := Question{customer, meter, units.Mul(units, one), 1, nil, time.Now().UnixMilli()}
	return json.NewEncoder(os.Stdout).Encode(struct {
		Answer
		Key string `json:"key"`
	}{view.Check(question), view.AccountOf(customer)})
}

// readToEnd takes every record up to where the topic ends now.
func readToEnd(ctx context.Context, client *kgo.Client, topic string, view *View) error {
	waiting, err := unread(ctx, client, topic)
	if err != nil {
		return err
	}
	for len(waiting) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			view.Apply(record.Partition, record.Key, record.Value, time.Now().UnixMilli())
			if end, ok := waiting[record.Partition]; ok && record.Offset+1 >= end {
				delete(waiting, record.Partition)
			}
		})
	}
	view.Ready = true
	return nil
}

// unread is where each partition ends that has records.
func unread(ctx context.Context, client *kgo.Client, topic string) (map[int32]int64, error) {
	admin := kadm.NewClient(client)
	first, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	waiting := map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		if start, ok := first.Lookup(topic, end.Partition); ok && end.Offset > start.Offset {
			waiting[end.Partition] = end.Offset
		}
	})
	return waiting, ends.Error()
}
