/**
 * Tests of fences that the published suite cannot make: the operations sent, scheduling, other stores, and printed
 * forms.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as LockError from "@effect-kv/core/LockError"
import * as Namespace from "@effect-kv/core/Namespace"
import * as Op from "@effect-kv/core/Op"
import * as Session from "@effect-kv/core/Session"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

/** A store, and a client whose operations are recorded as they reach the store. */
const open = Effect.fnUntraced(function*(wrap: (backend: KvBackend) => KvBackend = (backend) => backend) {
  const store = yield* MemoryStore.make()
  const backend = yield* store.connect
  const sent: Array<Op.Op> = []
  const kv = yield* Kv.make(wrap({
    ...backend,
    execute: (op) =>
      Effect.suspend(() => {
        sent.push(op)
        return Effect.andThen(Effect.yieldNow, backend.execute(op))
      })
  }))
  const other = yield* Kv.make(yield* store.connect)
  return { store, kv, other, sent }
})

const conditionOf = (lock: DistLock.Lock, prefix = "") => Compare.createRevision(prefix + lock.key, "=", lock.token)

describe("the operation that is sent", () => {
  it.effect("is the same object as without the guard, if there is no fence", () =>
    Effect.gen(function*() {
      const { kv, sent } = yield* open()
      const ops = [
        Op.put("k", "v"),
        Op.delete("k"),
        Op.get("k"),
        Op.txn({ if: [Compare.missing("k")], then: [Op.put("k", "v")] })
      ]
      for (const op of ops) yield* backendOf(kv).execute(op)
      yield* on(kv)(DistLock.use("l", () => backendOf(kv).execute(ops[0]!), { fenced: false }))
      for (const op of ops) assert.include(sent, op)
      assert.strictEqual(sent.filter((op) => op === ops[0]).length, 2)
    }))

  it.effect("is unchanged for a read under a lock", () =>
    Effect.gen(function*() {
      const { kv, sent } = yield* open()
      const read = Op.txn({ then: [Op.get("k")] })
      yield* on(kv)(DistLock.withDistLock(backendOf(kv).execute(read), "l"))
      assert.include(sent, read)
    }))

  it.effect("is one transaction without else under one lock, with the lock's key at the client's root, in any namespace", () =>
    Effect.gen(function*() {
      const { kv, sent } = yield* open()
      for (const names of ["l", ["a", "b"]] as const) {
        for (const view of [kv, Kv.prefixed(kv, "other/")]) {
          sent.length = 0
          let lock: DistLock.MultiLock | undefined
          yield* on(Kv.prefixed(kv, "app/"))(DistLock.use(names, (taken) => {
            lock = taken
            return Effect.andThen(Effect.sync(() => sent.length = 0), view.put("k", "v"))
          }))
          const [op, ...rest] = sent
          assert.strictEqual(
            rest.filter((op) => op._tag === "Txn" && op.then.some(Op.isWrite)).length,
            lock?.parts.length,
            "the releases"
          )
          assert.isTrue(op?._tag === "Txn")
          if (op?._tag !== "Txn") return
          assert.deepStrictEqual(
            op.if,
            lock!.parts.map(({ key, token }) => Compare.createRevision(`app/${key}`, "=", token))
          )
          assert.deepStrictEqual(op.else, [])
          assert.deepStrictEqual(op.then.map((inner) => inner._tag), ["Put"])
        }
      }
    }))

  it.effect("also finds out which lock was lost under nested locks", () =>
    Effect.gen(function*() {
      const { kv, sent } = yield* open()
      const locks: Array<DistLock.Lock> = []
      const under = (name: string) => <A, E>(effect: Effect.Effect<A, E>) =>
        on(kv)(DistLock.use(name, (lock) => {
          locks.push(lock)
          return effect
        }))
      yield* kv.put("k", "v").pipe(under("inner"), under("outer"))
      const op = sent.find((op) => op._tag === "Txn" && op.if.length === 2)
      const conditions = locks.map((lock) => conditionOf(lock))
      assert.deepStrictEqual(
        op,
        Op.txn({
          if: conditions,
          then: [Op.put("k", "v")],
          else: conditions.map((condition) => Op.txn({ if: [condition] }))
        })
      )
    }))

  it.effect("is batched with writes of other holders, each with its own condition", () =>
    Effect.gen(function*() {
      const { kv, sent } = yield* open(Batching.batched({ maxInFlight: 1 }))
      const tokens: Array<bigint> = []
      const holder = (name: string) =>
        DistLock.use(name, (lock) => {
          tokens.push(lock.token)
          return Effect.andThen(Effect.yieldNow, kv.put(name, "v"))
        })
      yield* on(kv)(Effect.all(["a", "b", "c"].map(holder), { concurrency: "unbounded" }))
      const fenced = (op: Op.Op) =>
        op._tag === "Txn" && op.if.some(({ target }) => target === "CreateRevision") &&
        op.then.some((inner) => inner._tag === "Put" && inner.lease === undefined)
      const batch = sent.find((op) => op._tag === "Txn" && op.then.filter(fenced).length > 1)
      assert.isTrue(batch?._tag === "Txn", "no batch of fenced puts")
      if (batch?._tag !== "Txn") return
      const inBatch = batch.then.filter(fenced).flatMap((op) => op._tag === "Txn" ? op.if : [])
      assert.strictEqual(
        new Set(inBatch.map((compare) => compare.target === "CreateRevision" && compare.key)).size,
        inBatch.length
      )
      for (const compare of inBatch) assert.include(tokens, compare.target === "CreateRevision" && compare.value)
    }))
})

