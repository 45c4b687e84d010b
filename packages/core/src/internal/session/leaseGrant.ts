/**
 * The grant of a session's lease, and its revocation.
 *
 * The client chooses the id of the lease, so it can revoke the lease even if the response never arrives. A leader that
 * crashes drops its requests silently. So after a second another request is sent with another id, and the lease that
 * the first one may have granted is revoked.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as Deadline from "../../values/Deadline.ts"
import * as KvError from "../../values/KvError.ts"
import type * as Lease from "../../values/LeaseModel.ts"
import * as currentFences from "../fence/currentFences.ts"
import * as spans from "../tracing/spans.ts"
import * as leaseId from "../values/leaseId.ts"
import * as leaseDeadline from "./leaseDeadline.ts"
import { maxReleaseWaitMillis } from "./releaseWait.ts"

export interface Granted {
  readonly lease: bigint
  /** The time to live the store granted. */
  readonly ttl: Duration.Duration
  /** When it expires, by this machine's clocks. */
  readonly expires: leaseDeadline.Instant
}

/** Waits for a revocation while the scope closes. */
export type WaitFor = (revocation: Fiber.Fiber<unknown>) => Effect.Effect<void>

/** How long to wait for a response before another request is sent. */
const hedgeInterval = Duration.seconds(1)

/** The most requests in flight. A request whose id turns out to be in use does not count. */
const maxRequests = 3

/** Grants a lease. It is revoked when the scope closes. */
export const grant = Effect.fnUntraced(function*(
  backend: KvBackend,
  ttl: Duration.Input,
  waitFor: WaitFor
): Effect.fn.Return<Granted, KvError.KvError, Scope.Scope> {
  const clock = yield* Clock.Clock
  const scope = yield* Effect.scope
  const context = yield* Effect.context<never>()
  const interval = Duration.min(hedgeInterval, fractionOf(yield* Deadline.Deadline))
  const requests: Array<GrantRequest> = []
  // The fiber that closes the scope may have another clock, such as a test clock that stands still.
  const onClock = Effect.provideService(Clock.Clock, clock)

  const begin = Effect.gen(function*() {
    const request: GrantRequest = {
      id: yield* leaseId.random,
      sent: leaseDeadline.now(clock),
      mayBeGranted: true,
      fiber: undefined
    }
    requests.push(request)
    // The finalizer is added before the request is sent, so that no interruption can leave a lease behind.
    yield* Scope.addFinalizer(
      scope,
      Effect.suspend(() => request.mayBeGranted ? revoke(backend, request, waitFor) : Effect.void).pipe(onClock)
    )
    if (scope.state._tag === "Closed") return yield* Effect.interrupt
    request.fiber = Effect.runForkWith(context)(backend.leaseGrant({ ttl, id: request.id }))
  })

  const giveUp = (request: GrantRequest): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!request.mayBeGranted) return Effect.void
      request.mayBeGranted = false
      return Effect.asVoid(revokeInBackground(backend, request, context))
    })

  while (true) {
    if (requests.length < maxRequests) yield* begin
    const ended = firstToEnd(requests)
    const first = requests.length < maxRequests
      ? yield* Effect.timeoutOption(ended, interval)
      : Option.some(yield* ended)
    if (Option.isNone(first)) continue
    const { exit, request } = first.value
    if (Exit.isSuccess(exit)) {
      for (const other of requests) if (other !== request) yield* giveUp(other)
      return { lease: request.id, ttl: exit.value.ttl, expires: leaseDeadline.after(request.sent, exit.value.ttl) }
    }
    const error = Option.getOrUndefined(Exit.findErrorOption(exit))
    request.mayBeGranted = error === undefined || error.outcome === "Unknown"
    if (error?.reason._tag !== "LeaseExists") return yield* Effect.failCause(exit.cause)
    requests.splice(requests.indexOf(request), 1)
  }
})

