// A Go process on etcd's own Go client, driven by another program through its standard input and output.
//
// Each line of the input is a call: {"id":1,"call":"put","args":{...}}, or {"id":1,"call":"cancel"} to cancel call 1.
// Each line of the output is a response to a call: {"id":1,"result":{...}} or {"id":1,"error":"..."}. Some calls send
// {"id":1,"item":{...}} before the result, any number of times. Calls run at the same time; the process ends with its input.
// 64-bit integers are decimal strings, since JavaScript would round them. Bytes are base64.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
)

// A line of the input.
type call struct {
	ID   int64           `json:"id"`
	Call string          `json:"call"`
	Args json.RawMessage `json:"args"`
}

// A line of the output.
type response struct {
	ID     int64  `json:"id"`
	Item   any    `json:"item,omitempty"`
	Result any    `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
}

// The result of a call that has none.
type done struct{}

// How a call is executed. It may send items before it returns.
type handler func(ctx context.Context, args json.RawMessage, item func(any)) (any, error)

// handle decodes the arguments of a call.
func handle[A any](run func(ctx context.Context, args A, item func(any)) (any, error)) handler {
	return func(ctx context.Context, raw json.RawMessage, item func(any)) (any, error) {
		var args A
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, fmt.Errorf("arguments: %w", err)
			}
		}
		return run(ctx, args, item)
	}
}

type server struct {
	writing sync.Mutex
	out     *json.Encoder

	running sync.Mutex
	cancels map[int64]context.CancelFunc
}

func (s *server) write(line response) {
	s.writing.Lock()
	defer s.writing.Unlock()
	// The reader is gone: so is the reason to run.
	if err := s.out.Encode(line); err != nil {
		os.Exit(0)
	}
}

func (s *server) start(c call, run handler) {
	ctx, cancel := context.WithCancel(context.Background())
	s.running.Lock()
	s.cancels[c.ID] = cancel
	s.running.Unlock()
	go func() {
		result, err := run(ctx, c.Args, func(item any) { s.write(response{ID: c.ID, Item: item}) })
		s.running.Lock()
		delete(s.cancels, c.ID)
		s.running.Unlock()
		cancel()
		if err != nil {
			s.write(response{ID: c.ID, Error: err.Error()})
			return
		}
		s.write(response{ID: c.ID, Result: result})
	}()
}

func (s *server) cancel(id int64) {
	s.running.Lock()
	defer s.running.Unlock()
	if cancel, ok := s.cancels[id]; ok {
		cancel()
	}
}

func main() {
	s := &server{out: json.NewEncoder(os.Stdout), cancels: map[int64]context.CancelFunc{}}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var c call
		if err := json.Unmarshal(line, &c); err != nil {
			fmt.Fprintf(os.Stderr, "not a call: %v\n", err)
			os.Exit(1)
		}
		if c.Call == "cancel" {
			s.cancel(c.ID)
			continue
		}
		run, ok := handlers[c.Call]
		if !ok {
			s.write(response{ID: c.ID, Error: fmt.Sprintf("there is no call %q", c.Call)})
			continue
		}
		s.start(c, run)
	}
}

var handlers map[string]handler

func init() {
	handlers = map[string]handler{
		"open": handle(open), "close": handle(closeClient),
		"put": handle(put), "get": handle(get), "delete": handle(remove), "txn": handle(txn), "watch": handle(watch),
		"grant": handle(grant), "revoke": handle(revoke), "keepAliveOnce": handle(keepAliveOnce),
		"timeToLive": handle(timeToLive),
		"session":    handle(openSession), "sessionDone": handle(sessionDone), "sessionOrphan": handle(sessionOrphan),
		"sessionClose": handle(sessionClose),
		"lock":         handle(lock), "tryLock": handle(tryLock), "unlock": handle(unlock), "putIfOwner": handle(putIfOwner),
		"count":    handle(count),
		"rwLock":   handle(rwLock), "rwUnlock": handle(rwUnlock),
		"campaign": handle(campaign), "proclaim": handle(proclaim), "resign": handle(resign), "leader": handle(leader),
		"observe":    handle(observe),
		"endpointAdd": handle(endpointAdd), "endpointDelete": handle(endpointDelete),
		"endpointList": handle(endpointList), "endpointWatch": handle(endpointWatch),
		"authEnable": handle(authEnable), "authDisable": handle(authDisable), "userAdd": handle(userAdd),
		"userDelete": handle(userDelete), "userPassword": handle(userPassword), "userList": handle(userList),
		"userGrantRole": handle(userGrantRole), "roleAdd": handle(roleAdd), "roleGrant": handle(roleGrant),
		"cpuMicros": handle(cpuMicros), "benchLoop": handle(benchLoop), "benchReplay": handle(benchReplay),
	}
}