describe("a fence", () => {
  it.effect("applies only to its own client: not to another store, and not to another client", () =>
    Effect.gen(function*() {
      const { kv, other } = yield* open()
      const second = yield* open()
      const exit = yield* DistLock.use("l", (lock) =>
        Effect.uninterruptible(Effect.gen(function*() {
          yield* other.delete(lock.key)
          yield* second.kv.put("k", "1")
          yield* on(second.kv)(DistLock.withDistLock(second.kv.put("k", "2"), "l"))
          return yield* kv.put("k", "3")
        }))).pipe(on(kv), Effect.exit)
      assert.isTrue(Exit.isFailure(exit))
      assert.deepStrictEqual(yield* second.kv.get("k"), Option.some("2"))
      assert.deepStrictEqual(yield* kv.get("k"), Option.none())
    }))

  it.effect("uses the full key names if the client's backend is itself a namespace", () =>
    Effect.gen(function*() {
      const { kv, other } = yield* open(Namespace.prefixed("tenant/"))
      const app = Kv.prefixed(kv, "app/")
      yield* on(app)(DistLock.withDistLock(kv.put("k", "1"), "l"))
      assert.deepStrictEqual(yield* other.get("tenant/k"), Option.some("1"))
    }))

  it.effect("rejects every write through a wrapper that changes keys", () =>
    Effect.gen(function*() {
      const { kv, other } = yield* open()
      const moved = Kv.mapBackend(kv, (backend) => ({
        ...backend,
        execute: (op) =>
          backend.execute(
            op._tag === "Txn"
              ? {
                ...op,
                if: op.if.map((compare) =>
                  compare.target === "CreatedBefore" ? compare : { ...compare, key: `moved/${compare.key}` }
                )
              }
              : op
          )
      }))
      const error = yield* Effect.flip(on(kv)(DistLock.withDistLock(moved.put("k", "1"), "l")))
      assert.strictEqual(error._tag, "LockLost")
      assert.deepStrictEqual(yield* other.get("k"), Option.none())
    }))

  it.effect("does not prevent a session that was made under it from revoking its lease", () =>
    Effect.gen(function*() {
      const { kv, store } = yield* open()
      yield* Effect.scoped(on(kv)(DistLock.withDistLock(Session.make({ ttl: "1 hour" }), "l")))
      const { leases } = yield* store.statistics
      assert.strictEqual(leases, 1, "only the lease of the lock's session")
    }))
})

class JobFailed {
  readonly _tag = "JobFailed"
  readonly cause: unknown
  constructor(cause: unknown) {
    this.cause = cause
  }
}

