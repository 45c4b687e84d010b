/**
 * The retry rule, and the loop that applies it until the call's deadline: on failing endpoints, expired tokens and
 * changes of leader.
 *
 * A request is retried if another attempt can succeed and a repetition is safe. If it is not safe and the request may
 * have been applied, the call fails with `Indeterminate`. The cause may be an error, the deadline or the client's end.
 * The transport knows whether a request was sent. `errors.ts` classifies the server's errors.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as LastFailure from "@effect-kv/core/LastFailure"
import * as SendControl from "@effect-kv/core/SendControl"
import * as Tracing from "@effect-kv/core/Tracing"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import { Status } from "../../grpc/status.ts"
import * as attemptSpan from "./attemptSpan.ts"
import type { ChannelName } from "./channels.ts"
import type { Endpoint, Endpoints } from "./endpoints.ts"
import { type Classification, classify, type Failure, indeterminate } from "./errors.ts"
import type { RequestMetrics } from "./requestMetrics.ts"
import { type RetryPolicy, RetryState } from "./retryState.ts"
import { type Attempt, metadataOf } from "./rpc.ts"
import { type LastErrors, noErrors, type Token, type Tokens } from "./tokens.ts"

export type { RetryPolicy } from "./retryState.ts"

// -----------------------------------------------------------------------------
// the rule
// -----------------------------------------------------------------------------

/** Whether the same request can succeed when it is sent again. */
const canSucceedLater = ({ kind }: Classification): boolean => kind === "Transient"

/** Whether the same request can succeed with a new token. The server rejects tokens before it executes anything. */
const canSucceedWithNewToken = ({ kind }: Classification): boolean => kind === "TokenRejected"

/**
 * Whether the request may be sent again. A `read` changes nothing. An `idempotent` request leaves the same state if it
 * is applied twice. A `write` must be applied at most once.
 */
const isSafeToRepeat = (policy: RetryPolicy, { notApplied }: Classification): boolean =>
  notApplied || policy !== "write"

/** Whether the reason claims that the write was not applied although that is unknown. */
const hidesOutcome = (policy: RetryPolicy, { notApplied, reason }: Classification): boolean =>
  policy === "write" && !notApplied && reason.outcome === "NotApplied"

export type Decision =
  | { readonly action: "Retry" }
  | { readonly action: "RefreshToken" }
  | { readonly action: "Fail"; readonly reason: KvError.Reason }

/** Applies the rule to a failure. */
export const decide = (policy: RetryPolicy, classification: Classification): Decision => {
  const { reason } = classification
  if (canSucceedWithNewToken(classification)) return { action: "RefreshToken" }
  if (canSucceedLater(classification) && isSafeToRepeat(policy, classification)) return { action: "Retry" }
  return {
    action: "Fail",
    reason: hidesOutcome(policy, classification) ? indeterminate(`no response to a write: ${reason.message}`) : reason
  }
}

/** The pause in milliseconds before all endpoints are tried again: `first`, doubling up to `longest`, with jitter. */
const backoff = { first: 20, longest: 500 }

/** The longest wait in milliseconds for the connection of one endpoint before others are tried. */
const longestSettling = 2500

/** How many new tokens a call may use. The second is for a token that expires or becomes stale in flight. */
const maxTokens = 2

// -----------------------------------------------------------------------------
// calls
// -----------------------------------------------------------------------------

/** A call: its request, how it may be retried, and what becomes of its response. */
export interface Call<in out A, out B = A> {
  /** The name in messages, such as `put`. */
  readonly name: string
  /** The description in messages, such as `put "a"`. Default: `name`. */
  readonly about?: (() => string) | undefined
  readonly policy: RetryPolicy
  /** Whether a member without a leader must reject the request at once. */
  readonly hasLeader: boolean
  readonly send: (attempt: Attempt) => Effect.Effect<A, Failure>
  /** The call's result, from the response. */
  readonly finish: (response: A) => Effect.Effect<B, KvError.KvError>
  /** The endpoint's channel for the request. Default: `calls`. */
  readonly channel?: ChannelName | undefined
  /**
   * Whether a token is fetched only once a member has demanded it: to fetch one needs a quorum, and some requests do not.
   * Default: false.
   */
  readonly isTokenOptional?: boolean | undefined
  /** Called when a member has responded to a request of the call, also with an error. */
  readonly onResponse?: (() => void) | undefined
  /** Endpoints to use only if there is no other. */
  readonly avoid?: ReadonlySet<string> | undefined
  /** The result of a failure after an attempt that may have been applied: a response, or `none` to fail. */
  readonly onRepeated?: ((reason: KvError.Reason) => Option.Option<A>) | undefined
  /** Called when the call begins, with a function that returns its last errors. */
  readonly onBegin?: ((lastErrors: LastErrors) => void) | undefined
}

