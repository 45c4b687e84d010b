/**
 * Entities whose state is in the store: counters that say which runner has incremented them, and under which lock.
 */
import { KvEntity } from "@effect-kv/cluster"
import type { Fence } from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import { Entity } from "effect/cluster"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Rpc } from "effect/rpc"
import * as Schema from "effect/Schema"

/** The state of a counter. */
export const State = Schema.fromJsonString(Schema.Struct({
  count: Schema.Int,
  runner: Schema.String,
  shard: Schema.String,
  /** The create revision of the lock under which it was written. */
  token: Schema.String
}))

export type State = typeof State.Type

const tokenOf = ({ conditions: [condition] }: Fence): string =>
  condition?.target === "CreateRevision" ? `${condition.value}` : "0"

/** Counters of a type. Without the fence, the store accepts what a runner writes that has lost the shard. */
export const make = <const Type extends string>(type: Type, { isFenced }: { readonly isFenced: boolean }) => {
  const entity = Entity.make(type, [
    Rpc.make("Increment", { success: Schema.Int }),
    /** Waits before it writes, like work that takes a while. Says how the write ended. */
    Rpc.make("IncrementLater", { payload: { millis: Schema.Int }, success: Schema.String })
  ])
  const keyOf = (id: string): string => `${type}/${id}`
  const layer = entity.toLayer(
    Effect.gen(function*() {
      const kv = isFenced ? yield* KvEntity.kv : yield* Kv.Kv
      const token = tokenOf(yield* KvEntity.fence)
      const { host, port } = yield* Entity.CurrentRunnerAddress
      const { entityId, shardId } = yield* Entity.CurrentAddress
      const increment = kv.modify(keyOf(entityId), (text) => {
        const count = Option.match(Option.flatMap(text, Schema.decodeOption(State)), {
          onNone: () => 1,
          onSome: ({ count }) => count + 1
        })
        return Schema.encodeSync(State)({ count, runner: `${host}:${port}`, shard: shardId.toString(), token })
      }).pipe(Effect.map((text) => Schema.decodeSync(State)(text).count))
      return entity.of({
        Increment: () => Effect.orDie(increment),
        IncrementLater: ({ payload: { millis } }) =>
          Effect.delay(increment, Duration.millis(millis)).pipe(
            Effect.match({ onFailure: (error) => error.reason._tag, onSuccess: () => "written" })
          )
      })
    }),
    // A rejected write is a defect of its call alone. Otherwise it would restart the entity, and the calls of an entity that
    // has lost its shard already would get no response.
    { maxIdleTime: "1 hour", concurrency: "unbounded", disableFatalDefects: true }
  )
  return {
    layer,
    keyOf,
    increment: (id: string) => Effect.flatMap(entity.client, (client) => client(id).Increment()),
    incrementLater: (id: string, millis: number) =>
      Effect.flatMap(entity.client, (client) => client(id).IncrementLater({ millis })),
    stateOf: (kv: Kv.Kv, id: string) => Effect.map(kv.get(keyOf(id)), Option.flatMap(Schema.decodeOption(State)))
  }
}

export const fenced = make("Counter", { isFenced: true })

export const unfenced = make("UnfencedCounter", { isFenced: false })
