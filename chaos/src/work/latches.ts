/**
 * Work with a latch: participants arrive, an operator opens and resets it, and others wait for it.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as Latch from "@effect-kv/core/Latch"
import type { History } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as revisions from "./revisions.ts"
import type { RecordedClient, Step } from "./Worker.ts"

/** The latch of a round. */
export const latchName = (prefix: string): string => `${prefix}latch/0`

/** The latch that is opened and reset at the end of a round, in calm. */
export const lastLatchName = (prefix: string): string => `${prefix}latch/last`

/** The key of a latch's record. */
export const recordOf = (name: string): string => `${name}/latch/current`

/** The round and the participant of a key, if it is a participant's. */
export const arrivalOf = (name: string, key: string): { readonly round: number; readonly id: string } | undefined => {
  const match = key.startsWith(`${name}/latch/`) ? /^(\d+)\/p:(.+)$/.exec(key.slice(`${name}/latch/`.length)) : null
  return match === null ? undefined : { round: Number(match[1]), id: match[2]! }
}

/** How many must arrive. */
export const count = 3

const on = (client: RecordedClient) => Effect.provideService(Kv.Kv, client.kv)

/** Waits, arrives as one of a few participants, opens or resets. */
export const useLatch: Step = (client, random) => {
  const name = latchName(client.prefix)
  const choice = random.next()
  if (choice < 0.5) return waiting(client, random.int(50, 3000))
  if (choice < 0.85) return on(client)(Latch.countDown(name, { id: `host/${random.int(1, count)}` }))
  return on(client)(choice < 0.9 ? Latch.open(name) : Latch.reset(name))
}

/** Waits for at most so long. A pass is noted with the revisions before and after it. */
export const waiting = Effect.fnUntraced(function*(client: RecordedClient, millis: number) {
  const from = yield* revisions.now(client)
  const passed = yield* Effect.timeoutOption(on(client)(Latch.await(latchName(client.prefix), { count })), millis)
  if (passed._tag === "Some") {
    client.notes.latchPasses.push({ client: client.name, from, to: yield* revisions.now(client) })
  }
})

/** Waits for the last latch, which is opened once. Notes that it passed. */
export const lastWait = Effect.fnUntraced(function*(client: RecordedClient) {
  yield* on(client)(Latch.await(lastLatchName(client.prefix), { count }))
  client.notes.releasedLast.push(client.name)
})

/** Whether a client has read the last latch, and so waits for it. */
export const isLastWaiting = ({ calls }: History.History, { name, prefix }: RecordedClient): boolean =>
  calls.some(({ client, outcome, request }) =>
    client === name && outcome._tag === "Responded" && request._tag === "Execute" && request.op._tag === "Range" &&
    request.op.range._tag === "Prefix" && request.op.range.from === `${lastLatchName(prefix)}/latch/`
  )

/** Lets enough participants arrive at the last latch, and resets it at once. */
export const openLast = Effect.fnUntraced(function*(client: RecordedClient) {
  const name = lastLatchName(client.prefix)
  const settled = { schedule: Schedule.spaced("200 millis"), times: 50 }
  for (let i = 0; i < count; i++) {
    yield* Effect.retry(on(client)(Latch.countDown(name, { id: `${i}` })), settled)
  }
  yield* Effect.retry(on(client)(Latch.reset(name)), settled)
})