/** The state that all calls of a client share. */
export interface RetryContext {
  readonly endpoints: Endpoints
  readonly tokens: Tokens
  readonly deadline: Duration.Duration
  /** Opens when the client closes. */
  readonly closed: Latch.Latch
  /** The machine's monotonic clock, in milliseconds. */
  readonly now: () => number
  /** Default: nothing is measured. */
  readonly metrics?: RequestMetrics | undefined
}

/** Executes a call. */
export const run = <A, B>(context: RetryContext, call: Call<A, B>): Effect.Effect<B, KvError.KvError> =>
  Effect.withFiber((fiber) => {
    const state = new RetryState(
      call,
      fiber.getRef(Deadline.Deadline) ?? context.deadline,
      context.now,
      fiber.getRef(SendControl.Current),
      Tracing.spanOf(fiber)
    )
    state.sendControl?.track(() => state.mayHaveBeenSent)
    call.onBegin?.(() => state.lastErrors)
    const steps = step(context, call, state, state.since)
    return fiber.getRef(LastFailure.Current)?.during(steps, state) ?? steps
  })

/** The result of a step of the loop. */
type Next<A> =
  | { readonly _tag: "Done"; readonly value: A }
  | { readonly _tag: "TryAgain" }
  | { readonly _tag: "Fail"; readonly error: KvError.KvError }

const tryAgain: Next<never> = { _tag: "TryAgain" }

const done = <A>(value: A): Next<A> => ({ _tag: "Done", value })

const fail = (error: KvError.KvError): Next<never> => ({ _tag: "Fail", error })

/** Continues after a step. */
const follow = <A, B>(
  context: RetryContext,
  call: Call<A, B>,
  state: RetryState,
  next: Next<A>
): Effect.Effect<B, KvError.KvError> => {
  switch (next._tag) {
    case "Done":
      return call.finish(next.value)
    case "Fail":
      return Effect.fail(next.error)
    case "TryAgain":
      return step(context, call, state, state.now())
  }
}

/**
 * Chooses an endpoint, waits for its connection and for a token if necessary, and sends the request. No generator: a call
 * that waits for nothing is one continuation.
 */
const step = <A, B>(
  context: RetryContext,
  call: Call<A, B>,
  state: RetryState,
  now: number
): Effect.Effect<B, KvError.KvError> => {
  if (context.closed.isOpen()) return Effect.fail(KvError.make(state.final(clientClosed())))
  if (state.isCancelled) return Effect.fail(KvError.make(state.final(cancelled())))
  if (state.isOverAt(now)) return Effect.fail(state.atDeadline())
  const endpoint = chooseEndpoint(context, call, state, now)
  if (endpoint === undefined) return Effect.flatMap(pause(context, state), (next) => follow(context, call, state, next))
  const channel = endpoint.channels[call.channel ?? "calls"]
  if (channel.isSettled()) return withToken(context, call, state, endpoint)
  const error = channel.state() === "Ready" ? "silent" : channel.problem() ?? "not connected yet"
  return Effect.flatMap(settle(context, state, channel.settle, error), (isSettled) => {
    if (!isSettled) return follow(context, call, state, tryAgain)
    state.beginAttempt(state.now())
    return withToken(context, call, state, endpoint)
  })
}

const withToken = <A, B>(
  context: RetryContext,
  call: Call<A, B>,
  state: RetryState,
  endpoint: Endpoint
): Effect.Effect<B, KvError.KvError> => {
  const current = context.tokens.current()
  if (current !== undefined) return attempt(context, call, state, endpoint, current.token)
  if (call.isTokenOptional === true && !state.isTokenDemanded) {
    return attempt(context, call, state, endpoint, undefined)
  }
  const fetching = fetchToken(context, state)
  return Effect.flatMap(
    state.span === undefined ? fetching : attemptSpan.aroundToken(state.span, fetching),
    (fetched) => {
      if (fetched._tag !== "Done") return follow(context, call, state, fetched)
      state.beginAttempt(state.now())
      return attempt(context, call, state, endpoint, fetched.value.token)
    }
  )
}

const cancelled = (): KvError.Reason =>
  new KvError.Unavailable({ message: "the call was cancelled before it was sent" })

const clientClosed = (): KvError.Reason => new KvError.Closed({ message: "the client was closed" })

// -----------------------------------------------------------------------------
// the parts of a step
// -----------------------------------------------------------------------------

/** The endpoint to try now. `undefined` if all have been tried. */
const chooseEndpoint = (
  context: RetryContext,
  call: Pick<Call<never>, "avoid">,
  state: RetryState,
  now: number
): Endpoint | undefined => {
  const avoid = state.pauses === 0 && call.avoid !== undefined ? [...state.tried, ...call.avoid] : state.tried
  const endpoint = context.endpoints.choose(now, avoid)
  if (state.tried.includes(endpoint.address)) return undefined
  state.turnTo(endpoint, now)
  return endpoint
}

