package main

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

// The endpoints of a service, as Go's gRPC resolver reads them.
type endpointArgs struct {
	Client   string `json:"client"`
	Service  string `json:"service"`
	ID       string `json:"id"`
	Address  string `json:"address"`
	Metadata any    `json:"metadata"`
	Lease    int64  `json:"lease,string"`
}

type endpoint struct {
	Key      string `json:"key"`
	Address  string `json:"address"`
	Metadata any    `json:"metadata"`
}

type endpointUpdate struct {
	Add      bool     `json:"add"`
	Endpoint endpoint `json:"endpoint"`
}

func managerOf(args endpointArgs) (endpoints.Manager, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	return endpoints.NewManager(client, args.Service)
}

func endpointAdd(ctx context.Context, args endpointArgs, _ func(any)) (any, error) {
	manager, err := managerOf(args)
	if err != nil {
		return nil, err
	}
	added := endpoints.Endpoint{Addr: args.Address, Metadata: args.Metadata}
	lease := clientv3.WithLease(clientv3.LeaseID(args.Lease))
	return done{}, manager.AddEndpoint(ctx, args.Service+"/"+args.ID, added, lease)
}

func endpointDelete(ctx context.Context, args endpointArgs, _ func(any)) (any, error) {
	manager, err := managerOf(args)
	if err != nil {
		return nil, err
	}
	return done{}, manager.DeleteEndpoint(ctx, args.Service+"/"+args.ID)
}

func endpointList(ctx context.Context, args endpointArgs, _ func(any)) (any, error) {
	manager, err := managerOf(args)
	if err != nil {
		return nil, err
	}
	list, err := manager.List(ctx)
	if err != nil {
		return nil, err
	}
	found := []endpoint{}
	for key, each := range list {
		found = append(found, endpoint{key, each.Addr, each.Metadata})
	}
	return found, nil
}

// endpointWatch sends each update of the channel that the resolver reads, the present endpoints first.
func endpointWatch(ctx context.Context, args endpointArgs, item func(any)) (any, error) {
	manager, err := managerOf(args)
	if err != nil {
		return nil, err
	}
	channel, err := manager.NewWatchChannel(ctx)
	if err != nil {
		return nil, err
	}
	for updates := range channel {
		for _, update := range updates {
			item(endpointUpdate{
				update.Op == endpoints.Add,
				endpoint{update.Key, update.Endpoint.Addr, update.Endpoint.Metadata},
			})
		}
	}
	return done{}, nil
}
