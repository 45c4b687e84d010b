/**
 * Work with sequences: numbers that grow, and numbers without gaps but those of lost reservations.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as Sequence from "@effect-kv/core/Sequence"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { RecordedClient, Step } from "./Worker.ts"

/** The sequence of a round. */
export const sequenceName = (prefix: string): string => `${prefix}sequence/0`

/** The key whose revisions are the numbers. */
export const lastOf = (name: string): string => `${name}/sequence/last`

/** The key of the last dense number that was reserved. */
export const reservedOf = (name: string): string => `${name}/sequence/next`

const on = (client: RecordedClient) => Effect.provideService(Kv.Kv, client.kv)

/** Takes a number, or a few dense ones. */
export const take: Step = (client, random) =>
  random.chance(0.5) ? number(client) : dense(client, random.int(1, 5), random.int(1, 7))

/** Takes a number. It is noted with the time of the call. */
export const number = Effect.fnUntraced(function*(client: RecordedClient) {
  const began = yield* Clock.monotonicTimeNanos
  const value = yield* on(client)(Sequence.next(sequenceName(client.prefix)))
  client.notes.numbers.push({ value, began, ended: yield* Clock.monotonicTimeNanos })
})

/** Takes so many dense numbers of blocks, and notes them. */
export const dense = Effect.fnUntraced(function*(client: RecordedClient, block: number, times: number) {
  const sequence = yield* on(client)(Sequence.dense(sequenceName(client.prefix), { block }))
  for (let i = 0; i < times; i++) client.notes.denseNumbers.push(yield* sequence.next)
})
