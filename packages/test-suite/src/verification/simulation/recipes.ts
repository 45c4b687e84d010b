/**
 * Work with the recipes that have no checker of their own: each client notes what it knows of its work, and in the end the
 * store must agree with the notes.
 */
import * as Barrier from "@effect-kv/core/Barrier"
import * as Counter from "@effect-kv/core/Counter"
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvCollection from "@effect-kv/core/KvCollection"
import type { KvError } from "@effect-kv/core/KvError"
import * as Latch from "@effect-kv/core/Latch"
import * as Members from "@effect-kv/core/Members"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Sequence from "@effect-kv/core/Sequence"
import * as Slot from "@effect-kv/core/Slot"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Change } from "../history/Changes.ts"
import type * as Recorder from "../history/Recorder.ts"
import { pause } from "./pause.ts"

/** How much was added to a count, and how much more may have been. */
interface Added {
  sure: number
  maybe: number
}

/** A number of the sequence, and when it was taken. */
interface TakenNumber {
  readonly value: bigint
  readonly began: bigint
  readonly ended: bigint
}

/** What the processes of a run know of their work. */
export interface Notes {
  readonly processes: number
  /** By the kind of work. */
  readonly added: Map<string, Added>
  readonly numbers: Array<TakenNumber>
  readonly dense: Array<bigint>
  /** The tokens of runs of steps whose function has begun. */
  readonly begun: Set<bigint>
  /** The steps that a call has done. */
  readonly done: Array<number>
  /** The processes that have begun to arrive at the latch, and those that have passed it. */
  readonly arriving: Set<string>
  readonly passed: Set<string>
  /** The rounds of the barrier that each process has passed. */
  readonly rounds: Map<string, Array<number>>
  readonly problems: Array<string>
}

export const notesOf = (processes: number): Notes => ({
  processes,
  added: new Map(),
  numbers: [],
  dense: [],
  begun: new Set(),
  done: [],
  arriving: new Set(),
  passed: new Set(),
  rounds: new Map(),
  problems: []
})

const steps = 3

/** The jobs of the steps that are done once. */
export const jobsOf = (prefix: string): ReadonlyArray<string> =>
  Array.from({ length: steps }, (_, step) => `${prefix}step/${step}`)

const User = Schema.Struct({ count: Schema.Int, mark: Schema.String })

/** Adds one to a count, and notes what is known of that. */
const noted = <A, E, R>(notes: Notes, what: string, adding: Effect.Effect<A, E, R>, amount = 1) =>
  Effect.onExit(adding, (exit) =>
    Effect.sync(() => {
      const added = notes.added.get(what) ?? { sure: 0, maybe: 0 }
      notes.added.set(what, added)
      if (Exit.isSuccess(exit)) added.sure += amount
      else if (!isNotApplied(exit)) added.maybe += amount
    }))

const isNotApplied = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) &&
  exit.cause.reasons.every((reason) =>
    reason._tag === "Fail" && typeof reason.error === "object" && reason.error !== null && "outcome" in reason.error &&
    reason.error.outcome === "NotApplied"
  )

