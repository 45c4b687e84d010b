/**
 * The demo of an election: three candidates, an observer, and a leader that is killed.
 */
import { Election, Kv, type KvError } from "@effect-kv/core"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { type Plug, pluggedInto } from "./Fibers.ts"
import * as Printer from "./Printer.ts"
import * as Store from "./Store.ts"

/** The election's name. */
const name = "scheduler"

const ttl = Duration.seconds(2)

export const run = Effect.fnUntraced(function*(names: ReadonlyArray<string>, namespace: string) {
  const print = yield* Printer.make([...names, "observer"], process.stdout.isTTY === true)
  yield* print.heading(`${names.length} candidates, on ${Store.describe}`)
  yield* print.line(`The first leader will be killed. A lease lasts ${Duration.format(ttl)}.\n`)
  const leaders = yield* observe(namespace, print)
  const vacantAtFirst = Option.isNone(yield* Queue.take(leaders))

  const candidates = new Map<string, Candidate>()
  for (const each of names) candidates.set(each, yield* start(each, namespace, print))

  const first = yield* nextLeader(leaders)
  yield* Effect.sleep("1 second")
  yield* candidates.get(first.value)!.kill
  const killedAt = yield* Clock.currentTimeMillis
  yield* print.event(first.value, "KILLED while it leads; the others wait for its lease to expire")
  const second = yield* nextLeader(leaders)
  const takeOver = (yield* Clock.currentTimeMillis) - killedAt
  yield* Effect.sleep("1 second")

  yield* print.line("\nThe others stop.\n")
  yield* Effect.forEach(candidates.values(), ({ stop }) => stop, { concurrency: "unbounded" })
  yield* untilVacant(leaders)

  yield* print.heading("Check")
  const checks = [
    yield* print.check("the observer saw that the election was vacant at first and at the end", vacantAtFirst),
    yield* print.check(`${second.value} took over ${takeOver} ms after the kill`, second.value !== first.value),
    yield* print.check(`its token ${second.token} is larger than ${first.token}`, second.token > first.token)
  ]
  if (checks.includes(false)) yield* Effect.fail(new Error("the check failed"))
}, Effect.scoped)

/** A candidate with a client of its own. */
interface Candidate {
  readonly kill: Effect.Effect<void>
  readonly stop: Effect.Effect<void>
}

const start = Effect.fnUntraced(function*(value: string, namespace: string, print: Printer.Printer) {
  const plug: Plug = { pulled: false }
  const say = (text: string) => Effect.suspend(() => plug.pulled ? Effect.void : print.event(value, text))
  yield* say("is a candidate")
  const work = ({ token }: Election.Leadership) =>
    Effect.andThen(say(`leads, with token ${token}`), Effect.never).pipe(Effect.ensuring(say("ends its work")))
  const fiber = yield* Election.singleton(name, work, { value, ttl }).pipe(
    Effect.provideServiceEffect(Kv.Kv, Effect.flatMap(Kv.Kv, (kv) => Kv.make(pluggedInto(plug)(backendOf(kv))))),
    Effect.scoped,
    Effect.provide(Store.layer(namespace), { local: true }),
    Effect.forkScoped
  )
  const candidate: Candidate = {
    // A fiber cannot be killed without running its finalizers, but it can be disconnected.
    kill: Effect.suspend(() => {
      plug.pulled = true
      return Effect.asVoid(Effect.forkDetach(Fiber.interrupt(fiber)))
    }),
    stop: Effect.suspend(() => plug.pulled ? Effect.void : Fiber.interrupt(fiber))
  }
  return candidate
})

type Leaders = Queue.Queue<Option.Option<Election.Candidate>, KvError.KvError>

/** Prints and queues what an observer sees. */
const observe = Effect.fnUntraced(function*(namespace: string, print: Printer.Printer) {
  const leaders: Leaders = yield* Queue.unbounded<Option.Option<Election.Candidate>, KvError.KvError>()
  yield* Election.observe(name).pipe(
    Stream.runForEach((leader) =>
      Effect.andThen(
        print.event(
          "observer",
          Option.match(leader, { onNone: () => "vacant", onSome: ({ value }) => `${value} leads` })
        ),
        Queue.offer(leaders, leader)
      )
    ),
    Effect.catch((error) => Queue.fail(leaders, error)),
    Effect.provide(Store.layer(namespace), { local: true }),
    Effect.forkScoped
  )
  return leaders
})

const nextLeader = (leaders: Leaders): Effect.Effect<Election.Candidate, KvError.KvError> =>
  Effect.flatMap(Queue.take(leaders), Option.match({ onNone: () => nextLeader(leaders), onSome: Effect.succeed }))

const untilVacant = (leaders: Leaders): Effect.Effect<void, KvError.KvError> =>
  Effect.flatMap(Queue.take(leaders), (leader) => Option.isNone(leader) ? Effect.void : untilVacant(leaders))
