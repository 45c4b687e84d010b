/**
 * One call on a link with a fault: out to the store, carried out, and back; within its deadline.
 *
 * What has left cannot be taken back. So a request goes on though its caller was interrupted or has run out of time, and is
 * carried out when it arrives: late, and unheard of by anyone.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as SendControl from "@effect-kv/core/SendControl"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { type Call, isWrite } from "../BackendCall.ts"
import type { Fault } from "./fault.ts"

/** What a call travels on. */
export interface Link {
  /** Waits until a request may leave at all. */
  readonly leave: Effect.Effect<void>
  /** What becomes of what is on its way, either way: it goes on, later perhaps, or is lost. */
  readonly cross: Effect.Effect<"through" | "lost">
  /** Waited for in vain, until a deadline; where it comes to an end, the connection is found broken. */
  readonly silence: Effect.Effect<void>
  /** The deadline of a call that does not say. */
  readonly deadline: Duration.Duration
  /** What has left lives as long as this. */
  readonly scope: Scope.Scope
}

/** What became of a request. `Broken`: the connection broke, of which the caller hears. `Silence`: it hears nothing. */
type Fate<A> = Exit.Exit<A, KvError.KvError> | "Broken" | "Silence"

/** Makes the call, with this fault in its way. */
export const make = <A, R>(
  call: Call,
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link
): Effect.Effect<A, KvError.KvError, R> =>
  withDeadline(
    link,
    (isOnItsWay) =>
      isWrite(call) || call.kind === "leaseKeepAlive"
        ? sendAndAwait(call, effect, fault, link, isOnItsWay)
        : readUntilAnswered(effect, fault, link, isOnItsWay),
    (wasSent) => wasSent && isWrite(call) ? indeterminate("it was not answered in time") : noAnswer(wasSent)
  )

/** The opening of a watch, which is a read that is closed with its scope. */
export const open = <A, R>(
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link
): Effect.Effect<A, KvError.KvError, R> =>
  withDeadline(link, (isOnItsWay) => readUntilAnswered(effect, fault, link, isOnItsWay), noAnswer)

const withDeadline = <A, R>(
  link: Link,
  attempt: (isOnItsWay: Effect.Effect<void, KvError.KvError>) => Effect.Effect<A, KvError.KvError, R>,
  atDeadline: (wasSent: boolean) => KvError.KvError
): Effect.Effect<A, KvError.KvError, R> =>
  Effect.withFiber((fiber) => {
    const sendControl = fiber.getRef(SendControl.Current)
    let wasSent = false
    sendControl?.track(() => wasSent)
    const isOnItsWay = Effect.suspend(() => {
      if (sendControl?.isCancelled() === true) return Effect.fail(calledOff)
      wasSent = true
      return Effect.void
    })
    return Effect.timeoutOrElse(Effect.andThen(link.leave, attempt(isOnItsWay)), {
      duration: fiber.getRef(Deadline.Deadline) ?? link.deadline,
      orElse: () => Effect.fail(atDeadline(wasSent))
    })
  })

/** There and back. Whatever ends it, it ends as a fate. */
const travel = <A, R>(
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link
): Effect.Effect<Fate<A>, never, R> =>
  Effect.gen(function*() {
    if (fault.onRequest !== undefined) yield* fault.onRequest
    if ((yield* link.cross) === "lost") return "Silence"
    if (fault.lose === "request") return unheard(fault)
    const exit = yield* Effect.exit(effect)
    if (fault.onAnswer !== undefined) yield* fault.onAnswer
    if ((yield* link.cross) === "lost") return "Silence"
    return fault.lose === "answer" ? unheard(fault) : exit
  })

const unheard = (fault: Fault): "Broken" | "Silence" => fault.isSilent === true ? "Silence" : "Broken"

/** A request that changes something: sent once, and on its way whatever becomes of who sent it. */
const sendAndAwait = <A, R>(
  call: Call,
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link,
  isOnItsWay: Effect.Effect<void, KvError.KvError>
): Effect.Effect<A, KvError.KvError, R> =>
  Effect.gen(function*() {
    if (fault.isRefused === true) return yield* Effect.fail(refused)
    if (link.scope.state._tag === "Closed") return yield* effect
    yield* isOnItsWay
    const request = yield* Effect.forkIn(travel(effect, fault, link), link.scope, { startImmediately: true })
    const fate = fault.isBrokenAtOnce === true ? "Broken" : yield* fateOf(call, request)
    if (fate === "Silence") yield* link.silence
    else if (fate !== "Broken") return yield* fate
    return isWrite(call)
      ? yield* Effect.fail(indeterminate("the connection broke"))
      // A renewal is repeated, as a read is.
      : yield* sendAndAwait(call, effect, none, link, isOnItsWay)
  })

/** Interrupted it can only have been by the end of the client. */
const fateOf = <A>(call: Call, request: Fiber.Fiber<Fate<A>>): Effect.Effect<Fate<A>, KvError.KvError> =>
  Effect.flatMap(Fiber.await(request), (exit) => {
    if (Exit.isSuccess(exit)) return Effect.succeed(exit.value)
    return Effect.fail(isWrite(call) ? indeterminate("the client was closed") : closed)
  })

/** A request that only reads: repeated where its connection broke, and given up when its caller is. */
const readUntilAnswered = <A, R>(
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link,
  isOnItsWay: Effect.Effect<void, KvError.KvError>
): Effect.Effect<A, KvError.KvError, R> =>
  Effect.gen(function*() {
    if (fault.isRefused === true) return yield* Effect.fail(refused)
    yield* isOnItsWay
    const fate = fault.isBrokenAtOnce === true ? "Broken" : yield* travel(effect, fault, link)
    if (fate === "Silence") yield* link.silence
    else if (fate !== "Broken") return yield* fate
    return yield* readUntilAnswered(effect, none, link, isOnItsWay)
  })

const none: Fault = { description: "none" }

const refused = KvError.make(new KvError.Unavailable({ message: "the store is out of reach, says the test" }))

const calledOff = KvError.make(new KvError.Unavailable({ message: "it was given up before it was sent" }))

const closed = KvError.make(new KvError.Closed({ message: "the client was closed" }))

const indeterminate = (how: string): KvError.KvError =>
  KvError.make(new KvError.Indeterminate({ message: `a write was sent, and ${how}, says the test` }))

const noAnswer = (wasSent: boolean): KvError.KvError =>
  KvError.make(
    wasSent
      ? new KvError.DeadlineExceeded({ message: "there was no answer in time, says the test" })
      : new KvError.Unavailable({ message: "the store was out of reach until the deadline, says the test" })
  )