/** The work of a process. */
export const work = Effect.fnUntraced(function*(
  recorder: Recorder.Recorder,
  name: string,
  backend: KvBackend,
  prefix: string,
  notes: Notes,
  { holds, recipes: times }: { readonly holds: number; readonly recipes: number }
) {
  const kv = yield* Kv.make(recorder.client(name)(backend))
  const ttl = "2 seconds"

  /** Adds one to a count that only its fence protects. Its value also has the token. */
  const increment = (what: string, token: bigint) =>
    Effect.gen(function*() {
      const key = `${prefix}${what}-count`
      const count = Number(Option.getOrElse(yield* kv.get(key), () => "0").split(" ")[0])
      yield* pause(0, holds)
      yield* noted(notes, what, kv.put(key, `${count + 1} ${token} ${yield* recorder.value(name)}`))
    })

  const repeatedly = (what: Effect.Effect<unknown, unknown, Kv.Kv>) =>
    Effect.repeat(Effect.andThen(Effect.ignore(what), pause(0, 100)), { times: times - 1 })

  const useSlot = Slot.use(`${prefix}slot`, ({ token }) => increment("slot", token), {
    size: 1,
    ttl,
    acquireTimeout: "20 seconds"
  })

  const singleton = Election.singleton(`${prefix}singleton`, ({ token }) => increment("singleton", token), {
    value: name,
    ttl,
    schedule: Schedule.spaced("50 millis")
  }).pipe(Effect.timeoutOption("2 seconds"))

  const count = Effect.scoped(Effect.gen(function*() {
    const counter = yield* Counter.make(`${prefix}counter`)
    for (let i = 0; i < 2; i++) {
      const amount = yield* Random.nextIntBetween(1, 9)
      yield* Effect.ignore(noted(notes, "counter", counter.add(amount), amount))
    }
  }))

  const takeNumbers = Effect.gen(function*() {
    const began = yield* Clock.monotonicTimeNanos
    const value = yield* Sequence.next(`${prefix}sequence`)
    notes.numbers.push({ value, began, ended: yield* Clock.monotonicTimeNanos })
    const dense = yield* Sequence.dense(`${prefix}sequence`, { block: yield* Random.nextIntBetween(1, 3) })
    for (let i = 0; i < 3; i++) notes.dense.push(yield* dense.next)
  })

  const updateUser = Effect.gen(function*() {
    const users = yield* KvCollection.make(`${prefix}users/`, { key: Schema.String, value: User })
    const mark = yield* recorder.value(name)
    yield* noted(
      notes,
      "users",
      users.update("ada", (user) => ({
        count: Option.match(user, { onNone: () => 0, onSome: ({ count }) => count }) + 1,
        mark
      }))
    )
  })

  const doSteps = Effect.forEach(
    jobsOf(prefix),
    (job, step) =>
      RunOnce.forKey(job, ({ token }) =>
        Effect.gen(function*() {
          notes.begun.add(token)
          yield* kv.put(`${prefix}result/${step}`, yield* recorder.value(name))
          yield* pause(0, holds)
          if ((yield* Random.nextIntBetween(0, 3)) === 0) yield* Effect.fail("the step fails")
        }), { ttl }).pipe(
          Effect.timeoutOption("20 seconds"),
          Effect.tap((result) =>
            Effect.sync(() => {
              if (Option.isSome(result) && Option.isSome(result.value)) notes.done.push(step)
            })
          ),
          Effect.ignore
        )
  )

  const rendezvous = Effect.gen(function*() {
    notes.arriving.add(name)
    const arrive = Latch.countDown(`${prefix}latch`, { id: name })
    yield* Effect.retry(arrive, { schedule: Schedule.spaced("200 millis") })
    yield* Latch.await(`${prefix}latch`, { count: notes.processes })
    if (notes.arriving.size < notes.processes) notes.problems.push(`${name} passed the latch before all had arrived`)
    notes.passed.add(name)
  })

  const meet = Effect.scoped(
    Barrier.enter(`${prefix}barrier`, { parties: notes.processes, id: name, onLate: "next", ttl })
  ).pipe(
    Effect.tap((round) =>
      Effect.sync(() => {
        const rounds = notes.rounds.get(name) ?? []
        notes.rounds.set(name, rounds)
        rounds.push(round)
      })
    ),
    Effect.timeoutOption("10 seconds")
  )

  const beMember = Effect.scoped(Effect.gen(function*() {
    const member = yield* Members.join(`${prefix}members`, { id: name, value: "0", schema: Schema.String, ttl })
    for (const value of ["1", "2"]) {
      yield* pause(0, 200)
      yield* Effect.timeoutOption(member.update(value), "5 seconds")
    }
  }))

  const all: ReadonlyArray<Effect.Effect<unknown, unknown, Kv.Kv>> = [
    repeatedly(useSlot),
    singleton,
    repeatedly(count),
    repeatedly(takeNumbers),
    repeatedly(updateUser),
    doSteps,
    rendezvous,
    repeatedly(meet),
    beMember
  ]
  // Not all of them in each run: fewer fibers meet each other in more ways.
  const chosen = yield* Effect.filter(
    all,
    (each) => Effect.map(Random.nextIntBetween(0, 1), (half) => half === 0 || each === rendezvous || each === all[7])
  )
  yield* Effect.forEach(chosen, (each) => Effect.ignore(each), { concurrency: "unbounded", discard: true }).pipe(
    Effect.provideService(Kv.Kv, kv)
  )
}, Effect.scoped)

