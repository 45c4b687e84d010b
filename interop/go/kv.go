package main

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

type entry struct {
	Key            []byte `json:"key"`
	Value          []byte `json:"value"`
	CreateRevision int64  `json:"createRevision,string"`
	ModRevision    int64  `json:"modRevision,string"`
	Version        int64  `json:"version"`
	Lease          int64  `json:"lease,string"`
}

func entryOf(kv *mvccpb.KeyValue) *entry {
	if kv == nil {
		return nil
	}
	// JSON would show an absent value as null.
	value := kv.Value
	if value == nil {
		value = []byte{}
	}
	return &entry{kv.Key, value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease}
}

func entriesOf(kvs []*mvccpb.KeyValue) []*entry {
	entries := make([]*entry, 0, len(kvs))
	for _, kv := range kvs {
		entries = append(entries, entryOf(kv))
	}
	return entries
}

// One operation, alone or in a transaction.
type op struct {
	Kind   string `json:"kind"` // "put", "get", "delete" or "txn"
	Key    []byte `json:"key"`
	Value  []byte `json:"value"`
	Prefix bool   `json:"prefix"`
	Lease  int64  `json:"lease,string"`
	Txn    *ops   `json:"txn"`
}

type comparison struct {
	Target string `json:"target"` // "value", "version", "create", "mod" or "lease"
	Key    []byte `json:"key"`
	Result string `json:"result"`
	Value  []byte `json:"value"`
	Number int64  `json:"number,string"`
}

type ops struct {
	If   []comparison `json:"if"`
	Then []op         `json:"then"`
	Else []op         `json:"else"`
}

// The result of an operation.
type result struct {
	Revision  int64     `json:"revision,string"`
	Entries   []*entry  `json:"entries,omitempty"`
	Previous  *entry    `json:"previous,omitempty"`
	Deleted   int64     `json:"deleted,omitempty"`
	Succeeded bool      `json:"succeeded"`
	Results   []*result `json:"results,omitempty"`
}

func (o op) clientOp() clientv3.Op {
	key := string(o.Key)
	var options []clientv3.OpOption
	if o.Prefix {
		options = append(options, clientv3.WithPrefix())
	}
	switch o.Kind {
	case "put":
		return clientv3.OpPut(key, string(o.Value), clientv3.WithLease(clientv3.LeaseID(o.Lease)), clientv3.WithPrevKV())
	case "delete":
		return clientv3.OpDelete(key, options...)
	case "txn":
		return clientv3.OpTxn(o.Txn.compares(), clientOps(o.Txn.Then), clientOps(o.Txn.Else))
	default:
		return clientv3.OpGet(key, options...)
	}
}

func clientOps(all []op) []clientv3.Op {
	result := make([]clientv3.Op, 0, len(all))
	for _, one := range all {
		result = append(result, one.clientOp())
	}
	return result
}

func (o ops) compares() []clientv3.Cmp {
	result := make([]clientv3.Cmp, 0, len(o.If))
	for _, c := range o.If {
		key := string(c.Key)
		switch c.Target {
		case "value":
			result = append(result, clientv3.Compare(clientv3.Value(key), c.Result, string(c.Value)))
		case "version":
			result = append(result, clientv3.Compare(clientv3.Version(key), c.Result, c.Number))
		case "create":
			result = append(result, clientv3.Compare(clientv3.CreateRevision(key), c.Result, c.Number))
		case "mod":
			result = append(result, clientv3.Compare(clientv3.ModRevision(key), c.Result, c.Number))
		default:
			result = append(result, clientv3.Compare(clientv3.LeaseValue(key), c.Result, c.Number))
		}
	}
	return result
}