interface GrantRequest {
  readonly id: bigint
  readonly sent: leaseDeadline.Instant
  mayBeGranted: boolean
  fiber: Fiber.Fiber<Lease.Lease, KvError.KvError> | undefined
}

interface Ended {
  readonly request: GrantRequest
  readonly exit: Exit.Exit<Lease.Lease, KvError.KvError>
}

/** The first request that ends. Unlike a race, it does not interrupt the others: a backend may be slow to stop. */
const firstToEnd = (requests: ReadonlyArray<GrantRequest>): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const forget = requests.map((request) =>
      request.fiber?.addObserver((exit) => resume(Effect.succeed({ request, exit })))
    )
    return Effect.sync(() => forget.forEach((stop) => stop?.()))
  })

const fractionOf = (deadline: Duration.Duration | undefined): Duration.Duration =>
  deadline === undefined ? hedgeInterval : Duration.millis(Math.max(1, Math.ceil(Duration.toMillis(deadline) / 3)))

/** Revokes a lease in the background. `waitFor` decides how long the caller waits. */
const revoke = (backend: KvBackend, request: GrantRequest, waitFor: WaitFor): Effect.Effect<void> =>
  Effect.contextWith((context: Context.Context<never>) =>
    Effect.flatMap(revokeInBackground(backend, request, context), waitFor)
  )

const revokeInBackground = (backend: KvBackend, request: GrantRequest, context: Context.Context<never>) =>
  Effect.sync(() => {
    const run = Effect.runForkWith(spans.contextWithout(context))
    const grant = request.fiber?.pollUnsafe() === undefined ? request.fiber : undefined
    const revocation = run(revokeLease(backend, request.id))
    // A revocation sent while its grant is in flight can be executed first, find no lease, and leave the lease to expire. The
    // lease is revoked again when the grant succeeds after all, even if its response was faster than the revocation's.
    if (grant !== undefined) {
      revocation.addObserver((exit) => {
        if (Exit.isSuccess(exit) && exit.value) return grant.interruptUnsafe()
        grant.addObserver((granted) => {
          if (Exit.isSuccess(granted) || isUnknown(granted)) run(revokeLease(backend, request.id))
        })
      })
    }
    return revocation
  })

const isUnknown = (exit: Exit.Exit<unknown, KvError.KvError>): boolean =>
  Option.exists(Exit.findErrorOption(exit), ({ outcome }) => outcome === "Unknown")

const revocationDeadline = Duration.seconds(3)

/** Revokes a lease. False if there was none, or if it could not be revoked. */
const revokeLease = (backend: KvBackend, lease: bigint): Effect.Effect<boolean> =>
  // Exempt, because the session may have been made under a lock that was lost.
  currentFences.exempt(backend.leaseRevoke(lease)).pipe(
    Effect.as(true),
    Effect.provideService(Deadline.Deadline, revocationDeadline),
    Effect.timeoutOrElse({
      duration: revocationDeadline,
      orElse: () =>
        KvError.fail(new KvError.DeadlineExceeded({ message: "the lease was not revoked within 3 seconds" }))
    }),
    Effect.catchReason("KvError", "LeaseNotFound", () => Effect.succeed(false)),
    Effect.catch((error) =>
      Effect.as(
        Effect.logDebug("effect-kv: a lease could not be revoked and will expire", error.message),
        false
      )
    )
  )

/** Waits until the fiber ends, at most for the given time. Does not interrupt the fiber. */
export const waitAtMost = (fiber: Fiber.Fiber<unknown>, millis: number): Effect.Effect<void> =>
  Effect.suspend(() =>
    fiber.pollUnsafe() !== undefined ? Effect.void : Effect.asVoid(Effect.timeoutOption(
      Effect.callback<void>((resume) => {
        const forget = fiber.addObserver(() => resume(Effect.void))
        return Effect.sync(forget)
      }),
      millis
    ))
  )

/** For sessions outside the pool. */
export const waitForRelease: WaitFor = (revocation) => waitAtMost(revocation, maxReleaseWaitMillis)
