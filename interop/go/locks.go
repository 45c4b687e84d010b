package main

import (
	"context"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

var sessions = named[*concurrency.Session]{what: "session"}
var mutexes = named[*concurrency.Mutex]{what: "mutex"}

type sessionArgs struct {
	Client  string `json:"client"`
	Session string `json:"session"`
	// In seconds.
	TTL int `json:"ttl"`
	// An existing lease to use instead of a new one.
	Lease int64 `json:"lease,string"`
}

func openSession(_ context.Context, args sessionArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	options := []concurrency.SessionOption{concurrency.WithTTL(args.TTL)}
	if args.Lease != 0 {
		options = append(options, concurrency.WithLease(clientv3.LeaseID(args.Lease)))
	}
	session, err := concurrency.NewSession(client, options...)
	if err != nil {
		return nil, err
	}
	sessions.set(args.Session, session)
	return lease{Lease: int64(session.Lease())}, nil
}

// Returns when the session has ended.
func sessionDone(ctx context.Context, args sessionArgs, _ func(any)) (any, error) {
	session, err := sessions.get(args.Session)
	if err != nil {
		return nil, err
	}
	select {
	case <-session.Done():
		return done{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func sessionOrphan(_ context.Context, args sessionArgs, _ func(any)) (any, error) {
	session, err := sessions.get(args.Session)
	if err != nil {
		return nil, err
	}
	session.Orphan()
	return done{}, nil
}

func sessionClose(_ context.Context, args sessionArgs, _ func(any)) (any, error) {
	session, err := sessions.get(args.Session)
	if err != nil {
		return nil, err
	}
	return done{}, session.Close()
}

// A mutex is named by its session and its name: Go has one contender for both.
type lockArgs struct {
	Session string `json:"session"`
	Name    string `json:"name"`
	Key     []byte `json:"key"`
	Value   []byte `json:"value"`
	Times   int    `json:"times"`
}

func (args lockArgs) id() string { return args.Session + " " + args.Name }

type held struct {
	Key   string `json:"key"`
	Token int64  `json:"token,string"`
}

// The create revision of the key is private to the mutex, but for the comparison that fences with it.
func heldOf(mutex *concurrency.Mutex) held {
	owner := mutex.IsOwner()
	return held{mutex.Key(), owner.GetCompare().GetCreateRevision()}
}

func take(args lockArgs, acquire func(*concurrency.Mutex) error) (any, error) {
	session, err := sessions.get(args.Session)
	if err != nil {
		return nil, err
	}
	mutex := concurrency.NewMutex(session, args.Name)
	if err := acquire(mutex); err != nil {
		return nil, err
	}
	mutexes.set(args.id(), mutex)
	return heldOf(mutex), nil
}

func lock(ctx context.Context, args lockArgs, _ func(any)) (any, error) {
	return take(args, func(mutex *concurrency.Mutex) error { return mutex.Lock(ctx) })
}

func tryLock(ctx context.Context, args lockArgs, _ func(any)) (any, error) {
	return take(args, func(mutex *concurrency.Mutex) error { return mutex.TryLock(ctx) })
}

func unlock(ctx context.Context, args lockArgs, _ func(any)) (any, error) {
	mutex, err := mutexes.take(args.id())
	if err != nil {
		return nil, err
	}
	return done{}, mutex.Unlock(ctx)
}

// A write on the condition that the mutex is held: what Go calls IsOwner.
func putIfOwner(ctx context.Context, args lockArgs, _ func(any)) (any, error) {
	session, err := sessions.get(args.Session)
	if err != nil {
		return nil, err
	}
	mutex, err := mutexes.get(args.id())
	if err != nil {
		return nil, err
	}
	response, err := session.Client().Txn(ctx).
		If(mutex.IsOwner()).
		Then(clientv3.OpPut(string(args.Key), string(args.Value))).
		Commit()
	if err != nil {
		return nil, err
	}
	return result{Revision: response.Header.Revision, Succeeded: response.Succeeded}, nil
}

// Increments a counter under the mutex, so many times: reads it and writes it without any condition.
func count(ctx context.Context, args lockArgs, _ func(any)) (any, error) {
	session, err := sessions.get(args.Session)
	if err != nil {
		return nil, err
	}
	client := session.Client()
	for range args.Times {
		mutex := concurrency.NewMutex(session, args.Name)
		if err := mutex.Lock(ctx); err != nil {
			return nil, err
		}
		response, err := client.Get(ctx, string(args.Key))
		if err != nil {
			return nil, err
		}
		number := 0
		if len(response.Kvs) > 0 {
			if number, err = strconv.Atoi(string(response.Kvs[0].Value)); err != nil {
				return nil, fmt.Errorf("the counter: %w", err)
			}
		}
		if _, err := client.Put(ctx, string(args.Key), strconv.Itoa(number+1)); err != nil {
			return nil, err
		}
		if err := mutex.Unlock(ctx); err != nil {
			return nil, err
		}
	}
	return done{}, nil
}
