/**
 * The six functions of the Postgres backend.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Namespace from "@effect-kv/core/Namespace"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Connection } from "./connection.ts"
import { execute } from "./execute.ts"
import * as leases from "./leases.ts"
import * as realTime from "./realTime.ts"
import type { Replica } from "./replica.ts"
import * as sweeper from "./sweeper.ts"
import * as watches from "./watch/watches.ts"
import * as watchMetrics from "./watch/watchMetrics.ts"

export const make = Effect.fnUntraced(function*(
  to: Connection,
  replica: Replica | undefined
): Effect.fn.Return<KvBackend, never, Scope.Scope> {
  const sweeping = yield* sweeper.make(to, ({ revision }) => watching.feed.noticed(revision))
  const run = Effect.runForkWith(Context.add(yield* realTime.context, Deadline.Deadline, to.backgroundDeadline))
  const watching: watches.Watches = watches.make(to, run, sweeping.wake)
  if (to.settings.meter !== undefined) yield* watchMetrics.observe(to.settings.meter, watching.feed)
  const { leaseGrant, ...others } = leases.make(to)
  const fiber = yield* Effect.acquireRelease(
    Effect.sync(() => run(sweeping.run)),
    (fiber) => Effect.sync(() => fiber.interruptUnsafe())
  )
  void fiber
  const backend: KvBackend = {
    execute: (op) => execute(to, replica, op),
    watch: watching.open,
    leaseGrant: (options) => Effect.tap(leaseGrant(options), () => Effect.sync(sweeping.wake)),
    ...others
  }
  return to.settings.prefix === "" ? backend : Namespace.prefixed(to.settings.prefix)(backend)
})
