/**
 * Granting the lease of a session, and revoking it.
 *
 * A lease is granted under an id of our own choosing, so that it can be revoked even if the answer never came. A request
 * that a dying leader dropped is not waited for: another one is sent under another id, and what the first may have granted
 * is revoked.
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
import * as leaseId from "../values/leaseId.ts"
import * as expiry from "./leaseDeadline.ts"
import { patienceMillis } from "./patience.ts"

export interface Granted {
  readonly lease: bigint
  /** The time to live the store granted. */
  readonly ttl: Duration.Duration
  /** Until when it lives, by this machine's clocks. */
  readonly expires: expiry.Instant
}

/** How a scope waits for a revocation. */
export type WaitFor = (revocation: Fiber.Fiber<unknown>) => Effect.Effect<void>

/** How long a request is waited for before another is sent beside it. */
const hedgeInterval = Duration.seconds(1)

/** How many requests are sent at most, except for ids that turn out to be taken. */
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
  const requests: Array<Request> = []
  // Whoever closes the scope may be on another clock, such as that of a test, which may stand still.
  const onClock = Effect.provideService(Clock.Clock, clock)

  const begin = Effect.gen(function*() {
    const request: Request = {
      id: yield* leaseId.random,
      sent: expiry.now(clock),
      mayBeGranted: true,
      fiber: undefined
    }
    requests.push(request)
    // Added before anything is sent. Runs late for a lease that is kept, at once for one that is not.
    yield* Scope.addFinalizer(
      scope,
      Effect.suspend(() => request.mayBeGranted ? revoke(backend, request, waitFor) : Effect.void).pipe(onClock)
    )
    if (scope.state._tag === "Closed") return yield* Effect.interrupt
    request.fiber = Effect.runForkWith(context)(backend.leaseGrant({ ttl, id: request.id }))
  })

  const giveUp = (request: Request): Effect.Effect<void> =>
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
      return { lease: request.id, ttl: exit.value.ttl, expires: expiry.after(request.sent, exit.value.ttl) }
    }
    const error = Option.getOrUndefined(Exit.findErrorOption(exit))
    request.mayBeGranted = error === undefined || error.outcome === "Unknown"
    if (error?.reason._tag !== "LeaseExists") return yield* Effect.failCause(exit.cause)
    requests.splice(requests.indexOf(request), 1)
  }
})

interface Request {
  readonly id: bigint
  readonly sent: expiry.Instant
  mayBeGranted: boolean
  fiber: Fiber.Fiber<Lease.Lease, KvError.KvError> | undefined
}

interface Ended {
  readonly request: Request
  readonly exit: Exit.Exit<Lease.Lease, KvError.KvError>
}

/** Does not interrupt the others, nor wait for them: a backend may be slow to notice. */
const firstToEnd = (requests: ReadonlyArray<Request>): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    const forget = requests.map((request) =>
      request.fiber?.addObserver((exit) => resume(Effect.succeed({ request, exit })))
    )
    return Effect.sync(() => forget.forEach((stop) => stop?.()))
  })

const fractionOf = (deadline: Duration.Duration | undefined): Duration.Duration =>
  deadline === undefined ? hedgeInterval : Duration.millis(Math.max(1, Math.ceil(Duration.toMillis(deadline) / 3)))

/** Revokes a lease in the background. `waitFor` decides how long the caller waits for it. */
const revoke = (backend: KvBackend, request: Request, waitFor: WaitFor): Effect.Effect<void> =>
  Effect.contextWith((context: Context.Context<never>) =>
    Effect.flatMap(revokeInBackground(backend, request, context), waitFor)
  )

const revokeInBackground = (backend: KvBackend, request: Request, context: Context.Context<never>) =>
  Effect.sync(() => {
    const run = Effect.runForkWith(context)
    const revocation = run(revokeLease(backend, request.id))
    revocation.addObserver((exit) => {
      if (Exit.isSuccess(exit) && exit.value) request.fiber?.interruptUnsafe()
      else revokeWhenGranted(request, () => run(revokeLease(backend, request.id)))
    })
    return revocation
  })

/**
 * A revocation sent while its grant is in flight can be executed first, find no lease, and leave the lease to expire. The
 * lease is revoked again when the grant succeeds after all.
 */
const revokeWhenGranted = (request: Request, revokeAgain: () => void): void => {
  if (request.fiber === undefined || request.fiber.pollUnsafe() !== undefined) return
  request.fiber.addObserver((exit) => {
    if (Exit.isSuccess(exit)) revokeAgain()
  })
}

const revocationDeadline = Duration.seconds(3)

/** Revokes a lease. False if there was none, or if it could not be revoked. */
const revokeLease = (backend: KvBackend, lease: bigint): Effect.Effect<boolean> =>
  // Also when a lock was lost under which the session was made.
  currentFences.exempt(backend.leaseRevoke(lease)).pipe(
    Effect.as(true),
    Effect.provideService(Deadline.Deadline, revocationDeadline),
    Effect.timeoutOrElse({
      duration: revocationDeadline,
      orElse: () => KvError.fail(new KvError.DeadlineExceeded({ message: "the lease was not revoked in 3 seconds" }))
    }),
    Effect.catchReason("KvError", "LeaseNotFound", () => Effect.succeed(false)),
    Effect.catch((error) =>
      Effect.as(
        Effect.logDebug(`effect-kv: a lease was left to expire, because it could not be revoked`, error.message),
        false
      )
    )
  )

/** Waits for a fiber for at most so long; never for its interruption. */
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

/** For sessions that stand alone. */
export const waitForPatience: WaitFor = (revocation) => waitAtMost(revocation, patienceMillis)
