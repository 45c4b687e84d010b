/**
 * What can go wrong with one call.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** What goes wrong with a call. Combine by hand what the constructors below do not have. */
export interface Fault {
  /** What it is called in the list of what was injected. */
  readonly description: string
  /** It never leaves: `Unavailable`. */
  readonly isRefused?: boolean
  /** Runs while the request is on its way to the store. */
  readonly onRequest?: Effect.Effect<void>
  /** Runs while the answer is on its way back. */
  readonly onAnswer?: Effect.Effect<void>
  /** What does not arrive. The connection breaks when it is lost: a write is `Indeterminate`, a read is repeated. */
  readonly lose?: "request" | "answer"
  /** The caller does not hear of a loss: it waits until its deadline. A read is `DeadlineExceeded` then. */
  readonly isSilent?: boolean
  /** The connection breaks as soon as the request has left; which arrives all the same. */
  readonly isBrokenAtOnce?: boolean
}

/** A fault by which a request or an answer is lost. */
export interface Loss extends Fault {
  readonly lose: "request" | "answer"
}

/** The call does not leave and changes nothing: `Unavailable`. */
export const unavailable: Fault = { description: "unavailable", isRefused: true }

/** The request takes so long to the store. If its deadline passes meanwhile, it arrives all the same. */
export const delayRequest = (duration: Duration.Input): Fault => ({
  description: `request delayed by ${Duration.format(Duration.fromInputUnsafe(duration))}`,
  onRequest: Effect.sleep(duration)
})

/** The answer takes so long back. */
export const delayAnswer = (duration: Duration.Input): Fault => ({
  description: `answer delayed by ${Duration.format(Duration.fromInputUnsafe(duration))}`,
  onAnswer: Effect.sleep(duration)
})

/** The connection breaks before the request arrives. A write is `Indeterminate`, and was **not** applied. */
export const loseRequest: Loss = { description: "request lost", lose: "request" }

/** The connection breaks before the answer is back. A write is `Indeterminate`, and **was** applied. */
export const loseAnswer: Loss = { description: "answer lost", lose: "answer" }

/** The connection breaks at once, and the request arrives later. A write is `Indeterminate`, and **will be** applied. */
export const applyLate = (duration: Duration.Input): Fault => ({
  description: `connection broken, and request delayed by ${Duration.format(Duration.fromInputUnsafe(duration))}`,
  onRequest: Effect.sleep(duration),
  isBrokenAtOnce: true
})

/** `loseRequest` or `loseAnswer`, but no connection breaks: the caller waits until its deadline. */
export const silently = (fault: Loss): Loss => ({
  ...fault,
  description: `${fault.description} silently`,
  isSilent: true
})
