package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// What a round of a benchmark found: the same as the rounds of the other subjects.
type round struct {
	OpsPerSecond   float64 `json:"opsPerSecond"`
	P50Ms          float64 `json:"p50Ms"`
	P99Ms          float64 `json:"p99Ms"`
	CPUMicrosPerOp float64 `json:"cpuMicrosPerOp"`
}

type stopwatch struct {
	started   time.Time
	cpu       time.Duration
	latencies []time.Duration
}

// The CPU time of this process.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func cpuMicros(_ context.Context, _ struct{}, _ func(any)) (any, error) {
	return cpuTime().Microseconds(), nil
}

func startWatch() *stopwatch { return &stopwatch{started: time.Now(), cpu: cpuTime()} }

func (w *stopwatch) stop() round {
	elapsed := time.Since(w.started)
	cpu := cpuTime() - w.cpu
	slices.Sort(w.latencies)
	count := float64(len(w.latencies))
	at := func(share float64) float64 {
		if len(w.latencies) == 0 {
			return 0
		}
		return float64(w.latencies[int(count*share)].Nanoseconds()) / 1e6
	}
	return round{count / elapsed.Seconds(), at(0.5), at(0.99), float64(cpu.Microseconds()) / count}
}

type loopArgs struct {
	// One client for all callers, or one for each.
	Clients []string `json:"clients"`
	// "get", "put", "cas", "mix" or "lock".
	Op       string `json:"op"`
	InFlight int    `json:"inFlight"`
	Millis   int    `json:"millis"`
	// The key of a caller is this with the caller's number behind it; of a lock it is the name.
	Key   string `json:"key"`
	Value string `json:"value"`
}

// What a caller needs to make one call after the other.
type caller struct {
	client  *clientv3.Client
	session *concurrency.Session
	key     string
	value   string
	number  int
	// The last revision of its key.
	revision int64
}

func (c *caller) get(ctx context.Context) error {
	_, err := c.client.Get(ctx, c.key)
	return err
}

func (c *caller) put(ctx context.Context) error {
	_, err := c.client.Put(ctx, c.key, c.value)
	return err
}

// The key is the caller's own, so it always writes.
func (c *caller) cas(ctx context.Context) error {
	response, err := c.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(c.key), "=", c.revision)).
		Then(clientv3.OpPut(c.key, c.value)).
		Commit()
	if err != nil {
		return err
	}
	if !response.Succeeded {
		return fmt.Errorf("a compare-and-set of %s without a rival was rejected", c.key)
	}
	c.revision = response.Header.Revision
	return nil
}

// Nine gets, then a put; not all callers at the same time.
func (c *caller) mix(ctx context.Context) error {
	c.number++
	if c.number%10 == 0 {
		return c.put(ctx)
	}
	return c.get(ctx)
}

func (c *caller) lock(ctx context.Context) error {
	mutex := concurrency.NewMutex(c.session, c.key)
	if err := mutex.Lock(ctx); err != nil {
		return err
	}
	return mutex.Unlock(ctx)
}

func (c *caller) op(name string) (func(context.Context) error, error) {
	op, ok := map[string]func(context.Context) error{
		"get": c.get, "put": c.put, "cas": c.cas, "mix": c.mix, "lock": c.lock,
	}[name]
	if !ok {
		return nil, fmt.Errorf("there is no operation %q", name)
	}
	return op, nil
}

// A session per client, kept between the rounds, as a program keeps it.
var benchSessions = named[*concurrency.Session]{what: "session"}

func benchSession(name string, client *clientv3.Client) (*concurrency.Session, error) {
	if session, err := benchSessions.get(name); err == nil {
		return session, nil
	}
	session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	if err != nil {
		return nil, err
	}
	benchSessions.set(name, session)
	return session, nil
}

func callersOf(ctx context.Context, args loopArgs) ([]*caller, error) {
	callers := make([]*caller, args.InFlight)
	for i := range callers {
		name := args.Clients[i%len(args.Clients)]
		client, err := clients.get(name)
		if err != nil {
			return nil, err
		}
		one := &caller{client: client, key: fmt.Sprintf("%s%d", args.Key, i), value: args.Value, number: i}
		switch args.Op {
		case "lock":
			one.key = args.Key
			if one.session, err = benchSession(name, client); err != nil {
				return nil, err
			}
		case "cas":
			response, err := client.Get(ctx, one.key)
			if err != nil {
				return nil, err
			}
			if len(response.Kvs) > 0 {
				one.revision = response.Kvs[0].ModRevision
			}
		}
		callers[i] = one
	}
	return callers, nil
}

// A closed loop: each caller makes its next call when the last one has ended.
func benchLoop(ctx context.Context, args loopArgs, _ func(any)) (any, error) {
	callers, err := callersOf(ctx, args)
	if err != nil {
		return nil, err
	}
	var group sync.WaitGroup
	var mutex sync.Mutex
	var failure error
	watch := startWatch()
	end := watch.started.Add(time.Duration(args.Millis) * time.Millisecond)
	for _, one := range callers {
		op, err := one.op(args.Op)
		if err != nil {
			return nil, err
		}
		group.Go(func() {
			var latencies []time.Duration
			for started := time.Now(); started.Before(end); started = time.Now() {
				if err := op(ctx); err != nil {
					mutex.Lock()
					failure = err
					mutex.Unlock()
					return
				}
				latencies = append(latencies, time.Since(started))
			}
			mutex.Lock()
			watch.latencies = append(watch.latencies, latencies...)
			mutex.Unlock()
		})
	}
	group.Wait()
	if failure != nil {
		return nil, failure
	}
	return watch.stop(), nil
}

type replayArgs struct {
	Client   string   `json:"client"`
	Prefixes []string `json:"prefixes"`
	// Events for each prefix.
	Each     int   `json:"each"`
	Revision int64 `json:"revision,string"`
}

// Watches each prefix from a revision in the past, until all have had their events.
func benchReplay(ctx context.Context, args replayArgs, _ func(any)) (any, error) {
	client, err := clients.get(args.Client)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	var mutex sync.Mutex
	var failure error
	watch := startWatch()
	for _, prefix := range args.Prefixes {
		group.Go(func() {
			missing := args.Each
			for response := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(args.Revision)) {
				latency := time.Since(watch.started)
				mutex.Lock()
				for range min(len(response.Events), missing) {
					watch.latencies = append(watch.latencies, latency)
				}
				mutex.Unlock()
				if missing -= len(response.Events); missing <= 0 {
					return
				}
			}
			mutex.Lock()
			failure = fmt.Errorf("the watch of %s ended with %d events missing", prefix, missing)
			mutex.Unlock()
		})
	}
	group.Wait()
	if failure != nil {
		return nil, failure
	}
	return watch.stop(), nil
}
