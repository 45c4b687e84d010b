/**
 * A call over a faulty link: its request, its execution and its response, within its deadline.
 *
 * A request that was sent cannot be taken back. It continues even if its caller was interrupted or its deadline has passed,
 * and is executed when it arrives.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as LastFailure from "@effect-kv/core/LastFailure"
import * as SendControl from "@effect-kv/core/SendControl"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { type Call, isWrite } from "../BackendCall.ts"
import type { Fault } from "./fault.ts"

/** The link of a call. */
export interface Link {
  /** Waits until a request can be sent. */
  readonly leave: Effect.Effect<void>
  /** Whether a request or response gets through the link, perhaps later, or is lost. */
  readonly cross: Effect.Effect<"through" | "lost">
  /** Waited for after a silent loss. If it ends before the deadline, the connection is broken. */
  readonly silence: Effect.Effect<void>
  /** The deadline of a call without one. */
  readonly deadline: Duration.Duration
  /** The scope of requests that were sent. */
  readonly scope: Scope.Scope
}

/** The outcome of a request. `Broken`: the connection broke, which the caller notices. `Silence`: it notices nothing. */
type Arrival<A> = Exit.Exit<A, KvError.KvError> | "Broken" | "Silence"

/** Makes a call with this fault. */
export const make = <A, R>(
  call: Call,
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link
): Effect.Effect<A, KvError.KvError, R> =>
  withDeadline(
    link,
    (markSent) =>
      isWrite(call) || call.kind === "leaseKeepAlive"
        ? sendAndAwait(call, effect, fault, link, markSent)
        : readUntilResponse(effect, fault, link, markSent),
    (wasSent) =>
      wasSent && isWrite(call) ? indeterminate("there was no response before the deadline") : noResponse(wasSent)
  )

/** Opens a watch with this fault. The opening is a read whose result is closed with its scope. */
export const open = <A, R>(
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link
): Effect.Effect<A, KvError.KvError, R> =>
  withDeadline(link, (markSent) => readUntilResponse(effect, fault, link, markSent), noResponse)

const withDeadline = <A, R>(
  link: Link,
  attempt: (markSent: Effect.Effect<void, KvError.KvError>) => Effect.Effect<A, KvError.KvError, R>,
  atDeadline: (wasSent: boolean) => KvError.KvError
): Effect.Effect<A, KvError.KvError, R> =>
  Effect.withFiber((fiber) => {
    const sendControl = fiber.getRef(SendControl.Current)
    let wasSent = false
    sendControl?.track(() => wasSent)
    const markSent = Effect.suspend(() => {
      if (sendControl?.isCancelled() === true) return Effect.fail(cancelled)
      wasSent = true
      return Effect.void
    })
    const call = Effect.timeoutOrElse(Effect.andThen(link.leave, attempt(markSent)), {
      duration: fiber.getRef(Deadline.Deadline) ?? link.deadline,
      orElse: () => Effect.fail(atDeadline(wasSent))
    })
    return LastFailure.during(call, {
      get lastFailure() {
        return wasSent ? silent : refused.reason
      }
    })
  })

/** Sends the request and awaits the response. Never fails: a failure is part of the result. */
const roundTrip = <A, R>(
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link
): Effect.Effect<Arrival<A>, never, R> =>
  Effect.gen(function*() {
    if (fault.onRequest !== undefined) yield* fault.onRequest
    if ((yield* link.cross) === "lost") return "Silence"
    if (fault.lose === "request") return lost(fault)
    const exit = yield* Effect.exit(effect)
    if (fault.onResponse !== undefined) yield* fault.onResponse
    if ((yield* link.cross) === "lost") return "Silence"
    return fault.lose === "response" ? lost(fault) : exit
  })

const lost = (fault: Fault): "Broken" | "Silence" => fault.isSilent === true ? "Silence" : "Broken"

/** A write or renewal: its request continues even if the caller is interrupted. Only a renewal is retried. */
const sendAndAwait = <A, R>(
  call: Call,
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link,
  markSent: Effect.Effect<void, KvError.KvError>
): Effect.Effect<A, KvError.KvError, R> =>
  Effect.gen(function*() {
    if (fault.isUnsent === true) return yield* Effect.fail(refused)
    if (link.scope.state._tag === "Closed") return yield* effect
    yield* markSent
    const request = yield* Effect.forkIn(roundTrip(effect, fault, link), link.scope, { startImmediately: true })
    const arrival = fault.isBrokenAtOnce === true ? "Broken" : yield* arrivalOf(call, request)
    if (arrival === "Silence") yield* link.silence
    else if (arrival !== "Broken") return yield* arrival
    return isWrite(call)
      ? yield* Effect.fail(indeterminate("the connection broke"))
      // A renewal is retried, like a read.
      : yield* sendAndAwait(call, effect, none, link, markSent)
  })

/** Awaits the request. Only the end of the client can interrupt it. */
const arrivalOf = <A>(call: Call, request: Fiber.Fiber<Arrival<A>>): Effect.Effect<Arrival<A>, KvError.KvError> =>
  Effect.flatMap(Fiber.await(request), (exit) => {
    if (Exit.isSuccess(exit)) return Effect.succeed(exit.value)
    return Effect.fail(isWrite(call) ? indeterminate("the client was closed") : closed)
  })

/** A read: retried if its connection breaks, and cancelled with its caller. */
const readUntilResponse = <A, R>(
  effect: Effect.Effect<A, KvError.KvError, R>,
  fault: Fault,
  link: Link,
  markSent: Effect.Effect<void, KvError.KvError>
): Effect.Effect<A, KvError.KvError, R> =>
  Effect.gen(function*() {
    if (fault.isUnsent === true) return yield* Effect.fail(refused)
    yield* markSent
    const arrival = fault.isBrokenAtOnce === true ? "Broken" : yield* roundTrip(effect, fault, link)
    if (arrival === "Silence") yield* link.silence
    else if (arrival !== "Broken") return yield* arrival
    return yield* readUntilResponse(effect, none, link, markSent)
  })

const none: Fault = { description: "none" }

const refused = KvError.make(new KvError.Unavailable({ message: "KvFaults: the store is unreachable" }))

const silent = new KvError.DeadlineExceeded({ message: "KvFaults: the store has not responded" })

const cancelled = KvError.make(new KvError.Unavailable({ message: "the request was cancelled before it was sent" }))

const closed = KvError.make(new KvError.Closed({ message: "the client was closed" }))

const indeterminate = (how: string): KvError.KvError =>
  KvError.make(new KvError.Indeterminate({ message: `KvFaults: the write was sent, and ${how}` }))

const noResponse = (wasSent: boolean): KvError.KvError =>
  KvError.make(
    wasSent
      ? new KvError.DeadlineExceeded({ message: "KvFaults: there was no response before the deadline" })
      : new KvError.Unavailable({ message: "KvFaults: the store was unreachable until the deadline" })
  )
