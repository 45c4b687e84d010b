/**
 * The endpoints of a client while they change: their channels, and what happens to those of a removed endpoint.
 *
 * A removed endpoint takes no more calls. Calls in flight to it end normally, its watches move to another endpoint, and
 * its connections close.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import type { Settings } from "../settings.ts"
import * as channels from "./channels.ts"
import * as endpoints from "./endpoints.ts"
import * as errors from "./errors.ts"
import { now } from "./now.ts"
import type { RequestMetrics } from "./requestMetrics.ts"

export interface Cluster {
  readonly endpoints: endpoints.Endpoints
  /** The addresses of the current endpoints. */
  readonly addresses: () => ReadonlyArray<string>
  /** Replaces the endpoints. The list is not empty, and each address is in it once. */
  readonly replace: (addresses: ReadonlyArray<string>) => Effect.Effect<void>
  /** Calls the listener after endpoints were removed. Returns a function that removes the listener. */
  readonly onRemoved: (listener: () => void) => () => void
}

/** Opens the channels to the first endpoints. They connect on first use. `onFailed` is called when one goes down. */
export const make = Effect.fnUntraced(
  function*(
    settings: Settings,
    onFailed: () => void,
    metrics?: RequestMetrics
  ): Effect.fn.Return<Cluster, never, Scope.Scope> {
    const scope = yield* Effect.scope
    const context = yield* Effect.context<never>()
    const listeners = new Set<() => void>()
    const scopes = new Map<endpoints.Endpoint, Scope.Closeable>()

    const open = Effect.fnUntraced(function*(address: string) {
      const own = yield* Scope.fork(scope)
      const opened = yield* Scope.provide(
        channels.open(address, settings, {
          onSilent: () => cluster.failed(endpoint, now(), errors.unresponsive),
          onReplaced: () => cluster.succeeded(endpoint, now())
        }),
        own
      )
      const endpoint = endpoints.endpoint(address, opened)
      scopes.set(endpoint, own)
      const remove = metrics?.endpoint(address, () => isUp(endpoint))
      if (remove !== undefined) yield* Scope.addFinalizer(own, Effect.sync(() => remove(endpoint.isRemoved)))
      return endpoint
    })

    /** Closes the channels once their calls have ended. */
    const close = (endpoint: endpoints.Endpoint): Effect.Effect<void> => {
      const own = scopes.get(endpoint)!
      scopes.delete(endpoint)
      const { calls, watches, wholeWatches } = endpoint.channels
      const drained = Effect.forEach([calls, watches, wholeWatches], (channel) => channel.drain, {
        concurrency: "unbounded",
        discard: true
      })
      return Effect.andThen(drained, Scope.close(own, Exit.void))
    }

    const first = yield* Effect.forEach(settings.endpoints, open)
    // The first endpoint is random, so that clients spread over all endpoints.
    const cluster = endpoints.make(first, yield* Random.nextIntBetween(0, first.length - 1), (endpoint, reason) => {
      Effect.runForkWith(context)(logChange(endpoint, reason))
      if (reason !== undefined) onFailed()
    })
    return {
      endpoints: cluster,
      addresses: () => cluster.all().map(({ address }) => address),
      onRemoved: (listener) => {
        listeners.add(listener)
        return () => listeners.delete(listener)
      },
      replace: (addresses) =>
        Effect.uninterruptible(Effect.gen(function*() {
          const before = cluster.all()
          const all = yield* Effect.forEach(addresses, (address) => {
            const current = cluster.at(address)
            return current === undefined ? open(address) : Effect.succeed(current)
          })
          const removed = before.filter((endpoint) => !all.includes(endpoint))
          if (removed.length === 0 && all.length === before.length) return
          cluster.replace(all, yield* Random.nextIntBetween(0, all.length - 1))
          yield* logEndpoints(addresses)
          if (removed.length > 0) { for (const listener of Array.from(listeners)) listener() }
          yield* Effect.forEach(removed, (endpoint) => Effect.forkIn(close(endpoint), scope), { discard: true })
        }))
    }
  }
)

/**
 * Whether an endpoint has responded since its last failure, or is connected again after its suspension. An endpoint that
 * another one has replaced may get no more calls, so the question itself connects to it, and the next answer is right.
 */
const isUp = ({ channels: { calls }, failures, suspendedUntil }: endpoints.Endpoint): boolean => {
  if (failures === 0) return true
  if (suspendedUntil > now()) return false
  return calls.isSettled() && calls.state() === "Ready"
}

const logChange = ({ address }: endpoints.Endpoint, reason: string | undefined): Effect.Effect<void> =>
  reason === undefined
    ? Effect.annotateLogs(Effect.logWarning("effect-kv: an endpoint responds again"), { endpoint: address })
    : Effect.annotateLogs(Effect.logWarning("effect-kv: an endpoint is down"), { endpoint: address, reason })

const logEndpoints = (addresses: ReadonlyArray<string>): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logInfo("effect-kv: the endpoints have changed"), { endpoints: addresses.join(",") })
