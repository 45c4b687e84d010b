/**
 * Workers of a persisted queue: short lives in which they offer items and take some. Handlers fail, are interrupted, or take
 * longer than a session may be cut off.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { KvPersistedQueue } from "@effect-kv/persistence"
import * as Effect from "effect/Effect"
import { PersistedQueue } from "effect/persistence"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as locks from "./locks.ts"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The prefix of the queues of a round. */
export const queuesOf = (prefix: string): string => `${prefix}queues/`

/** The name of its queue. */
export const queueName = "0"

/** What a handler does. */
export interface Handling {
  /** How long it takes, in milliseconds, or what it waits for. */
  readonly hold: number | Effect.Effect<void>
  readonly ends: "succeeds" | "fails" | "interrupted"
}

/** The life of a worker. */
export interface Life {
  readonly offers: ReadonlyArray<{ readonly isCustomId: boolean; readonly delay: number }>
  /** What its takers do, each with one item after the other. */
  readonly takers: ReadonlyArray<ReadonlyArray<Handling>>
  /** How long it stays, in milliseconds. Then its takers are interrupted. */
  readonly stays: number
}

/** Lives as a worker. */
export const work: Step = (client, random) =>
  living(client, {
    offers: Array.from({ length: random.int(0, 3) }, () => ({
      isCustomId: random.chance(0.5),
      delay: random.chance(0.2) ? random.int(1, 1000) : 0
    })),
    takers: Array.from({ length: random.int(1, 3) }, () =>
      Array.from({ length: 4 }, () => ({
        hold: random.chance(0.1) ? random.int(500, 3000) : random.int(0, 50),
        ends: random.chance(0.7) ? "succeeds" : random.chance(0.5) ? "fails" : "interrupted"
      }))),
    stays: random.int(500, 3000)
  })

export const living = (client: RecordedClient, { offers, stays, takers }: Life) =>
  Effect.gen(function*() {
    const store = yield* KvPersistedQueue.makeStore({ prefix: queuesOf(client.prefix), ttl: locks.ttl })
    const factory = yield* Effect.provideService(PersistedQueue.makeFactory, PersistedQueue.PersistedQueueStore, store)
    const queue = yield* factory.make({
      name: queueName,
      schema: Schema.String,
      maxAttempts: 5,
      retrySchedule: Schedule.spaced("200 millis")
    })
    for (const { delay, isCustomId } of offers) {
      const value = yield* unique(client)
      yield* queue.offer(value, isCustomId ? { id: value, delay } : { delay })
    }
    const taking = Effect.forEach(
      takers,
      (handlings) => Effect.forEach(handlings, (handling) => Effect.exit(queue.take(() => handle(handling)))),
      { concurrency: "unbounded", discard: true }
    )
    yield* Effect.timeoutOption(taking, stays)
  }).pipe(
    Effect.scoped,
    Effect.catchTag("PersistedQueueError", ({ cause }) =>
      KvError.isKvError(cause) ? Effect.fail(cause) : Effect.die(cause)),
    Effect.catchTag("SchemaError", Effect.die),
    Effect.provideService(Kv.Kv, client.kv)
  )

const handle = ({ ends, hold }: Handling): Effect.Effect<void, string> =>
  Effect.andThen(
    typeof hold === "number" ? Effect.sleep(hold) : hold,
    ends === "succeeds" ? Effect.void : ends === "fails" ? Effect.fail("a handler that fails") : Effect.interrupt
  )
