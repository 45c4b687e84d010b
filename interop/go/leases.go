package main

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

type leaseArgs struct {
	Client string `json:"client"`
	Lease  int64  `json:"lease,string"`
	TTL    int64  `json:"ttl"`
}

type lease struct {
	Lease int64 `json:"lease,string"`
	// In seconds. -1: the lease is gone.
	TTL     int64    `json:"ttl"`
	Granted int64    `json:"granted,omitempty"`
	Keys    [][]byte `json:"keys,omitempty"`
}

func grant(ctx context.Context, args leaseArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	response, err := client.Grant(ctx, args.TTL)
	if err != nil {
		return nil, err
	}
	return lease{Lease: int64(response.ID), TTL: response.TTL}, nil
}

func revoke(ctx context.Context, args leaseArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	_, err = client.Revoke(ctx, clientv3.LeaseID(args.Lease))
	return done{}, err
}

func keepAliveOnce(ctx context.Context, args leaseArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	response, err := client.KeepAliveOnce(ctx, clientv3.LeaseID(args.Lease))
	if err != nil {
		return nil, err
	}
	return lease{Lease: int64(response.ID), TTL: response.TTL}, nil
}

func timeToLive(ctx context.Context, args leaseArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	response, err := client.TimeToLive(ctx, clientv3.LeaseID(args.Lease), clientv3.WithAttachedKeys())
	if err != nil {
		return nil, err
	}
	return lease{Lease: int64(response.ID), TTL: response.TTL, Granted: response.GrantedTTL, Keys: response.Keys}, nil
}