func resultOf(response *etcdserverpb.ResponseOp, revision int64) *result {
	switch {
	case response.GetResponsePut() != nil:
		return &result{Revision: revision, Previous: entryOf(response.GetResponsePut().PrevKv)}
	case response.GetResponseRange() != nil:
		return &result{Revision: revision, Entries: entriesOf(response.GetResponseRange().Kvs)}
	case response.GetResponseDeleteRange() != nil:
		return &result{Revision: revision, Deleted: response.GetResponseDeleteRange().Deleted}
	default:
		nested := response.GetResponseTxn()
		return &result{Revision: revision, Succeeded: nested.Succeeded, Results: resultsOf(nested.Responses, revision)}
	}
}

func resultsOf(responses []*etcdserverpb.ResponseOp, revision int64) []*result {
	results := make([]*result, 0, len(responses))
	for _, response := range responses {
		results = append(results, resultOf(response, revision))
	}
	return results
}

type opArgs struct {
	Client string `json:"client"`
	op
}

func put(ctx context.Context, args opArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	options := []clientv3.OpOption{clientv3.WithPrevKV()}
	if args.Lease != 0 {
		options = append(options, clientv3.WithLease(clientv3.LeaseID(args.Lease)))
	}
	response, err := client.Put(ctx, string(args.Key), string(args.Value), options...)
	if err != nil {
		return nil, err
	}
	return result{Revision: response.Header.Revision, Previous: entryOf(response.PrevKv)}, nil
}

func rangeOptions(args opArgs) []clientv3.OpOption {
	if args.Prefix {
		return []clientv3.OpOption{clientv3.WithPrefix()}
	}
	return nil
}

func get(ctx context.Context, args opArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	response, err := client.Get(ctx, string(args.Key), rangeOptions(args)...)
	if err != nil {
		return nil, err
	}
	return result{Revision: response.Header.Revision, Entries: entriesOf(response.Kvs)}, nil
}

func remove(ctx context.Context, args opArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	response, err := client.Delete(ctx, string(args.Key), rangeOptions(args)...)
	if err != nil {
		return nil, err
	}
	return result{Revision: response.Header.Revision, Deleted: response.Deleted}, nil
}

type txnArgs struct {
	Client string `json:"client"`
	ops
}

func txn(ctx context.Context, args txnArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	response, err := client.Txn(ctx).If(args.compares()...).Then(clientOps(args.Then)...).Else(clientOps(args.Else)...).Commit()
	if err != nil {
		return nil, err
	}
	revision := response.Header.Revision
	return result{Revision: revision, Succeeded: response.Succeeded, Results: resultsOf(response.Responses, revision)}, nil
}

type watchArgs struct {
	Client   string `json:"client"`
	Key      []byte `json:"key"`
	Prefix   bool   `json:"prefix"`
	Revision int64  `json:"revision,string"`
	Fragment bool   `json:"fragment"`
}

type event struct {
	Type     string `json:"type"` // "put" or "delete"
	IsCreate bool   `json:"isCreate"`
	Entry    *entry `json:"entry"`
	Previous *entry `json:"previous,omitempty"`
}

type watchResponse struct {
	Created  bool    `json:"created,omitempty"`
	Revision int64   `json:"revision,string"`
	Events   []event `json:"events"`
}

func watch(ctx context.Context, args watchArgs, item func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	options := []clientv3.OpOption{clientv3.WithCreatedNotify(), clientv3.WithPrevKV()}
	if args.Prefix {
		options = append(options, clientv3.WithPrefix())
	}
	if args.Revision != 0 {
		options = append(options, clientv3.WithRev(args.Revision))
	}
	if args.Fragment {
		options = append(options, clientv3.WithFragment())
	}
	for response := range client.Watch(clientv3.WithRequireLeader(ctx), string(args.Key), options...) {
		if err := response.Err(); err != nil {
			return nil, fmt.Errorf("the watch ended: %w", err)
		}
		events := make([]event, 0, len(response.Events))
		for _, e := range response.Events {
			kind := "put"
			if e.Type == mvccpb.Event_DELETE {
				kind = "delete"
			}
			events = append(events, event{kind, e.IsCreate(), entryOf(e.Kv), entryOf(e.PrevKv)})
		}
		item(watchResponse{response.Created, response.Header.Revision, events})
	}
	return done{}, nil
}
