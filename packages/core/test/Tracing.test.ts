/**
 * The spans of a program's calls, batches, locks and sessions: what they contain, and what they must not.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Election from "@effect-kv/core/Election"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as RangeView from "@effect-kv/core/RangeView"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Session from "@effect-kv/core/Session"
import * as Slot from "@effect-kv/core/Slot"
import * as TempKey from "@effect-kv/core/TempKey"
import * as Tracing from "@effect-kv/core/Tracing"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as References from "effect/References"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"

const secret = "a-value-that-is-a-secret"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

/** A tracer that keeps its spans. */
const recorder = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span(options) {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return { spans, tracer }
}

/** Runs a program on a traced store and returns the spans of the calls. */
const spansOf = Effect.fnUntraced(
  function*<E>(program: Effect.Effect<unknown, E, Kv.Kv>, options?: Tracing.Options) {
    const { spans, tracer } = recorder()
    yield* program.pipe(
      Effect.exit,
      Effect.provideServiceEffect(
        Kv.Kv,
        Effect.map(Kv.Kv, Kv.mapBackend(Tracing.traced({ "db.system.name": "test" }, options)))
      ),
      Effect.provide(MemoryLayer.layer),
      Effect.withTracer(tracer)
    )
    return spans
  }
)

const namesOf = (spans: ReadonlyArray<Tracer.NativeSpan>) => spans.map(({ name }) => name)

const named = (spans: ReadonlyArray<Tracer.NativeSpan>, name: string) => spans.filter((span) => span.name === name)

const parentOf = (span: Tracer.NativeSpan) => Option.getOrUndefined(span.parent)

/** A traced client of a store whose requests wait while the gate is closed. */
const open = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const backend = yield* store.connect
  const gate = Latch.makeUnsafe(true)
  const gated: KvBackend = { ...backend, execute: (op) => Effect.andThen(gate.await, backend.execute(op)) }
  const { spans, tracer } = recorder()
  const make = (wrap: (backend: KvBackend) => KvBackend = (backend) => backend) =>
    Kv.make(Tracing.traced({ "db.system.name": "test" })(wrap(gated))).pipe(Effect.withTracer(tracer))
  return { store, gate, spans, tracer, make }
})

describe("spans of calls", () => {
  it.effect("spans of calls are client spans named by the operation, without keys", () =>
    Effect.gen(function*() {
      const spans = yield* spansOf(Effect.gen(function*() {
        yield* Kv.put("a-key", "1")
        yield* Kv.get("a-key")
        yield* Kv.txn({ then: [Op.put("b-key", "2")] })
        yield* Kv.delete("b-key")
      }))
      assert.deepStrictEqual(namesOf(spans), ["put", "range", "txn", "delete"])
      assert.isTrue(spans.every((span) => span.kind === "client"))
      assert.deepStrictEqual(Object.fromEntries(spans[1]!.attributes), {
        "db.system.name": "test",
        "db.operation.name": "range",
        "db.response.returned_rows": 1
      })
      assert.strictEqual(spans[2]!.attributes.get("effect_kv.txn"), "if 0 then 1 else 0")
      for (const { attributes, name } of spans) assert.notMatch(inspect([name, attributes]), /-key/)
    }))

  it.effect("spans of calls have keys if that is requested", () =>
    Effect.gen(function*() {
      const program = Effect.andThen(Kv.put("a", secret), Kv.count(KeyRange.prefix("p/")))
      const spans = yield* spansOf(program, { keys: true })
      assert.deepStrictEqual(spans.map(({ attributes }) => attributes.get("db.operation.parameter.key")), ["a", "p/*"])
    }))

  it.effect("spans of calls name every prefix around the call as its namespace", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = Kv.prefixed(yield* make(), "app/")
      const tenant = Kv.prefixed(kv, "ada/")
      yield* Effect.gen(function*() {
        yield* kv.put("a", "1")
        yield* tenant.put("a", "1")
        yield* Effect.scoped(tenant.subscribe(KeyRange.all))
      }).pipe(Effect.withTracer(tracer))
      assert.deepStrictEqual(
        spans.map(({ attributes, name }) => [name, attributes.get("db.namespace")]),
        [["put", "app/"], ["put", "app/ada/"], ["watch", "app/ada/"]]
      )
    }))

  it.effect("spans of calls name the reason and the outcome of a failure", () =>
    Effect.gen(function*() {
      const [span] = yield* spansOf(Kv.put("a", secret, { lease: 7n }))
      assert.strictEqual(span?.attributes.get("error.type"), "LeaseNotFound")
      assert.strictEqual(span?.attributes.get("effect_kv.outcome"), "NotApplied")
    }))

  it.effect("no spans are made if no tracer is installed", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const recording = (backend: KvBackend): KvBackend => ({
        ...backend,
        execute: (op) =>
          Effect.andThen(
            Effect.map(Effect.orDie(Effect.currentSpan), (span) => void seen.push(span.name)),
            backend.execute(op)
          )
      })
      const kv = Kv.mapBackend(yield* Kv.Kv, (backend) => Tracing.traced({})(recording(backend)))
      yield* Effect.withSpan(kv.put("a", "1"), "caller")
      assert.deepStrictEqual(seen, ["caller"])
    }).pipe(Effect.provide(MemoryLayer.layer)))

  it.effect("spans never contain a value, even if the call fails", () =>
    Effect.gen(function*() {
      const spans = yield* spansOf(
        Effect.gen(function*() {
          yield* Kv.put("a", secret, { previous: true })
          yield* Kv.testAndSet("a", Option.some(secret), secret)
          yield* Effect.exit(Kv.put("a", `${secret}\ud800`))
          yield* Effect.exit(Kv.put("a", secret, { lease: 7n }))
          yield* Kv.txn({ then: [Op.put("b", secret), Op.put("b", secret)] })
        }),
        { keys: true }
      )
      assert.strictEqual(spans.length, 5)
      for (const span of spans) assert.notInclude(inspect(span, { depth: 10 }), secret)
    }))
})