/** What the store and the notes disagree about, once all faults have ended. */
export const check = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  prefix: string,
  notes: Notes
): Effect.fn.Return<ReadonlyArray<string>, KvError> {
  const countOf = (what: string) =>
    Effect.map(
      kv.get(`${prefix}${what}-count`),
      Option.match({ onNone: () => 0, onSome: (text) => Number(text.split(" ")[0]) })
    )
  const user = Option.getOrElse(yield* kv.get(`${prefix}users/ada`), () => `{"count":0}`)
  const counts = {
    slot: yield* countOf("slot"),
    singleton: yield* countOf("singleton"),
    counter: Number(yield* Effect.provideService(Counter.get(`${prefix}counter`), Kv.Kv, kv)),
    users: (JSON.parse(user) as { readonly count: number }).count
  }
  return [
    ...notes.problems,
    ...Object.entries(counts).flatMap(([what, count]) => {
      const { maybe, sure } = notes.added.get(what) ?? { sure: 0, maybe: 0 }
      return count >= sure && count <= sure + maybe
        ? []
        : [`the count of ${what} is ${count}; ${sure} was added, and the outcome of another ${maybe} is unknown`]
    }),
    ...twice("the number", notes.numbers.map(({ value }) => value)),
    ...twice("the dense number", notes.dense),
    ...backward(notes.numbers),
    ...twice("the step", notes.done.map(BigInt)),
    ...notes.passed.size === notes.arriving.size ? [] : ["a process did not pass the latch"],
    ...[...notes.rounds].flatMap(([name, rounds]) =>
      rounds.every((round, i) => i === 0 || round > rounds[i - 1]!)
        ? []
        : [`${name} passed the rounds ${rounds.join(", ")} of the barrier`]
    )
  ]
})

const twice = (what: string, values: ReadonlyArray<bigint>): ReadonlyArray<string> =>
  values.length === new Set(values).size ? [] : [`${what} ${values.find((v, i) => values.indexOf(v) < i)} came twice`]

/** A number is larger than those of all calls that had returned before its call began. */
const backward = (numbers: ReadonlyArray<TakenNumber>): ReadonlyArray<string> =>
  numbers.flatMap((number) =>
    numbers.some(({ ended, value }) => ended < number.began && value >= number.value)
      ? [`the number ${number.value} was given out after a larger one`]
      : []
  )

/** Writes under the slot, or as the singleton, whose token was not that of the holder, by the history of the store. */
export const staleWrites = (changes: ReadonlyArray<Change>, prefix: string): ReadonlyArray<string> => {
  const keys = new Map<string, bigint>()
  const isHolder = { slot: /^slot\/slots\/0$/, singleton: /^singleton\/[^/]+$/ } as const
  return changes.flatMap(({ createRevision, key, modRevision, type, valueBytes }) => {
    const name = key.slice(prefix.length)
    if (type === "delete") keys.delete(name)
    else keys.set(name, createRevision)
    const [, what] = /^(slot|singleton)-count$/.exec(name) ?? []
    if (what === undefined || type === "delete") return []
    const token = BigInt(new TextDecoder().decode(valueBytes).split(" ")[1]!)
    const tokens = [...keys].flatMap(([held, token]) =>
      isHolder[what as "slot" | "singleton"].test(held) ? [token] : []
    )
    // Of the candidates the oldest leads.
    return tokens.toSorted((a, b) => a < b ? -1 : 1)[0] === token
      ? []
      : [`the count of ${what} was written with token ${token} at revision ${modRevision}, which did not hold it`]
  })
}

/** Rounds of the barrier that opened before all processes were in it at one time, by the history of the store. */
export const wrongRounds = (changes: ReadonlyArray<Change>, prefix: string, parties: number): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const present = new Set<string>()
  let most = 0
  for (const { key, type, valueBytes } of changes) {
    if (key.startsWith(`${prefix}barrier/barrier/`) && key.includes("/p:")) {
      if (type === "put") present.add(key)
      else present.delete(key)
      most = Math.max(most, present.size)
    }
    if (key !== `${prefix}barrier/barrier/current` || type !== "put") continue
    const { broken, round } = JSON.parse(new TextDecoder().decode(valueBytes)) as {
      readonly round: number
      readonly broken?: string
    }
    if (broken === "" && most < parties) {
      wrong.push(`the round ${round - 1} of the barrier opened with ${most} processes`)
    }
    present.clear()
    most = 0
  }
  return wrong
}
