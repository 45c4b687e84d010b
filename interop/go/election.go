package main

import (
	"context"

	"go.etcd.io/etcd/client/v3/concurrency"
)

var elections = named[*concurrency.Election]{what: "election"}

// An election is named by its session and its name, as a mutex is.
type electionArgs struct {
	Session string `json:"session"`
	Name    string `json:"name"`
	Value   string `json:"value"`
}

func (args electionArgs) id() string { return args.Session + " " + args.Name }

func electionOf(args electionArgs) (*concurrency.Election, error) {
	if election, err := elections.get(args.id()); err == nil {
		return election, nil
	}
	session, err := sessions.get(args.Session)
	if err != nil {
		return nil, err
	}
	election := concurrency.NewElection(session, args.Name)
	elections.set(args.id(), election)
	return election, nil
}

func campaign(ctx context.Context, args electionArgs, _ func(any)) (any, error) {
	election, err := electionOf(args)
	if err != nil {
		return nil, err
	}
	if err := election.Campaign(ctx, args.Value); err != nil {
		return nil, err
	}
	return held{election.Key(), election.Rev()}, nil
}

func proclaim(ctx context.Context, args electionArgs, _ func(any)) (any, error) {
	election, err := electionOf(args)
	if err != nil {
		return nil, err
	}
	return done{}, election.Proclaim(ctx, args.Value)
}

func resign(ctx context.Context, args electionArgs, _ func(any)) (any, error) {
	election, err := electionOf(args)
	if err != nil {
		return nil, err
	}
	return done{}, election.Resign(ctx)
}

func leader(ctx context.Context, args electionArgs, _ func(any)) (any, error) {
	election, err := electionOf(args)
	if err != nil {
		return nil, err
	}
	response, err := election.Leader(ctx)
	if err != nil {
		return nil, err
	}
	return entryOf(response.Kvs[0]), nil
}

// Sends each leader and each of its proclamations, until it is cancelled.
func observe(ctx context.Context, args electionArgs, item func(any)) (any, error) {
	election, err := electionOf(args)
	if err != nil {
		return nil, err
	}
	for response := range election.Observe(ctx) {
		item(entryOf(response.Kvs[0]))
	}
	return done{}, nil
}