describe("spans of batches", () => {
  it.effect("batches are traces of their own, linked to the span of each caller and back", () =>
    Effect.gen(function*() {
      const { gate, make, spans, tracer } = yield* open
      const kv = yield* make(Batching.batched({ maxInFlight: 1 }))
      gate.closeUnsafe()
      const put = (key: string) =>
        Effect.forkChild(kv.put(key, secret).pipe(Effect.withSpan(`caller of ${key}`), Effect.withTracer(tracer)), {
          startImmediately: true
        })
      const fibers = yield* Effect.forEach(["alone", "a", "b"], put)
      yield* gate.open
      yield* Fiber.joinAll(fibers)
      const [batch, ...others] = spans.filter(({ name }) => name.startsWith("BATCH"))
      assert.deepStrictEqual(others, [])
      assert.strictEqual(batch!.name, "BATCH put")
      assert.isTrue(Option.isNone(batch!.parent))
      assert.strictEqual(batch!.attributes.get("db.operation.batch.size"), 2)
      assert.strictEqual(batch!.attributes.get("db.system.name"), "test")
      const [alone, a, b] = named(spans, "put")
      assert.deepStrictEqual(batch!.links.map(({ span }) => span.spanId), [a!.spanId, b!.spanId])
      for (const caller of [a!, b!]) {
        assert.deepStrictEqual(caller.links.map(({ span }) => span.spanId), [batch!.spanId])
      }
      assert.deepStrictEqual(alone!.links, [])
      assert.strictEqual(batch!.status._tag, "Ended")
    }))
})

describe("the context of a batch", () => {
  it.effect("a batch is traced if any of its callers is, even if its first caller is background work", () =>
    Effect.gen(function*() {
      const { gate, make, spans, tracer } = yield* open
      const kv = yield* make(Batching.batched({ maxInFlight: 1 }))
      gate.closeUnsafe()
      const put = (key: string, isTraced: boolean) =>
        Effect.forkChild(
          kv.put(key, secret).pipe(
            Effect.provideService(References.TracerEnabled, isTraced),
            Effect.withTracer(tracer)
          ),
          { startImmediately: true }
        )
      const fibers = [yield* put("alone", true), yield* put("background", false), yield* put("a", true)]
      yield* gate.open
      yield* Fiber.joinAll(fibers)
      const [, a] = named(spans, "put")
      const [batch] = named(spans, "BATCH put")
      assert.isDefined(batch)
      assert.deepStrictEqual(batch!.links.map(({ span }) => span.spanId), [a!.spanId])
      assert.deepStrictEqual(a!.links.map(({ span }) => span.spanId), [batch!.spanId])
      assert.strictEqual(batch!.attributes.get("db.operation.batch.size"), 2)
    }))

  it.effect("a batch does not inherit what the spans of its first caller are annotated with", () =>
    Effect.gen(function*() {
      const { gate, make, spans, tracer } = yield* open
      const kv = yield* make(Batching.batched({ maxInFlight: 1 }))
      gate.closeUnsafe()
      const put = (key: string) =>
        Effect.forkChild(
          kv.put(key, secret).pipe(
            Effect.annotateSpans("user", key),
            Effect.linkSpans(Tracer.externalSpan({ spanId: "1".repeat(16), traceId: "2".repeat(32) })),
            Effect.withTracer(tracer)
          ),
          { startImmediately: true }
        )
      const fibers = yield* Effect.forEach(["alone", "ada", "bert"], put)
      yield* gate.open
      yield* Fiber.joinAll(fibers)
      const [batch] = named(spans, "BATCH put")
      assert.deepStrictEqual(named(spans, "put").map(({ attributes }) => attributes.get("user")), [
        "alone",
        "ada",
        "bert"
      ])
      assert.isFalse(batch!.attributes.has("user"))
      assert.strictEqual(batch!.links.length, 2)
    }))
})

