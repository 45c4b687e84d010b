/**
 * Work with a `Counter`: participants come, add and go.
 */
import * as Counter from "@effect-kv/core/Counter"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { Addition } from "../Notes.ts"
import type { RecordedClient, Step } from "./Worker.ts"

/** The counter of a round. */
export const sumName = (prefix: string): string => `${prefix}sum/0`

/** Takes part in the counter and adds a few times. */
export const add: Step = (client, random) => {
  const amounts = Array.from({ length: random.int(1, 5) }, () => random.int(1, 9))
  const rests = random.int(0, 100)
  return adding(client, amounts, Effect.sleep(rests))
}

/** Takes part in the counter and adds the amounts. What is known of each is noted. */
export const adding = (client: RecordedClient, amounts: ReadonlyArray<number>, between: Effect.Effect<void>) =>
  Effect.scoped(Effect.gen(function*() {
    const counter = yield* Counter.make(sumName(client.prefix))
    yield* Effect.forEach(amounts, (amount) => Effect.andThen(noted(client, amount, counter.add(amount)), between))
  })).pipe(Effect.provideService(Kv.Kv, client.kv))

const noted = ({ notes }: RecordedClient, amount: number, adding: Effect.Effect<void, KvError.KvError>) =>
  Effect.suspend(() => {
    const addition: Addition = { amount, outcome: "Unknown" }
    notes.additions.push(addition)
    return Effect.onExit(adding, (exit) =>
      Effect.sync(() => {
        addition.outcome = Exit.isSuccess(exit) ? "Added" : isNotApplied(exit.cause) ? "NotAdded" : "Unknown"
      }))
  })

const isNotApplied = (cause: Cause.Cause<KvError.KvError>): boolean =>
  !Cause.hasInterrupts(cause) && Option.exists(Cause.findErrorOption(cause), ({ outcome }) => outcome === "NotApplied")
