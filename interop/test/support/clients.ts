/**
 * The two sides of a test: a client of ours, and Go's client in a process of its own, on the server that the file shares.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import type { EtcdClient } from "@effect-kv/etcd/EtcdClient"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as GoClient from "@effect-kv/interop/GoClient"
import * as GoProgram from "@effect-kv/interop/GoProgram"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"

// The fixtures of the test suite, named in one place.
export { EtcdCluster, TcpProxy }

/** A server for the tests of a file. */
export const server = EtcdCluster.layer()

export const endpoints = Effect.map(EtcdCluster.EtcdCluster, ({ endpoints }) => endpoints)

/** The services of a client of ours; closed with the scope. */
export const services = Effect.fnUntraced(function*(options?: Partial<EtcdLayer.Options>) {
  const context: Context.Context<Kv.Kv | EtcdClient> = yield* Layer.build(
    EtcdLayer.layer({ endpoints: yield* endpoints, ...options })
  )
  return context
})

/** A client of ours; closed with the scope. */
export const ours = (options?: Partial<EtcdLayer.Options>) => Effect.map(services(options), Context.get(Kv.Kv))

/** Go's client in a new process; killed with the scope. */
export const go = Effect.fnUntraced(function*(options?: Partial<GoClient.Options>) {
  return yield* GoClient.open(yield* GoProgram.start, { endpoints: yield* endpoints, ...options })
})

/** Runs an effect on a client of ours. */
export const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

/** Waits for a condition, for at most 20 seconds. */
export const until = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep("5 millis")
  }).pipe(
    Effect.timeoutOrElse({ duration: "20 seconds", orElse: () => Effect.die(new Error(`did not happen: ${what}`)) })
  )

/** Waits until so many contenders wait for a lock. */
export const waiting = (kv: Kv.Kv, name: string, count: number) =>
  until(
    `${count} contenders wait for ${name}`,
    Effect.map(on(kv)(DistLock.waiters(name)), (waiters) => waiters.length === count)
  )

/** Whether a fiber is still running, after the other side had the time of a few round trips to end it wrongly. */
export const stillRuns = <A, E>(kv: Kv.Kv, fiber: Fiber.Fiber<A, E>) =>
  Effect.map(Effect.replicateEffect(kv.put("round trip", ""), 20), () => fiber.pollUnsafe() === undefined)
