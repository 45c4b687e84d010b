/**
 * Clients for tests: a `Kv` on the given endpoints, closed with the test's scope.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import type { EtcdClient } from "@effect-kv/etcd/EtcdClient"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

export const services = (
  options: EtcdLayer.Options
): Effect.Effect<Context.Context<Kv.Kv | EtcdClient>, KvError.KvError, Scope.Scope> =>
  Effect.suspend(() => Layer.build(EtcdLayer.layer(options)))

export const client = (options: EtcdLayer.Options): Effect.Effect<Kv.Kv, KvError.KvError, Scope.Scope> =>
  Effect.map(services(options), Context.get(Kv.Kv))

/** The reason with which an effect fails. */
export const reason = <A>(effect: Effect.Effect<A, KvError.KvError>): Effect.Effect<KvError.Reason, A> =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

/** How many milliseconds an effect took, and its result. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<readonly [number, A], E, R> =>
  Effect.map(Effect.timed(effect), ([duration, a]) => [Duration.toMillis(duration), a] as const)

/** The tag of the reason with which a call failed. `undefined` if it succeeded or ended otherwise. */
export const reasonOfExit = (exit: Exit.Exit<unknown, unknown>): KvError.Reason["_tag"] | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const [reason] = exit.cause.reasons
  return reason?._tag === "Fail" && KvError.isKvError(reason.error) ? reason.error.reason._tag : undefined
}
