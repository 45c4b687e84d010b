/**
 * Carries a request to an answer: over endpoints that fail, tokens that expire and leaders that change, until its
 * deadline.
 *
 * What may be repeated is decided by `errors.judge`. A request that may have been sent and is not repeated safely ends as
 * `Indeterminate`, whatever ended it: an error, the deadline, or the client's end.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as SendControl from "@effect-kv/core/SendControl"
import { status as Code } from "@grpc/grpc-js"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type { Endpoint, Endpoints, LinkName, ServiceLine } from "./endpoints.ts"
import { type Failure, indeterminate, judge, type Kind, noAnswer, type Verdict } from "./errors.ts"
import { type Active, type Attempt, newAttempt, type SendOptions } from "./grpcCall.ts"
import { noTroubles, type Token, type Tokens, type Troubles } from "./tokens.ts"

/** A request. */
export interface Call<out A> {
  /** For messages, such as `put`. */
  readonly name: string
  /** For messages, what exactly it does, such as `put "a"`. Default: `name`. */
  readonly about?: (() => string) | undefined
  readonly kind: Kind
  /** Whether a member that knows no leader is to refuse it at once. */
  readonly hasLeader: boolean
  readonly send: (line: ServiceLine, options: SendOptions, attempt: Attempt) => Effect.Effect<A, Failure>
  /** On which of an endpoint's connections it is sent. Default: `calls`. */
  readonly link?: LinkName | undefined
  /** Endpoints to be used only if there is no other. */
  readonly avoid?: ReadonlySet<string> | undefined
  /** What the reason means where an earlier attempt may have been carried out: an answer, or `none` for the failure. */
  readonly onRepeated?: ((reason: KvError.Reason) => Option.Option<A>) | undefined
  /** Is told, when the call begins, how to ask what it is in trouble with. */
  readonly onBegin?: ((troubles: Troubles) => void) | undefined
}

/** What requests are carried by. */
export interface Carrier {
  readonly endpoints: Endpoints
  readonly tokens: Tokens
  readonly deadline: Duration.Duration
  readonly active: Active
  /** Open once the client is closed. */
  readonly closed: Latch.Latch
}

/** How long to wait before all endpoints are tried once more, in milliseconds: about this, doubling, up to that. */
const backoff = { first: 20, longest: 500 }

/** How long to wait for one endpoint to be connected before others are tried, at most, in milliseconds. */
const longestSettling = 2500

/** How often a call gets a new token. The second time is for one that expires or is outdated on its way. */
const maxTokens = 2

/** Carries out a request. */
export const run = <A>(carrier: Carrier, call: Call<A>): Effect.Effect<A, KvError.KvError> =>
  Effect.withFiber((fiber) => {
    const clock = fiber.getRef(Clock.Clock)
    const state = new State(
      call,
      fiber.getRef(Deadline.Deadline) ?? carrier.deadline,
      () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
      fiber.getRef(SendControl.Current)
    )
    state.sendControl?.track(() => state.mayHaveBeenSent)
    call.onBegin?.(() => state.allTroubles)
    return Effect.timeoutOrElse(attempts(carrier, call, state), {
      duration: state.deadline,
      orElse: () => {
        state.blameSilence(carrier.endpoints)
        return state.attempt.left
          ? KvError.fail(state.atDeadline(), { endpoint: state.endpoint?.address, status: Code.DEADLINE_EXCEEDED })
          : KvError.fail(state.atDeadline())
      }
    })
  })

/** What is known of a request on its way. */
class State {
  readonly deadline: Duration.Duration
  readonly now: () => number
  readonly endsAt: number
  readonly sendControl: SendControl.SendControl | undefined
  readonly #call: Call<unknown>
  /** What kept the call from being sent to each endpoint, or from being answered. */
  readonly troubles = new Map<string, string>()
  /** What keeps the token that is waited for. */
  tokenTroubles = noTroubles
  /** The endpoints that were tried since the last pause. */
  readonly tried = new Set<string>()
  /** The endpoints that a request was sent to and that did not keep silent. */
  readonly answered = new Set<Endpoint>()
  attempt: Attempt = newAttempt()
  endpoint: Endpoint | undefined = undefined
  /** When the endpoint was turned to. */
  since = 0
  /** Whether an attempt that is over may have been carried out. */
  ambiguous = false
  pauses = 0
  tokens = 0

  constructor(
    call: Call<unknown>,
    deadline: Duration.Duration,
    now: () => number,
    sendControl: SendControl.SendControl | undefined
  ) {
    this.#call = call
    this.deadline = deadline
    this.now = now
    this.sendControl = sendControl
    this.endsAt = now() + Duration.toMillis(deadline)
  }

  get remaining(): number {
    return Math.max(this.endsAt - this.now(), 1)
  }

  turnTo(endpoint: Endpoint): void {
    this.tried.add(endpoint.address)
    this.endpoint = endpoint
    this.since = this.now()
  }