describe("spans of locks", () => {
  it.effect("spans show the wait and the hold of a lock, with the work under it inside the hold", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = yield* make()
      const locked = (name: string) =>
        DistLock.withDistLock(Effect.andThen(Effect.sleep("2 seconds"), kv.put("k", secret)), "l").pipe(
          on(kv),
          Effect.withSpan(name),
          Effect.withTracer(tracer)
        )
      const fibers = yield* Effect.forEach(
        ["first", "second"],
        (name) => Effect.forkChild(locked(name), { startImmediately: true })
      )
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.joinAll(fibers)
      const [second] = named(spans, "second")
      const children = spans.filter((span) => parentOf(span)?.spanId === second!.spanId)
      // The release is a call of the caller, not of the work.
      assert.deepStrictEqual(namesOf(children), ["lock.wait", "lock.hold", "txn"])
      const [wait, hold] = children
      assert.strictEqual(millisOf(wait!), 2000)
      assert.strictEqual(millisOf(hold!), 2000)
      assert.strictEqual(wait!.attributes.get("effect_kv.outcome"), "acquired")
      assert.strictEqual(hold!.attributes.get("effect_kv.outcome"), "released")
      assert.strictEqual(hold!.attributes.get("effect_kv.lock.name"), "l")
      assert.match(String(hold!.attributes.get("effect_kv.token")), /^\d+$/)
      assert.strictEqual(hold!.attributes.get("effect_kv.token"), wait!.attributes.get("effect_kv.token"))
      const inHold = spans.filter((span) => parentOf(span)?.spanId === hold!.spanId)
      assert.deepStrictEqual(namesOf(inHold), ["txn"])
      assert.include(namesOf(spans.filter((span) => parentOf(span)?.spanId === wait!.spanId)), "watch")
      for (const span of spans) assert.notInclude(inspect(span, { depth: 10 }), secret)
    }))

  it.effect("spans show a lost lock as the failure of its hold", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = yield* make()
      const held = yield* Effect.forkChild(
        Effect.flip(DistLock.withDistLock(Effect.never, "l")).pipe(on(kv), Effect.withTracer(tracer)),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 second")
      yield* kv.deleteRange(KeyRange.prefix("l/"))
      yield* Fiber.join(held)
      const [hold] = named(spans, "lock.hold")
      assert.strictEqual(hold!.attributes.get("effect_kv.outcome"), "lost")
      assert.strictEqual(hold!.status._tag === "Ended" && hold!.status.exit._tag, "Failure")
    }))

  it.effect("spans show an acquisition that does not succeed", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = yield* make()
      yield* Effect.gen(function*() {
        yield* DistLock.acquire("l")
        yield* DistLock.tryAcquire("l")
        const late = yield* Effect.forkChild(Effect.flip(DistLock.acquire("l", { acquireTimeout: "1 second" })))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(late)
      }).pipe(Effect.scoped, on(kv), Effect.withTracer(tracer))
      const outcomes = named(spans, "lock.wait").map(({ attributes }) => attributes.get("effect_kv.outcome"))
      assert.deepStrictEqual(outcomes, ["acquired", "not acquired", "not acquired"])
      assert.deepStrictEqual(namesOf(spans).filter((name) => name === "lock.hold"), ["lock.hold"])
    }))

  it.effect("a key whose write may still be executed is removed in the background without spans", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      let isFirst = true
      const kv = yield* make((backend) => ({
        ...backend,
        execute: (op) => {
          if (op._tag !== "Txn" || !isFirst) return backend.execute(op)
          isFirst = false
          return Effect.andThen(
            backend.execute(op),
            KvError.fail(new KvError.Indeterminate({ message: "no response" }))
          )
        }
      }))
      const acquired = yield* Effect.exit(DistLock.withDistLock(Effect.void, "l")).pipe(
        on(kv),
        Effect.withSpan("caller"),
        Effect.withTracer(tracer)
      )
      assert.isFalse(isFirst)
      assert.strictEqual(acquired._tag, "Failure")
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(named(spans, "watch"), [])
    }))

  it.effect("leaderships and permits have spans of their own names", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = yield* make()
      yield* Effect.gen(function*() {
        yield* Election.campaign("e")
        const semaphore = yield* DistSemaphore.make("s", { permits: 2 })
        yield* semaphore.acquire(1)
      }).pipe(Effect.scoped, on(kv), Effect.withTracer(tracer))
      const names = namesOf(spans)
      for (const name of ["leadership.wait", "leadership.hold", "semaphore.wait", "semaphore.hold"]) {
        assert.include(names, name)
      }
      assert.strictEqual(named(spans, "semaphore.hold")[0]!.attributes.get("effect_kv.semaphore.name"), "s")
    }))
})

