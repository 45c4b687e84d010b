package main

import (
	"context"

	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

var rwMutexes = named[*recipe.RWMutex]{what: "read-write mutex"}

// A holder is named by the caller: Go has one contender for each RWMutex.
type rwLockArgs struct {
	Session string `json:"session"`
	Name    string `json:"name"`
	Holder  string `json:"holder"`
	Write   bool   `json:"write"`
}

func (args rwLockArgs) id() string { return args.Session + " " + args.Holder }

// Go's RWMutex takes no context: a call that waits ends with the process.
func rwLock(_ context.Context, args rwLockArgs, _ func(any)) (any, error) {
	session, err := sessions.get(args.Session)
	if err != nil {
		return nil, err
	}
	mutex := recipe.NewRWMutex(session, args.Name)
	acquire := mutex.RLock
	if args.Write {
		acquire = mutex.Lock
	}
	if err := acquire(); err != nil {
		return nil, err
	}
	rwMutexes.set(args.id(), mutex)
	return done{}, nil
}

func rwUnlock(_ context.Context, args rwLockArgs, _ func(any)) (any, error) {
	mutex, err := rwMutexes.take(args.id())
	if err != nil {
		return nil, err
	}
	if args.Write {
		return done{}, mutex.Unlock()
	}
	return done{}, mutex.RUnlock()
}