  get allTroubles(): ReadonlyArray<string> {
    return [...new Set([...this.troubles.values(), ...this.tokenTroubles()])]
  }

  trouble(message: string): void {
    this.troubles.set(this.endpoint?.address ?? "", message)
  }

  /** Waits, and is in trouble as long as it waits, or where the waiting ends in a failure. */
  waitingFor<A, E>(message: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const before = this.troubles.get(this.endpoint?.address ?? "")
    this.trouble(message)
    return Effect.tap(effect, () =>
      Effect.sync(() => {
        if (before === undefined) this.troubles.delete(this.endpoint?.address ?? "")
        else this.trouble(before)
      }))
  }

  /** Blames an endpoint that did not answer, unless it answered others in the meantime: then it is only slow. */
  blameSilence(endpoints: Endpoints): void {
    if (this.endpoint !== undefined && this.endpoint.answeredAt < this.since) {
      endpoints.failed(this.endpoint, this.now(), "it did not answer")
    }
  }

  get mayHaveBeenSent(): boolean {
    return this.ambiguous || this.attempt.left
  }

  get isCancelled(): boolean {
    return this.sendControl?.isCancelled() === true
  }

  /** The reason to end with: `reason`, unless an attempt may have been carried out and the reason denies it. */
  final(reason: KvError.Reason): KvError.Reason {
    const maybe = this.#call.kind !== "read" && this.mayHaveBeenSent
    return maybe && reason.outcome === "NotApplied"
      ? indeterminate(`${this.#call.name} was sent and may have been carried out; it ended with: ${reason.message}`)
      : reason
  }

  atDeadline(): KvError.Reason {
    const within = `within ${Duration.format(this.deadline)}`
    const all = this.allTroubles
    const troubles = all.length === 0 ? "" : ` (${all.join("; ")})`
    return this.final(
      this.attempt.left
        ? new KvError.DeadlineExceeded({
          message: `${this.#call.name}: ${this.endpoint?.address} did not answer ${within}${troubles}`
        })
        : new KvError.Unavailable({ message: `${this.#call.name}: no endpoint took the call ${within}${troubles}` })
    )
  }
}

const attempts = Effect.fnUntraced(
  function*<A>(carrier: Carrier, call: Call<A>, state: State): Effect.fn.Return<A, KvError.KvError> {
    while (true) {
      if (carrier.closed.isOpen()) return yield* KvError.fail(state.final(clientClosed()))
      if (state.isCancelled) return yield* KvError.fail(state.final(calledOff()))
      const endpoint = yield* nextEndpoint(carrier, call, state)
      const link = endpoint[call.link ?? "calls"]
      if (!link.current.isSettled()) {
        if (!(yield* settle(carrier, state, link.current.settle, "not connected yet"))) continue
      } else if (call.kind === "write" && link.isStale) {
        if (!(yield* settle(carrier, state, link.awake, "silent"))) continue
      }
      const token = carrier.tokens.current() ?? (yield* fetchToken(carrier, state))
      if (token === undefined) continue
      const result = yield* attempt(carrier, call, state, endpoint, token.token)
      if (Result.isSuccess(result)) {
        carrier.endpoints.succeeded(endpoint, state.now())
        return result.success
      }
      const { code, left } = result.failure
      if (carrier.closed.isOpen() || !left && state.isCancelled) continue
      if (left && code !== Code.DEADLINE_EXCEEDED) state.answered.add(endpoint)
      const verdict = judge(result.failure, call.kind, endpoint.address)
      const answer = yield* conclude(carrier, call, state, endpoint, token.token, verdict, code)
      if (Option.isSome(answer)) return answer.value
    }
  }
)

const calledOff = (): KvError.Reason =>
  new KvError.Unavailable({ message: "the call was called off before it was sent" })

const clientClosed = (): KvError.Reason => new KvError.Closed({ message: "the client was closed" })

/** The endpoint to try now; waits a little where all have been tried. */
const nextEndpoint = <A>(carrier: Carrier, call: Call<A>, state: State): Effect.Effect<Endpoint> =>
  Effect.suspend(() => {
    const avoid = state.pauses === 0 && call.avoid !== undefined
      ? new Set([...state.tried, ...call.avoid])
      : state.tried
    const endpoint = carrier.endpoints.choose(state.now(), avoid)
    if (!state.tried.has(endpoint.address)) {
      state.turnTo(endpoint)
      return Effect.succeed(endpoint)
    }
    state.tried.clear()
    return Effect.andThen(pause(carrier, state), nextEndpoint(carrier, call, state))
  })

const pause = (carrier: Carrier, state: State): Effect.Effect<void> =>
  Effect.flatMap(Random.next, (random) => {
    const longest = Math.min(backoff.first * 2 ** state.pauses++, backoff.longest)
    return orClosed(carrier, Effect.sleep(longest * (0.5 + random / 2)))
  })

