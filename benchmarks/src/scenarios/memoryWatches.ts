/**
 * Watches in memory: a put with many watchers, against Effect's `PubSub`; and puts beside watches of other keys.
 */
import { KeyRange } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import { openMemory } from "../subjects/stores.ts"

const watchers = 100

/** One operation is the delivery of one event to one watcher. All watchers get it before the next put. */
export const fanOut: Scenario = {
  name: "memory-watch",
  run: Effect.fnUntraced(function*({ options }) {
    const kv = yield* openMemory
    const ours = new Roll()
    for (let i = 0; i < watchers; i++) {
      const { events } = yield* kv.subscribe(KeyRange.key("bench/watched"))
      yield* Effect.forkScoped(Stream.runForEach(events, () => ours.present))
    }
    const pubsub = yield* PubSub.unbounded<string>()
    const theirs = new Roll()
    for (let i = 0; i < watchers; i++) {
      const subscription = yield* PubSub.subscribe(pubsub)
      yield* Effect.forkScoped(Stream.runForEach(Stream.fromSubscription(subscription), () => theirs.present))
    }
    const delivered = (name: string, effect: () => Effect.Effect<unknown, unknown>) => ({
      name,
      round: Effect.map(Measure.closedLoop({ name, effect }, 1, options.millis), (round) => ({
        ...round,
        opsPerSecond: round.opsPerSecond * watchers,
        cpuMicrosPerOp: round.cpuMicrosPerOp / watchers
      }))
    })
    return yield* Measure.takeTurns("memory-watch", watchers, options.rounds + 1, [
      delivered("PubSub", () => theirs.call(PubSub.publish(pubsub, Calls.value))),
      delivered("effect-kv", () => ours.call(kv.put("bench/watched", Calls.value)))
    ])
  })
}

/** Waits until all watchers have acknowledged. */
class Roll {
  #missing = 0
  #resume = (): void => {}

  readonly present: Effect.Effect<void> = Effect.sync(() => {
    if (--this.#missing === 0) this.#resume()
  })

  call<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<void, E> {
    return Effect.suspend(() => {
      this.#missing = watchers
      return Effect.andThen(effect, this.#all)
    })
  }

  readonly #all: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.#missing === 0) resume(Effect.void)
    else this.#resume = () => resume(Effect.void)
  })
}

/** Puts that match none of the watches: half of them watch one key, half a prefix. */
export const idle: Scenario = {
  name: "memory-idle-watches",
  run: Effect.fnUntraced(function*({ options }) {
    const subjects = yield* Effect.forEach([0, 1000, 10_000], (watches) =>
      Effect.gen(function*() {
        const kv = yield* openMemory
        for (let i = 0; i < watches; i++) {
          yield* kv.subscribe(i % 2 === 0 ? KeyRange.key(`other/${i}`) : KeyRange.prefix(`elsewhere/${i}/`))
        }
        let next = 0
        return {
          name: `effect-kv, ${watches} watches`,
          effect: () => kv.put(`bench/${next++ % 1000}`, Calls.value)
        }
      }))
    return yield* Measure.alternate("memory-idle-watches", 1, subjects, { ...options, every: 100 })
  })
}
