package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Things that later calls name.
type named[T any] struct {
	what   string
	mutex  sync.Mutex
	things map[string]T
}

func (n *named[T]) get(name string) (T, error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	thing, ok := n.things[name]
	if !ok {
		return thing, fmt.Errorf("there is no %s %q", n.what, name)
	}
	return thing, nil
}

func (n *named[T]) set(name string, thing T) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.things == nil {
		n.things = map[string]T{}
	}
	n.things[name] = thing
}

func (n *named[T]) take(name string) (T, error) {
	thing, err := n.get(name)
	n.mutex.Lock()
	defer n.mutex.Unlock()
	delete(n.things, name)
	return thing, err
}

var clients = named[*clientv3.Client]{what: "client"}

type openArgs struct {
	Client    string   `json:"client"`
	Endpoints []string `json:"endpoints"`
	Username  string   `json:"username"`
	Password  string   `json:"password"`
}

// The standard output is for responses.
func logger() *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zap.FatalLevel))
}

func open(_ context.Context, args openArgs, _ func(any)) (any, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   args.Endpoints,
		Username:    args.Username,
		Password:    args.Password,
		DialTimeout: 10 * time.Second,
		Logger:      logger(),
	})
	if err != nil {
		return nil, err
	}
	clients.set(args.Client, client)
	return done{}, nil
}

type clientArgs struct {
	Client string `json:"client"`
}

func closeClient(_ context.Context, args clientArgs, _ func(any)) (any, error) {
	client, err := clients.take(args.Client)
	if err != nil {
		return nil, err
	}
	return done{}, client.Close()
}
