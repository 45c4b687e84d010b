/**
 * Work that is done once: the clients all do the same step, then the next.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as locks from "./locks.ts"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The key of a step. */
export const stepKey = (prefix: string, step: number): string => `${prefix}step/${step}`

/** The key of its record. */
export const recordOf = (key: string): string => `${key}/once/last`

/** The key of its run. */
export const runOf = (key: string): string => `${key}/once/run`

/** The key that a run writes. Its value is the token of the run and a unique part. */
export const resultOf = (key: string): string => key.replace("step/", "step-result/")

/** The token in that value. */
export const tokenOf = (value: string): bigint => BigInt(value.split(" ")[0]!)

/** A run that fails on purpose. */
export class StepFailed extends Data.TaggedError("StepFailed") {}

/** Does the current step, unless it is done. */
export const doStep: Step = (client, random) => {
  const fails = random.chance(0.2)
  const work = {
    hold: random.chance(0.1) ? random.int(200, 800) : random.int(0, 30),
    byService: random.chance(0.5),
    fails
  }
  const doing = doingStep(client, work)
  const givesUpAfter = random.chance(0.1) ? random.int(1, 400) : random.int(3000, 6000)
  return Effect.timeoutOption(doing, givesUpAfter)
}

/** What a run does. */
export interface Work {
  readonly hold: number
  readonly byService: boolean
  readonly fails: boolean
}

/** Does the current step. What the call returned is noted. */
export const doingStep = (client: RecordedClient, work: Work, at?: number) =>
  Effect.suspend(() => {
    const { counters, notes, prefix } = client
    const step = at ?? notes.steps.current
    const key = stepKey(prefix, step)
    return RunOnce.forKey(
      key,
      Effect.fnUntraced(function*({ token }) {
        notes.steps.begun.push(token)
        const kv = yield* Kv.Kv
        yield* Effect.sleep(work.hold)
        const value = `${token} ${yield* unique(client)}`
        yield* work.byService ? counters.save(resultOf(key), value) : kv.put(resultOf(key), value)
        if (work.fails) yield* new StepFailed()
      }),
      { ttl: locks.ttl, description: client.name }
    ).pipe(
      Effect.map((result) => {
        notes.steps.returned.push({ step, isOwn: Option.isSome(result) })
        notes.steps.current = Math.max(notes.steps.current, step + 1)
      }),
      Effect.catchTag("StepFailed", () => Effect.void),
      Effect.provideService(Kv.Kv, client.kv)
    )
  })
