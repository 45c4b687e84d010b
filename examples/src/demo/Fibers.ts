/**
 * Workers that run as fibers, each with its own client.
 */
import { Kv } from "@effect-kv/core"
import type { KvBackend } from "@effect-kv/core/backend"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import type { Fleet } from "./Fleet.ts"
import * as Store from "./Store.ts"
import * as Worker from "./Worker.ts"

export const make = Effect.fnUntraced(function*(names: ReadonlyArray<string>, namespace: string) {
  const messages = yield* Queue.unbounded<Worker.Message>()
  const scope = yield* Effect.scope
  const running = new Map<string, { readonly plug: Plug; readonly fiber: Fiber.Fiber<void> }>()

  const start = Effect.fnUntraced(function*(name: string) {
    const plug: Plug = { pulled: false }
    const send: Worker.Send = (message) => plug.pulled ? Effect.void : Effect.asVoid(Queue.offer(messages, message))
    const ended = Effect.flatMap(
      Clock.currentTimeMillis,
      (at) => Queue.offer(messages, { _tag: "Ended", worker: name, at })
    )
    const fiber = yield* Worker.run(name, names.length, send).pipe(
      Effect.scoped,
      Effect.provideServiceEffect(Kv.Kv, Effect.flatMap(Kv.Kv, (kv) => Kv.make(pluggedInto(plug)(backendOf(kv))))),
      Effect.provide(Store.layer(namespace), { local: true }),
      Effect.scoped,
      Effect.tapError((error) => Effect.logError(error.message)),
      Effect.ensuring(ended),
      Effect.exit,
      Effect.asVoid,
      Effect.forkIn(scope)
    )
    running.set(name, { plug, fiber })
  })

  const fleet: Fleet = {
    names,
    kind: "fibers, with a client each",
    start: Effect.forEach(names, start, { discard: true }),
    kill: (name) =>
      Effect.suspend(() => {
        const worker = running.get(name)
        if (worker === undefined) return Effect.void
        worker.plug.pulled = true
        return Effect.asVoid(Effect.forkIn(Fiber.interrupt(worker.fiber), scope))
      }),
    messages
  }
  return fleet
})

/**
 * A worker's connection to the store. A fiber cannot be killed without running its finalizers, but it can be
 * disconnected.
 */
export interface Plug {
  pulled: boolean
}

export const pluggedInto = (plug: Plug) => (backend: KvBackend.KvBackend): KvBackend.KvBackend => {
  const unlessPulled = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => plug.pulled ? Effect.never : effect)
  return {
    execute: (op) => unlessPulled(backend.execute(op)),
    watch: (request) =>
      Effect.map(unlessPulled(backend.watch(request)), (watcher) => ({
        ...watcher,
        take: unlessPulled(watcher.take)
      })),
    leaseGrant: (options) => unlessPulled(backend.leaseGrant(options)),
    leaseKeepAlive: (id) => unlessPulled(backend.leaseKeepAlive(id)),
    leaseRevoke: (id) => unlessPulled(backend.leaseRevoke(id)),
    leaseTimeToLive: (id, options) => unlessPulled(backend.leaseTimeToLive(id, options))
  }
}