describe("spans of what is lost", () => {
  it.effect("spans show a lost leadership and lost permits as the failure of their hold", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = yield* make()
      const program = Effect.gen(function*() {
        const semaphore = yield* DistSemaphore.make("s", { permits: 2 })
        const lost = [Election.use("e", () => Effect.never), semaphore.withPermits(1)(Effect.never)]
        const fibers = yield* Effect.forEach(lost, (held) =>
          Effect.forkChild(Effect.flip(held), { startImmediately: true }))
        yield* TestClock.adjust("1 second")
        yield* kv.deleteRange(KeyRange.prefix("e/"))
        yield* kv.deleteRange(KeyRange.prefix("s/permits/"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.joinAll(fibers)
      })
      yield* program.pipe(Effect.scoped, on(kv), Effect.withTracer(tracer))
      for (const name of ["leadership.hold", "semaphore.hold"]) {
        const [hold, ...others] = named(spans, name)
        assert.deepStrictEqual(others, [])
        assert.strictEqual(hold!.attributes.get("effect_kv.outcome"), "lost", name)
        assert.strictEqual(hold!.status._tag === "Ended" && hold!.status.exit._tag, "Failure", name)
      }
    }))
})

describe("spans of slots and runs", () => {
  it.effect("spans show the wait and the hold of a slot, and none of the queue for it", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = yield* make()
      const work = Effect.andThen(Effect.sleep("2 seconds"), kv.put("k", secret))
      const fibers = yield* Effect.forEach(["first", "second"], (name) =>
        Effect.forkChild(
          Slot.use("numbers", () => work, { size: 1, acquireTimeout: "1 minute" }).pipe(
            on(kv),
            Effect.withSpan(name),
            Effect.withTracer(tracer)
          ),
          { startImmediately: true }
        ))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.joinAll(fibers)
      const [second] = named(spans, "second")
      const [wait, hold] = spans.filter((span) => parentOf(span)?.spanId === second!.spanId)
      assert.deepStrictEqual([wait!.name, hold!.name], ["slot.wait", "slot.hold"])
      assert.deepStrictEqual([millisOf(wait!), millisOf(hold!)], [2000, 2000])
      assert.strictEqual(wait!.attributes.get("effect_kv.outcome"), "acquired")
      assert.strictEqual(hold!.attributes.get("effect_kv.outcome"), "released")
      assert.strictEqual(hold!.attributes.get("effect_kv.slot.name"), "numbers")
      assert.match(String(hold!.attributes.get("effect_kv.token")), /^\d+$/)
      const inHold = spans.filter((span) => parentOf(span)?.spanId === hold!.spanId)
      assert.deepStrictEqual(namesOf(inHold), ["txn"])
      assert.deepStrictEqual(namesOf(spans).filter((name) => name.startsWith("lock.")), [])
      for (const span of spans) assert.notInclude(inspect(span, { depth: 10 }), secret)
    }))

  it.effect("spans show a slot that is lost, and one that is not acquired", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = yield* make()
      const use = Slot.use("numbers", () => Effect.never, { size: 1 }).pipe(on(kv), Effect.withTracer(tracer))
      const held = yield* Effect.forkChild(Effect.flip(use), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Effect.flip(use))._tag, "SlotsTaken")
      yield* kv.deleteRange(KeyRange.prefix("numbers/"))
      yield* Fiber.join(held)
      const outcomes = named(spans, "slot.wait").map(({ attributes }) => attributes.get("effect_kv.outcome"))
      assert.deepStrictEqual(outcomes, ["acquired", "not acquired"])
      const [hold, ...others] = named(spans, "slot.hold")
      assert.deepStrictEqual(others, [])
      assert.strictEqual(hold!.attributes.get("effect_kv.outcome"), "lost")
      assert.strictEqual(hold!.status._tag === "Ended" && hold!.status.exit._tag, "Failure")
    }))

  it.effect("spans show a run with the work inside, and its loss", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = yield* make()
      const traced = <A, E>(effect: Effect.Effect<A, E, Kv.Kv>) => effect.pipe(on(kv), Effect.withTracer(tracer))
      yield* traced(RunOnce.forKey("done", () => kv.put("k", secret)))
      const lost = yield* Effect.forkChild(traced(Effect.flip(RunOnce.forKey("lost", () => Effect.never))), {
        startImmediately: true
      })
      yield* TestClock.adjust("1 second")
      yield* kv.deleteRange(KeyRange.key("lost/once/run"))
      assert.strictEqual((yield* Fiber.join(lost))._tag, "LockLost")
      const holds = named(spans, "run.hold")
      assert.deepStrictEqual(
        holds.map(({ attributes }) => [attributes.get("effect_kv.run.name"), attributes.get("effect_kv.outcome")]),
        [["done", "released"], ["lost", "lost"]]
      )
      const inHold = spans.filter((span) => parentOf(span)?.spanId === holds[0]!.spanId)
      assert.deepStrictEqual(namesOf(inHold), ["txn"])
      assert.isTrue(holds.every(({ status }) => status._tag === "Ended"))
    }))
})

