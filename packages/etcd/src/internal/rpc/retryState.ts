/**
 * The state of one call across its attempts: deadline, tried endpoints, last errors, and whether it may have been sent.
 */
import * as KvError from "@effect-kv/core/KvError"
import type * as LastFailure from "@effect-kv/core/LastFailure"
import type * as SendControl from "@effect-kv/core/SendControl"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Tracer from "effect/Tracer"
import { Status } from "../../grpc/status.ts"
import type { Progress } from "../../grpc/Transport.ts"
import type { Endpoint, Endpoints } from "./endpoints.ts"
import { indeterminate } from "./errors.ts"
import { noErrors } from "./tokens.ts"

/** The effect of a call on the store, which decides when it may be retried. See `retry.ts`. */
export type RetryPolicy = "read" | "write" | "idempotent"

export class RetryState implements LastFailure.Call {
  readonly now: () => number
  /** In milliseconds of the monotonic clock. */
  readonly endsAt: number
  readonly sendControl: SendControl.SendControl | undefined
  /** The span of the call; `undefined` without a tracer. */
  readonly span: Tracer.Span | undefined
  readonly #name: string
  readonly #policy: RetryPolicy
  readonly #deadline: Duration.Duration
  /** The last error of each endpoint. Like the other collections made on first use: most calls fail nowhere. */
  #lastErrors: Map<string, string> | undefined
  /** The last errors of the token request that the call waits for. */
  tokenErrors = noErrors
  /** The addresses of the endpoints tried since the last pause. */
  tried: ReadonlyArray<string> = none
  /** The endpoints that responded with a failure. */
  responsive: ReadonlyArray<Endpoint> = none
  /** The delivery of the current attempt. */
  progress: Progress = nothingSent
  endpoint: Endpoint | undefined = undefined
  /** The start of the current attempt. */
  since: number
  /** Whether an earlier attempt may have been applied. */
  isAmbiguous = false
  /** Whether a second attempt runs beside a late one. There is no third. */
  isHedged = false
  pauses = 0
  /** How many of the call's tokens were rejected. */
  rejectedTokens = 0
  /** Whether a member has demanded a token of a call that may not need one. */
  isTokenDemanded = false
  /** The failure after which the request is to be sent again. It is a retry only once the request is sent. */
  failure: { readonly endpoint: string; readonly reason: string } | undefined = undefined

  constructor(
    call: { readonly name: string; readonly policy: RetryPolicy },
    deadline: Duration.Duration,
    now: () => number,
    sendControl: SendControl.SendControl | undefined,
    span?: Tracer.Span
  ) {
    this.#name = call.name
    this.#policy = call.policy
    this.#deadline = deadline
    this.now = now
    this.sendControl = sendControl
    this.span = span
    this.since = now()
    this.endsAt = this.since + Duration.toMillis(deadline)
  }

  /** Milliseconds until the deadline, at least 0. `Infinity` without a deadline. */
  get remaining(): number {
    return Math.max(this.endsAt - this.now(), 0)
  }

  /** Timers may fire a fraction of a millisecond early. */
  get isOver(): boolean {
    return this.isOverAt(this.now())
  }

  isOverAt(now: number): boolean {
    return this.endsAt - now < 1
  }

  beginAttempt(now: number): void {
    this.progress = { delivery: "NotSent" }
    this.since = now
  }

  turnTo(endpoint: Endpoint, now: number): void {
    if (!this.tried.includes(endpoint.address)) this.tried = [...this.tried, endpoint.address]
    this.endpoint = endpoint
    this.beginAttempt(now)
  }

  get lastErrors(): ReadonlyArray<string> {
    return [...new Set([...this.#lastErrors?.values() ?? none, ...this.tokenErrors()])]
  }

  /** Why the call has no response yet; `undefined` if nothing is known but that it waits. */
  get lastFailure(): KvError.Reason | undefined {
    const errors = this.lastErrors
    if (this.isInFlight) {
      const message = [`${this.endpoint?.address} has not responded`, ...errors].join("; ")
      return new KvError.DeadlineExceeded({ message })
    }
    return errors.length === 0 ? undefined : new KvError.Unavailable({ message: errors.join("; ") })
  }

  noteError(message: string, endpoint = this.endpoint): void {
    this.#lastErrors ??= new Map()
    this.#lastErrors.set(endpoint?.address ?? "", message)
  }

  /** Runs the effect. Meanwhile the message is the endpoint's last error, and stays so unless the effect succeeds. */
  waitingFor<A, E>(message: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const before = this.#lastErrors?.get(this.endpoint?.address ?? "")
    this.noteError(message)
    return Effect.tap(effect, () =>
      Effect.sync(() => {
        if (before === undefined) this.#lastErrors?.delete(this.endpoint?.address ?? "")
        else this.noteError(before)
      }))
  }

  /** Suspends an endpoint that did not respond. If it responded to other calls meanwhile, it is only slow. */
  suspendIfSilent(endpoints: Endpoints): void {
    if (this.endpoint !== undefined && this.endpoint.respondedAt < this.since) {
      endpoints.failed(this.endpoint, this.now(), "it did not respond")
    }
  }

  get mayHaveBeenSent(): boolean {
    return this.isAmbiguous || this.isInFlight
  }

  /** Whether the current attempt was sent, and the server may have processed it. */
  get isInFlight(): boolean {
    return this.progress.delivery === "Sent"
  }

  get isCancelled(): boolean {
    return this.sendControl?.isCancelled() === true
  }

  /** The call's final reason: `Indeterminate` if `reason` claims that nothing was applied although that is unknown. */
  final(reason: KvError.Reason): KvError.Reason {
    const maybe = this.#policy !== "read" && this.mayHaveBeenSent
    return maybe && reason.outcome === "NotApplied"
      ? indeterminate(`${this.#name} was sent and may have been applied; it ended with: ${reason.message}`)
      : reason
  }

  /** The error of a call whose deadline has passed. */
  atDeadline(): KvError.KvError {
    const within = `within ${Duration.format(this.#deadline)}`
    const errors = this.lastErrors
    const details = errors.length === 0 ? "" : ` (${errors.join("; ")})`
    const address = this.endpoint?.address
    if (!this.isInFlight) {
      const message = `${this.#name}: no endpoint took the call ${within}${details}`
      return KvError.make(this.final(new KvError.Unavailable({ message })))
    }
    const message = `${this.#name}: ${address} did not respond ${within}${details}`
    return KvError.make(this.final(new KvError.DeadlineExceeded({ message })), {
      endpoint: address,
      status: Status.DEADLINE_EXCEEDED
    })
  }
}

const none: ReadonlyArray<never> = []

/** The delivery before the first attempt. */
const nothingSent: Progress = Object.freeze({ delivery: "NotSent" })