/** Pauses before all endpoints are tried again. */
const pause = (context: RetryContext, state: RetryState): Effect.Effect<Next<never>> =>
  Effect.flatMap(Random.next, (random) => {
    state.tried = []
    const longest = Math.min(backoff.first * 2 ** state.pauses++, backoff.longest)
    const millis = Math.min(longest * (0.5 + random / 2), Math.ceil(state.remaining))
    return Effect.as(orClosed(context, Effect.sleep(millis)), tryAgain)
  })

/** Waits for the effect or for the client's end. */
const orClosed = (context: RetryContext, effect: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.raceFirst(effect, context.closed.await)

/** The result of the effect, or `none` if it takes longer. */
const within = <A, E>(millis: number, effect: Effect.Effect<A, E>): Effect.Effect<Option.Option<A>, E> =>
  Number.isFinite(millis) ? Effect.timeoutOption(effect, Math.ceil(millis)) : Effect.asSome(effect)

/** Whether other endpoints are untried or have responded, so that this one must not use up the time. */
const hasOthers = (context: RetryContext, state: RetryState): boolean =>
  state.tried.length < context.endpoints.all().length ||
  state.responsive.some((endpoint) => endpoint !== state.endpoint)

/**
 * Waits until the endpoint is connected, known to be unreachable, or known to be alive. If there are other endpoints
 * the wait is short: this one continues to connect, and others may be reachable again.
 */
const settle = (
  context: RetryContext,
  state: RetryState,
  until: Effect.Effect<void>,
  error: string
): Effect.Effect<boolean> => {
  const { remaining } = state
  const limit = context.endpoints.all().length === 1 ? remaining : Math.min(remaining / 2, longestSettling)
  const settled = state.waitingFor(`${state.endpoint?.address}: ${error}`, orClosed(context, until))
  return Effect.map(within(limit, settled), (result) => {
    if (Option.isNone(result)) state.suspendIfSilent(context.endpoints)
    return Option.isSome(result)
  })
}

/** The token to send. */
const fetchToken = Effect.fnUntraced(
  function*(
    context: RetryContext,
    state: RetryState
  ): Effect.fn.Return<Next<{ readonly token: Token }>> {
    state.tokenErrors = context.tokens.lastErrors
    const result = yield* Effect.result(within(
      state.remaining,
      state.waitingFor(
        "waiting for a token",
        Effect.raceFirst(context.tokens.get, Effect.as(context.closed.await, undefined))
      )
    ))
    if (Result.isSuccess(result)) {
      // After a timeout, the error includes the last errors of the token request.
      if (Option.isNone(result.success)) return tryAgain
      state.tokenErrors = noErrors
      return context.closed.isOpen() ? tryAgain : done({ token: result.success.value })
    }
    state.tokenErrors = noErrors
    const { reason } = result.failure
    if (!reason.isRetryable) return fail(KvError.make(state.final(reason)))
    state.noteError(reason.message)
    return tryAgain
  }
)

/**
 * Tries one endpoint. While other endpoints remain, a request that may be retried gets half of the time. Then it is sent
 * to another one. The first read continues meanwhile, and the first of the two responses counts.
 */
const attempt = <A, B>(
  context: RetryContext,
  call: Call<A, B>,
  state: RetryState,
  endpoint: Endpoint,
  token: Token
): Effect.Effect<B, KvError.KvError> => {
  const isHalf = call.policy !== "write" && hasOthers(context, state)
  const half = (state.endsAt - state.since) / 2
  const isHedged = isHalf && call.policy === "read" && !state.isHedged && Number.isFinite(half)
  const endsAt = isHalf && !isHedged ? state.since + half : state.endsAt
  const { sendControl } = state
  const sent: Attempt = {
    endpoint,
    channel: endpoint.channels[call.channel ?? "calls"],
    metadata: metadataOf(token, call.hasLeader),
    remaining: () => Number.isFinite(endsAt) ? Math.max(endsAt - state.now(), 1) : undefined,
    lateAfter: isHedged ? half : undefined,
    isRepeatable: call.policy !== "write",
    isCancelled: sendControl === undefined ? undefined : () => sendControl.isCancelled(),
    progress: state.progress,
    span: state.span
  }
  attemptSpan.name(state.span, endpoint.address)
  if (state.failure !== undefined) {
    context.metrics?.retried(state.failure.endpoint, state.failure.reason)
    state.failure = undefined
  }
  return Effect.matchEffect(call.send(sent), {
    onFailure: (failure) =>
      failure.pending === undefined
        ? follow(context, call, state, conclude(context, call, state, endpoint, token, failure))
        : hedge(context, call, state, { ...sent, pending: failure.pending }),
    onSuccess: (value) => {
      call.onResponse?.()
      context.endpoints.succeeded(endpoint, state.now())
      return call.finish(value)
    }
  })
}

/**
 * Continues with other endpoints beside a late read. The first response counts. A failure of the late read counts only
 * if other attempts would fail as well.
 */
const hedge = <A, B>(
  context: RetryContext,
  call: Call<A, B>,
  state: RetryState,
  late: Attempt
): Effect.Effect<B, KvError.KvError> => {
  const { endpoint } = late
  state.isHedged = true
  state.suspendIfSilent(context.endpoints)
  state.noteError(`${endpoint.address}: no response yet`)
  const first = Effect.matchEffect(call.send(late), {
    onFailure: (failure) => {
      const classification = classify(failure, endpoint.address)
      if (classification.isFromMember) call.onResponse?.()
      const decision = decide(call.policy, classification)
      context.metrics?.failed(endpoint.address, classification.reason._tag)
      if (decision.action === "Fail") {
        return Effect.fail(
          KvError.make(explained(decision.reason, call), { endpoint: endpoint.address, status: failure.code })
        )
      }
      state.noteError(classification.reason.message, endpoint)
      return Effect.never
    },
    onSuccess: (value) => {
      call.onResponse?.()
      context.endpoints.succeeded(endpoint, state.now())
      return call.finish(value)
    }
  })
  return Effect.raceFirst(first, step(context, call, state, state.now()))
}

/** Decides what follows the failure of an attempt. */
const conclude = <A, B>(
  context: RetryContext,
  call: Call<A, B>,
  state: RetryState,
  endpoint: Endpoint,
  token: Token,
  failure: Failure
): Next<A> => {
  const { code, delivery } = failure
  state.progress.delivery = delivery
  if (context.closed.isOpen() || delivery !== "Sent" && state.isCancelled) return tryAgain
  if (code === Status.DEADLINE_EXCEEDED) {
    state.suspendIfSilent(context.endpoints)
    if (state.isOver) {
      context.metrics?.failed(endpoint.address, "DeadlineExceeded")
      return fail(state.atDeadline())
    }
  } else if (delivery === "Sent") {
    state.responsive = [...state.responsive, endpoint]
  }
  const classification = classify(failure, endpoint.address)
  if (classification.isFromMember) call.onResponse?.()
  if (token === undefined && canSucceedWithNewToken(classification) && isFirstDemand(context, call, state)) {
    state.beginAttempt(state.now())
    state.isTokenDemanded = true
    state.tried = state.tried.filter((address) => address !== endpoint.address)
    return tryAgain
  }
  context.metrics?.failed(endpoint.address, classification.reason._tag)
  if (classification.suspendEndpoint) {
    context.endpoints.failed(endpoint, state.now(), classification.reason.message, classification.reconnect)
  }
  state.beginAttempt(state.now())
  const repeated = state.isAmbiguous ? call.onRepeated?.(classification.reason) : undefined
  if (repeated !== undefined && Option.isSome(repeated)) return done(repeated.value)
  if (!classification.notApplied) state.isAmbiguous = true
  const failWith = (reason: KvError.Reason): Next<never> =>
    fail(KvError.make(state.final(explained(reason, call)), { endpoint: endpoint.address, status: code }))
  const decision = decide(call.policy, classification)
  switch (decision.action) {
    case "Fail":
      return failWith(decision.reason)
    case "RefreshToken": {
      if (!context.tokens.hasCredentials || state.rejectedTokens >= maxTokens) return failWith(classification.reason)
      state.rejectedTokens += 1
      context.tokens.rejected(token)
      state.failure = { endpoint: endpoint.address, reason: classification.reason._tag }
      state.tried = state.tried.filter((address) => address !== endpoint.address)
      return tryAgain
    }
    case "Retry":
      state.failure = { endpoint: endpoint.address, reason: classification.reason._tag }
      state.noteError(classification.reason.message)
      return tryAgain
  }
}

/** Whether the call was sent without a token because it may not need one. */
const isFirstDemand = (context: RetryContext, call: Pick<Call<never>, "isTokenOptional">, state: RetryState): boolean =>
  call.isTokenOptional === true && !state.isTokenDemanded && context.tokens.hasCredentials

/** Adds the denied call to the reason, which etcd omits. */
const explained = (reason: KvError.Reason, call: Pick<Call<never>, "name" | "about">): KvError.Reason =>
  reason._tag === "PermissionDenied"
    ? new KvError.PermissionDenied({ message: `${reason.message} (${call.about?.() ?? call.name})` })
    : reason