/** Waits, but not beyond the client's end. */
const orClosed = (carrier: Carrier, effect: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.raceFirst(effect, carrier.closed.await)

/** Whether others are to be tried yet, or answered that they cannot now, so that this endpoint must not use up the time. */
const hasOthers = (carrier: Carrier, state: State): boolean =>
  state.tried.size < carrier.endpoints.all.length ||
  [...state.answered].some((endpoint) => endpoint !== state.endpoint)

/**
 * Waits until the endpoint is connected, or known to be unreachable, or known to be alive; not for long where there are others: it goes on
 * connecting, and others may be back.
 */
const settle = (
  carrier: Carrier,
  state: State,
  until: Effect.Effect<void>,
  trouble: string
): Effect.Effect<boolean> => {
  const settled = state.waitingFor(
    `${state.endpoint?.address}: ${trouble}`,
    Effect.as(orClosed(carrier, until), true)
  )
  return carrier.endpoints.all.length === 1 ? settled : Effect.timeoutOrElse(settled, {
    duration: Math.min(state.remaining / 2, longestSettling),
    orElse: () => {
      state.blameSilence(carrier.endpoints)
      return Effect.succeed(false)
    }
  })
}

/** The token to send, `undefined` where there is none for now. */
const fetchToken = Effect.fnUntraced(
  function*(carrier: Carrier, state: State): Effect.fn.Return<{ readonly token: Token } | undefined, KvError.KvError> {
    state.tokenTroubles = carrier.tokens.troubles
    const result = yield* Effect.result(state.waitingFor(
      "waiting for a token",
      Effect.raceFirst(
        Effect.map(carrier.tokens.get, (token) => ({ token })),
        Effect.as(carrier.closed.await, undefined)
      )
    ))
    state.tokenTroubles = noTroubles
    if (Result.isSuccess(result)) return result.success
    const { reason } = result.failure
    if (!reason.isRetryable) return yield* KvError.fail(state.final(reason))
    state.trouble(reason.message)
    return undefined
  }
)

/** Tries one endpoint. What may be repeated gets half of the time, while there are others to be tried. */
const attempt = <A>(
  carrier: Carrier,
  call: Call<A>,
  state: State,
  endpoint: Endpoint,
  token: Token
): Effect.Effect<Result.Result<A, Failure>> => {
  state.attempt = newAttempt()
  state.since = state.now()
  const timeout = state.remaining
  // Not the one that was waited for: it may have been replaced meanwhile.
  const line = endpoint[call.link ?? "calls"].current
  const options: SendOptions = {
    token,
    hasLeader: call.hasLeader,
    timeout,
    active: carrier.active,
    traffic: line.traffic,
    isRepeatable: call.kind !== "write",
    sendControl: state.sendControl
  }
  const sent = Effect.result(call.send(line, options, state.attempt))
  return call.kind === "write" || !hasOthers(carrier, state) ? sent : Effect.timeoutOrElse(sent, {
    duration: timeout / 2,
    orElse: () => {
      state.blameSilence(carrier.endpoints)
      return Effect.succeed(Result.fail(noAnswer(timeout / 2, state.attempt)))
    }
  })
}

/** etcd does not say what it denied. */
const explained = (reason: KvError.Reason, call: Call<unknown>): KvError.Reason =>
  reason._tag === "PermissionDenied"
    ? new KvError.PermissionDenied({ message: `${reason.message} (${call.about?.() ?? call.name})` })
    : reason

/** Decides what follows from a failure: an answer after all, another attempt (`none`), or the end. */
const conclude = <A>(
  carrier: Carrier,
  call: Call<A>,
  state: State,
  endpoint: Endpoint,
  token: Token,
  verdict: Verdict,
  status: number
): Effect.Effect<Option.Option<A>, KvError.KvError> => {
  const fail = (): Effect.Effect<never, KvError.KvError> =>
    KvError.fail(state.final(explained(verdict.reason, call)), { endpoint: endpoint.address, status })
  if (verdict.blame) carrier.endpoints.failed(endpoint, state.now(), verdict.reason.message)
  state.attempt = newAttempt()
  const repeated = state.ambiguous ? call.onRepeated?.(verdict.reason) : undefined
  if (repeated !== undefined && Option.isSome(repeated)) return Effect.succeed(repeated)
  if (!verdict.refused) state.ambiguous = true
  switch (verdict.action) {
    case "fail":
      return fail()
    case "token": {
      if (!carrier.tokens.hasCredentials || state.tokens >= maxTokens) return fail()
      state.tokens += 1
      carrier.tokens.refused(token)
      state.tried.delete(endpoint.address)
      return Effect.succeedNone
    }
    case "retry":
      state.trouble(verdict.reason.message)
      return Effect.succeedNone
  }
}