describe("a rejected write", () => {
  const ends: Readonly<
    Record<string, (write: Effect.Effect<unknown, KvError.KvError>) => Effect.Effect<unknown, unknown>>
  > = {
    fails: (write) => write,
    "fails with a wrapped error": (write) => Effect.mapError(write, (error) => new JobFailed(error)),
    dies: Effect.orDie,
    "is ignored": (write) => Effect.ignore(write)
  }
  for (const [what, end] of Object.entries(ends)) {
    it.effect(
      `ends the body with LockLost in each of 1,000 schedules if the write ${what}`,
      () =>
        Effect.gen(function*() {
          const { kv, other } = yield* open()
          for (let schedule = 0; schedule < 1000; schedule++) {
            const body = (lock: DistLock.Lock) =>
              Effect.gen(function*() {
                for (let i = 0; i < schedule % 5; i++) yield* Effect.yieldNow
                yield* other.delete(lock.key)
                for (let i = 0; i < (schedule >> 3) % 7; i++) yield* Effect.yieldNow
                yield* end(kv.put("k", "stale"))
                for (let i = 0; i < (schedule >> 5) % 5; i++) yield* Effect.yieldNow
              })
            const exit = yield* DistLock.use("l", body).pipe(
              on(kv),
              Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + schedule % 37),
              Effect.exit
            )
            const [first] = Exit.isFailure(exit) ? exit.cause.reasons : []
            assert.isTrue(
              first?._tag === "Fail" && first.error instanceof LockError.LockLost,
              `${schedule}: ${String(exit)}`
            )
            if (first?._tag === "Fail" && first.error instanceof LockError.LockLost) {
              assert.strictEqual(first.error.outcome, "Unknown")
            }
          }
          assert.deepStrictEqual(yield* kv.get("k"), Option.none())
        }),
      60_000
    )
  }
})

describe("JSON", () => {
  it.effect("of a lock, its contenders and its errors contains tokens as strings", () =>
    Effect.gen(function*() {
      const { kv } = yield* open()
      const [lock, holder] = yield* on(kv)(DistLock.use("l", (lock) =>
        Effect.map(DistLock.holder("l"), (holder) =>
          [JSON.stringify(lock), Option.getOrThrow(holder)] as const), { description: "me" }))
      const token = `${holder.token}`
      assert.deepStrictEqual(JSON.parse(lock), {
        name: "l",
        key: holder.key,
        token,
        parts: [{ name: "l", key: holder.key, token }],
        isHeld: true
      })
      assert.deepStrictEqual(JSON.parse(JSON.stringify(holder)), {
        key: holder.key,
        token,
        lease: Option.getOrThrow(holder.lease).toString(16),
        description: "me"
      })
      const lost = new LockError.LockLost({ lock: "l", token: 7n, reason: "its key was deleted" })
      assert.deepStrictEqual(JSON.parse(JSON.stringify(lost)), {
        _tag: "LockLost",
        message: lost.message,
        kind: "lock",
        lock: "l",
        token: "7",
        reason: "its key was deleted",
        isRetryable: false,
        outcome: "NotApplied"
      })
      const others = [
        new LockError.LockTimeout({
          lock: "l",
          token: Option.some(7n),
          waitedMillis: 1,
          storeFailure: Option.none(),
          blockedBy: Option.none()
        }),
        new LockError.LockHoldExceeded({ lock: "l", token: 7n, maxHoldMillis: 1 }),
        KvError.make(lost),
        Exit.fail(lost)
      ]
      for (const each of others) {
        assert.include(JSON.stringify(each), "\"7\"")
      }
    }))

  it("a lock's loss keeps its outcome when it is encoded and decoded", () => {
    const lost = new LockError.LockLost({ lock: "l", token: 7n, reason: "gone", outcome: "Unknown" })
    const encoded = Schema.encodeSync(KvError.Reason)(lost)
    const decoded = Schema.decodeSync(KvError.Reason)(encoded)
    assert.strictEqual(decoded.outcome, "Unknown")
  })
})

