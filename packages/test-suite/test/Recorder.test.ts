import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import { LockLost } from "@effect-kv/core/LockError"
import * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { type History, Recorder } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

const open = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const recorder = yield* Recorder.make
  return { store, recorder, backend: yield* store.connect }
})

/** A backend whose operations run the given effects. */
const executing = (backend: KvBackend, execute: Effect.Effect<never, KvError.KvError>): KvBackend => ({
  ...backend,
  execute: () => execute
})

const execution = (op: Op.Op): History.Request => ({ _tag: "Execute", op })

describe("Recorder", () => {
  it.effect("a recorder records the client, the request, the moments and the outcome of each call", () =>
    Effect.gen(function*() {
      const { backend, recorder } = yield* open
      const a = recorder.client("a")(backend)
      const b = recorder.client("b")(backend)
      yield* a.execute(Op.put("k", Uint8Array.of(0xff)))
      yield* TestClock.adjust("1 second")
      yield* b.execute(Op.txn({ then: [Op.put("k", "v", { previous: true }), Op.get("k")] }))
      yield* Effect.exit(b.execute(Op.put("", "v")))
      const { calls } = yield* recorder.history
      assert.deepStrictEqual(calls.map((call) => [call.client, call.request]), [
        ["a", execution({ _tag: "Put", key: "k", value: Uint8Array.of(0xff) })],
        [
          "b",
          execution({
            _tag: "Txn",
            if: [],
            then: [
              { _tag: "Put", key: "k", value: "v", previous: true },
              { _tag: "Range", range: KeyRange.key("k") }
            ],
            else: []
          })
        ],
        ["b", execution({ _tag: "Put", key: "", value: "v" })]
      ])
      const first = { key: "k", value: Uint8Array.of(0xff), createRevision: 2n, modRevision: 2n, version: 1, lease: 0n }
      const second = { ...first, value: "v", modRevision: 3n, version: 2 }
      assert.deepStrictEqual(calls.map((call) => call.outcome), [
        { _tag: "Responded", response: { _tag: "Put", revision: 2n } },
        {
          _tag: "Responded",
          response: {
            _tag: "Txn",
            revision: 3n,
            succeeded: true,
            responses: [
              { _tag: "Put", revision: 3n, previous: first },
              { _tag: "Range", revision: 3n, entries: [second], count: 1, more: false }
            ]
          }
        },
        { _tag: "Failed", reason: "InvalidRequest", outcome: "NotApplied", message: "a key must not be empty" }
      ])
      assert.strictEqual(calls[1]!.invoked.nanos - calls[0]!.completed!.nanos, 1_000_000_000n)
      assert.deepStrictEqual(calls.flatMap((call) => [call.invoked.order, call.completed!.order]), [0, 1, 2, 3, 4, 5])
    }))

  it.effect("a recorder records a copy of the request", () =>
    Effect.gen(function*() {
      const { backend, recorder } = yield* open
      const bytes = Uint8Array.of(0xff)
      yield* recorder.client("a")(backend).execute({ _tag: "Put", key: "k", value: bytes })
      bytes[0] = 0xfe
      const { calls } = yield* recorder.history
      assert.deepStrictEqual(calls[0]!.request, execution({ _tag: "Put", key: "k", value: Uint8Array.of(0xff) }))
    }))

  it.effect("lost, interrupted, died and pending writes are unknown", () =>
    Effect.gen(function*() {
      const { backend, recorder } = yield* open
      const run = (execute: Effect.Effect<never, KvError.KvError>) =>
        recorder.client("a")(executing(backend, execute)).execute(Op.put("k", "v"))
      yield* Effect.exit(run(KvError.fail(new KvError.Indeterminate({ message: "lost" }))))
      const fiber = yield* Effect.forkChild(run(Effect.never), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      yield* Effect.exit(run(Effect.die("a bug")))
      yield* Effect.forkChild(run(Effect.never), { startImmediately: true })
      const { calls } = yield* recorder.history
      assert.deepStrictEqual(calls.map((call) => call.outcome._tag), ["Failed", "Interrupted", "Died", "Pending"])
      assert.deepInclude(calls[0]!.outcome, { reason: "Indeterminate", outcome: "Unknown" })
      assert.deepStrictEqual(calls.map((call) => call.completed === undefined), [false, false, false, true])
    }))

  it.effect("a recorder records calls for leases", () =>
    Effect.gen(function*() {
      const { backend, recorder } = yield* open
      const a = recorder.client("a")(backend)
      yield* a.leaseGrant({ ttl: "3 seconds", id: 7n })
      yield* a.leaseKeepAlive(7n)
      yield* a.leaseTimeToLive(7n, { keys: true })
      yield* a.leaseRevoke(7n)
      yield* Effect.exit(a.leaseRevoke(7n))
      const { calls } = yield* recorder.history
      const lease: History.Response = { _tag: "Lease", id: 7n, ttlMillis: 3000 }
      assert.deepStrictEqual(calls.map((call) => call.request), [
        { _tag: "LeaseGrant", ttlMillis: 3000, id: 7n },
        { _tag: "LeaseKeepAlive", id: 7n },
        { _tag: "LeaseTimeToLive", id: 7n, keys: true },
        { _tag: "LeaseRevoke", id: 7n },
        { _tag: "LeaseRevoke", id: 7n }
      ])
      const responses = calls.map(({ outcome }) => outcome._tag === "Responded" ? outcome.response : outcome._tag)
      assert.deepStrictEqual(responses, [
        lease,
        lease,
        { _tag: "LeaseStatus", id: 7n, grantedTtlMillis: 3000, remainingMillis: 3000, keys: [] },
        { _tag: "LeaseRevoked" },
        "Failed"
      ])
    }))

  it.effect("a recorder records the events of a watch, and how it ends", () =>
    Effect.gen(function*() {
      const { backend, recorder, store } = yield* open
      const a = recorder.client("a")(backend)
      yield* backend.execute(Op.put("k", "1"))
      yield* Effect.scoped(Effect.gen(function*() {
        const watcher = yield* a.watch({ range: KeyRange.key("k"), previous: true })
        yield* backend.execute(Op.put("k", "2"))
        yield* backend.execute(Op.delete("k"))
        yield* watcher.take
        const fiber = yield* Effect.forkChild(watcher.take, { startImmediately: true })
        yield* Fiber.interrupt(fiber)
      }))
      yield* store.compact(3n)
      yield* Effect.scoped(
        Effect.exit(Effect.flatMap(a.watch({ range: KeyRange.all, startRevision: 1n }), ({ take }) => take))
      )
      const { watches } = yield* recorder.history
      const one = { key: "k", value: "1", createRevision: 2n, modRevision: 2n, version: 1, lease: 0n }
      const two = { ...one, value: "2", modRevision: 3n, version: 2 }
      assert.strictEqual(watches[0]!.confirmed?.revision, 2n)
      assert.deepStrictEqual(watches[0]!.batches.map(({ events, revision }) => ({ events, revision })), [
        { revision: 3n, events: [{ _tag: "Put", key: "k", revision: 3n, entry: two, isCreate: false, previous: one }] },
        { revision: 4n, events: [{ _tag: "Delete", key: "k", revision: 4n, previous: two }] }
      ])
      assert.strictEqual(watches[0]!.ended?.how._tag, "Closed")
      assert.deepInclude(watches[1]!.ended?.how, { _tag: "Failed", reason: "Compacted", compactRevision: 3n })
    }))

  it.effect("each value of a recorder is unique", () =>
    Effect.gen(function*() {
      const recorder = yield* Recorder.make
      const values = yield* Effect.forEach(["a", "b", "a", "a1", "a"], recorder.value)
      assert.strictEqual(new Set(values).size, values.length)
    }))

  it.effect("a recorder records a holding until its holder stops or learns of the loss", () =>
    Effect.gen(function*() {
      const { backend, recorder } = yield* open
      const kv = yield* Kv.make(recorder.client("a")(backend))
      const withLock = (use: (lock: DistLock.MultiLock) => Effect.Effect<unknown, KvError.KvError>) =>
        recorder.withLock("a", ["x", "y"], use).pipe(Effect.provideService(Kv.Kv, kv))
      yield* withLock(() => recorder.history)
      const stopped = yield* Deferred.make<number>()
      const lost = yield* Effect.forkChild(
        Effect.exit(withLock((lock) =>
          Effect.andThen(backend.execute(Op.delete(lock.parts[0].key)), Effect.never).pipe(
            Effect.onExit(() =>
              Effect.flatMap(recorder.history, ({ holdings }) =>
                Deferred.succeed(
                  stopped,
                  holdings.filter((holding) => holding.ended !== undefined).length
                ))
            )
          )
        ))
      )
      yield* TestClock.adjust("1 second")
      const exit = yield* Fiber.join(lost)
      assert.isTrue(Exit.isFailure(exit) && Cause.pretty(exit.cause).includes("LockLost"))
      const { holdings } = yield* recorder.history
      assert.deepStrictEqual(holdings.map(({ client, ended, lock }) => [client, lock, ended?.how]), [
        ["a", "x", "Released"],
        ["a", "y", "Released"],
        ["a", "x", "Lost"],
        ["a", "y", "Lost"]
      ])
      assert.strictEqual(yield* Deferred.await(stopped), 4, "the loss is recorded before the body's finalizers run")
      assert.isTrue(holdings[0]!.token < holdings[2]!.token)
    }))

  it.effect("a recorder records fenced effects as accepted, rejected or unknown", () =>
    Effect.gen(function*() {
      const { backend, recorder } = yield* open
      const kv = yield* Kv.make(backend)
      const scope = yield* Scope.make()
      const lock = yield* DistLock.acquire("x").pipe(Effect.provideService(Kv.Kv, kv), Scope.provide(scope))
      const fenced = DistLock.fence(kv, lock)
      const record = recorder.fenced("a", lock, "counter")
      yield* record(fenced.put("counter", "1"))
      yield* Effect.exit(record(KvError.fail(new KvError.Indeterminate({ message: "lost" }))))
      yield* Scope.close(scope, Exit.void)
      yield* Effect.exit(record(fenced.put("counter", "2")))
      yield* Effect.exit(record(Effect.die("a bug")))
      yield* Effect.exit(record(Effect.fail(new LockLost({ lock: "x", token: 2n, reason: "its key was deleted" }))))
      const unavailable = KvError.make(new KvError.Unavailable({ message: "unavailable" }))
      const both = Cause.combine(Cause.fail(unavailable), Cause.die("a bug"))
      yield* Effect.exit(record(Effect.failCause(both)))
      const { effects } = yield* recorder.history
      assert.deepStrictEqual(effects.map(({ outcome, revision, token }) => [outcome, revision, token]), [
        ["Accepted", 3n, 2n],
        ["Unknown", undefined, 2n],
        ["Rejected", undefined, 2n],
        ["Unknown", undefined, 2n],
        ["Unknown", undefined, 2n],
        ["Unknown", undefined, 2n]
      ])
    }))
})