describe("spans of sessions", () => {
  it.effect("a span covers a session's life, and renewals and background watches make none", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const kv = yield* make()
      const session = yield* Effect.gen(function*() {
        yield* TempKey.make("kept")
        const lock = yield* DistLock.acquire("l")
        assert.isTrue(yield* lock.isHeld)
        const session = yield* Session.make()
        const before = spans.length
        yield* TestClock.adjust("10 minutes")
        assert.deepStrictEqual(namesOf(spans.slice(before)), [])
        return session
      }).pipe(Effect.scoped, on(kv), Effect.withTracer(tracer))
      yield* TestClock.adjust("2 seconds")
      const sessions = named(spans, "session")
      assert.strictEqual(sessions.length, 2)
      const own = sessions.find(({ attributes }) => attributes.get("effect_kv.lease") === session.lease.toString(16))
      assert.strictEqual(own!.attributes.get("effect_kv.outcome"), "closed")
      assert.isTrue(sessions.every(({ parent, status }) => Option.isNone(parent) && status._tag === "Ended"))
      assert.deepStrictEqual(namesOf(spans.filter((span) => parentOf(span)?.spanId === own!.spanId)), ["leaseGrant"])
    }))

  it.effect("a view that is read again in the background makes no spans in the trace that opened it", () =>
    Effect.gen(function*() {
      const { make, spans, tracer } = yield* open
      const compacted = Latch.makeUnsafe()
      let opened = 0
      const kv = yield* make((backend) => ({
        ...backend,
        watch: (request) =>
          Effect.map(backend.watch(request), (watcher) =>
            ++opened > 1 ? watcher : {
              ...watcher,
              take: Effect.andThen(
                compacted.await,
                KvError.fail(new KvError.Compacted({ compactRevision: Option.none() }))
              )
            })
      }))
      const view = yield* RangeView.make(KeyRange.all).pipe(on(kv), Effect.withSpan("opens"), Effect.withTracer(tracer))
      assert.sameMembers(namesOf(spans), ["opens", "watch", "range"])
      yield* compacted.open
      yield* kv.put("a", "1")
      yield* view.waitUntil(({ entries }) => entries.has("a"))
      assert.strictEqual(opened, 2)
      assert.strictEqual(spans.length, 3)
    }))

  it.effect("a lost session is the failure of its span", () =>
    Effect.gen(function*() {
      const { make, spans, store, tracer } = yield* open
      const kv = yield* make()
      const session = yield* Session.make().pipe(on(kv), Effect.withTracer(tracer))
      yield* (yield* store.connect).leaseRevoke(session.lease)
      yield* TestClock.adjust("4 seconds")
      const [span] = named(spans, "session")
      assert.strictEqual(span!.attributes.get("effect_kv.outcome"), "lost")
      assert.strictEqual(span!.status._tag === "Ended" && span!.status.exit._tag, "Failure")
    }))
})

const millisOf = ({ status }: Tracer.NativeSpan): number =>
  status._tag === "Ended" ? Number(status.endTime - status.startTime) / 1e6 : Number.NaN