describe("the failures of a lock", () => {
  const work: Effect.Effect<number, "own"> = Effect.succeed(1)
  type Always = "own" | KvError.KvError | LockError.LockLost

  it("are in the type if they can happen", () => {
    const none = DistLock.withDistLock(work, "l")
    expectTypeOf<Effect.Error<typeof none>>().toEqualTypeOf<Always>()
    const ttl = DistLock.withDistLock(work, "l", { ttl: "1 second", fenced: true })
    expectTypeOf<Effect.Error<typeof ttl>>().toEqualTypeOf<Always>()
    const waits = work.pipe(DistLock.withDistLock("l", { acquireTimeout: "1 second" }))
    expectTypeOf<Effect.Error<typeof waits>>().toEqualTypeOf<Always | LockError.LockTimeout>()
    const holds = DistLock.use("l", () => work, { maxHold: "1 second" })
    expectTypeOf<Effect.Error<typeof holds>>().toEqualTypeOf<Always | LockError.LockHoldExceeded>()
    const both = DistLock.use("l", () => work, { acquireTimeout: 5, maxHold: { seconds: 1 } })
    expectTypeOf<Effect.Error<typeof both>>().toEqualTypeOf<
      Always | LockError.LockTimeout | LockError.LockHoldExceeded
    >()
    const undefinedTimeout = DistLock.withDistLock(work, "l", { acquireTimeout: undefined })
    expectTypeOf<Effect.Error<typeof undefinedTimeout>>().toEqualTypeOf<Always>()
  })

  it("follow from the type of options in a variable", () => {
    const options: DistLock.Options = { ttl: "1 second" }
    const any = DistLock.withDistLock(work, "l", options)
    expectTypeOf<Effect.Error<typeof any>>().toEqualTypeOf<"own" | DistLock.LockFailure>()
    const known = { ttl: "1 second", maxHold: "1 minute" } as const
    const holds = work.pipe(DistLock.withDistLock("l", known))
    expectTypeOf<Effect.Error<typeof holds>>().toEqualTypeOf<Always | LockError.LockHoldExceeded>()
    const maybe = (acquireTimeout: Duration.Input | undefined) => DistLock.use("l", () => work, { acquireTimeout })
    expectTypeOf<Effect.Error<ReturnType<typeof maybe>>>().toEqualTypeOf<Always | LockError.LockTimeout>()
    const given = (options: DistLock.Options | undefined) => DistLock.use("l", () => work, options)
    expectTypeOf<Effect.Error<ReturnType<typeof given>>>().toEqualTypeOf<"own" | DistLock.LockFailure>()
    // @ts-expect-error an unknown option
    const _unknown = () => DistLock.withDistLock(work, "l", { ttl: "1 second", acquireTimeOut: "1 second" })
  })

  it("can all be retried by one policy", () => {
    const locked = DistLock.withDistLock(Effect.void, "l", { acquireTimeout: "1 second", maxHold: "1 minute" })
    const retried = Effect.retry(locked, { while: (error) => error.isRetryable && error.outcome === "NotApplied" })
    expectTypeOf<Effect.Error<typeof retried>>().toEqualTypeOf<DistLock.LockFailure>()
    const outcomes = [
      new LockError.LockTimeout({
        lock: "l",
        token: Option.none(),
        waitedMillis: 1,
        storeFailure: Option.none(),
        blockedBy: Option.none()
      }),
      new LockError.LockHoldExceeded({ lock: "l", token: 1n, maxHoldMillis: 1 }),
      new LockError.LockLost({ lock: "l", token: 1n, reason: "gone" })
    ].map(({ isRetryable, outcome }) => [isRetryable, outcome])
    assert.deepStrictEqual(outcomes, [[true, "NotApplied"], [false, "Unknown"], [false, "NotApplied"]])
  })
})

describe("unfenced", () => {
  it.effect("changes nothing without fences", () =>
    Effect.gen(function*() {
      const { kv } = yield* open()
      yield* Fence.unfenced(kv.put("k", "1"))
      assert.deepStrictEqual(yield* Fence.Current, [])
      assert.deepStrictEqual(yield* kv.get("k"), Option.some("1"))
    }))
})
