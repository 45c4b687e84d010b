/**
 * The demo of a semaphore: five workers with clients of their own share three permits, and one is killed while it holds
 * two.
 */
import { type DistLock, DistSemaphore, KeyRange, Kv } from "@effect-kv/core"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { type Plug, pluggedInto } from "./Fibers.ts"
import * as Printer from "./Printer.ts"
import * as Store from "./Store.ts"

const name = "imports"

const permits = 3

const ttl = Duration.seconds(2)

/** What the workers do, as the demo sees it. */
interface Tally {
  used: number
  most: number
  /** How many permits each of them holds, in the order in which they were admitted. */
  readonly order: Array<number>
  readonly admitted: Set<string>
  afterKill: number | undefined
}

export const run = Effect.fnUntraced(function*(names: ReadonlyArray<string>, namespace: string) {
  const print = yield* Printer.make(names, process.stdout.isTTY === true)
  yield* print.heading(`${names.length} workers share ${permits} permits, on ${Store.describe}`)
  yield* print.line(`The first holds two of them and will be killed. A lease lasts ${Duration.format(ttl)}.\n`)
  const tally: Tally = { used: 0, most: 0, order: [], admitted: new Set(), afterKill: undefined }
  const plug: Plug = { pulled: false }
  const [first = "", ...others] = names

  const holds = yield* Deferred.make<void>()
  const killed = yield* work(first, 2, Effect.andThen(Deferred.succeed(holds, undefined), Effect.never)).pipe(
    on(namespace, plug),
    Effect.forkScoped
  )
  yield* Deferred.await(holds)
  const workers = yield* Effect.forEach(others, (each, i) =>
    Effect.andThen(
      Effect.sleep("100 millis"),
      Effect.forkScoped(
        work(each, i === 1 ? 3 : 1, Effect.sleep("300 millis")).pipe(on(namespace, { pulled: false }))
      )
    ).pipe(Effect.tap(hasCome(each).pipe(on(namespace, { pulled: false })))))
  yield* Effect.sleep("300 millis")
  plug.pulled = true
  const killedAt = yield* Clock.currentTimeMillis
  yield* print.event(first, "KILLED while it holds 2; the others wait for its lease to expire")
  yield* Effect.forkDetach(Fiber.interrupt(killed))
  yield* Effect.forEach(workers, Fiber.join)
  // The number of permits stays in the store.
  yield* Kv.deleteRange(KeyRange.all).pipe(Effect.provide(Store.layer(namespace), { local: true }))

  yield* print.heading("Check")
  const after = (tally.afterKill ?? 0) - killedAt
  const checks = [
    yield* print.check(`never more than ${permits} permits were used, and once all`, tally.most === permits),
    yield* print.check(
      "none of those who wanted 1 overtook the one who had wanted 3 before",
      tally.order.join() === "2,1,3,1,1"
    ),
    yield* print.check(`the permits of the dead returned ${after} ms after the kill`, after > 0)
  ]
  if (checks.includes(false)) yield* Effect.fail(new Error("the check failed"))

  /** The next one comes when this one has its place in the queue, however long that takes. */
  function hasCome(worker: string) {
    return Effect.gen(function*() {
      const { holders, waiters } = yield* DistSemaphore.make(name, { permits })
      yield* Effect.repeat(Effect.all([holders, waiters]), {
        until: (all) => tally.admitted.has(worker) || all.flat().some(({ description }) => description === worker),
        schedule: Schedule.spaced("10 millis")
      })
    })
  }

  function work(worker: string, weight: number, body: Effect.Effect<void>) {
    const holding = ({ token }: DistLock.Lock) =>
      Effect.acquireUseRelease(
        Effect.gen(function*() {
          tally.used += weight
          tally.most = Math.max(tally.most, tally.used)
          tally.order.push(weight)
          tally.admitted.add(worker)
          if (weight === permits) tally.afterKill = yield* Clock.currentTimeMillis
          yield* print.event(worker, `holds ${weight}, with token ${token}`)
        }),
        () => body,
        () =>
          Effect.suspend(() => {
            tally.used -= weight
            return worker === first ? Effect.void : print.event(worker, "is done")
          })
      )
    return Effect.gen(function*() {
      const semaphore = yield* DistSemaphore.make(name, { permits })
      yield* print.event(worker, `wants ${weight}`)
      yield* semaphore.use(weight, holding, { ttl, description: worker })
    })
  }
}, Effect.scoped)

/** Runs a worker with a client of its own. */
const on = (namespace: string, plug: Plug) => <A, E>(effect: Effect.Effect<A, E, Kv.Kv>) =>
  effect.pipe(
    Effect.provideServiceEffect(Kv.Kv, Effect.flatMap(Kv.Kv, (kv) => Kv.make(pluggedInto(plug)(backendOf(kv))))),
    Effect.scoped,
    Effect.provide(Store.layer(namespace), { local: true })
  )
