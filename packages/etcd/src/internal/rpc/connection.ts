/**
 * A client's connection to the members of one etcd cluster: what the backend's operations, leases and watches are
 * carried by.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import type * as grpc from "@grpc/grpc-js"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { IStatusResponse } from "etcd3"
import type { Settings } from "../settings.ts"
import { StoreIdentity } from "../store/storeIdentity.ts"
import { Suspicions } from "../store/storeProbe.ts"
import * as watchMethod from "../watch/watchMethod.ts"
import type * as watchWire from "../watch/watchWire.ts"
import type { Store } from "../wire/decoded.ts"
import * as endpoints from "./endpoints.ts"
import * as errors from "./errors.ts"
import * as call from "./grpcCall.ts"
import * as requests from "./retry.ts"
import type { KvService, LeaseService, Unary } from "./services.ts"
import * as tokens from "./tokens.ts"

/** Which endpoint a stream is to be opened on. */
export interface StreamOptions {
  /** Endpoints to be used only if no other can be reached: those the last stream failed on. */
  readonly avoid?: ReadonlySet<string> | undefined
  /** Get a new token first: the server refused the one the last stream had (see {@link StreamFailure}). */
  readonly refreshToken?: boolean | undefined
  /** Take responses of any size. Others fail the stream above 24 MiB. */
  readonly whole?: boolean | undefined
}

/** A raw watch stream, in object mode. Nothing has been sent on it yet. It has an `error` listener already. */
export interface WatchStream {
  readonly stream: grpc.ClientDuplexStream<watchWire.Request, watchWire.Response>
  /** The address of the endpoint it leads to, for {@link Connection.reportStreamFailure}. */
  readonly endpoint: string
  /** Asks the endpoint which version of etcd it runs. */
  readonly status: Effect.Effect<IStatusResponse, errors.Failure>
}

/** What an error of a stream, or the reason of a watch that the server cancelled, means. */
export interface StreamFailure {
  readonly error: KvError.KvError
  /** Whether to open again: the failure is the connection's or the server's state, not the request's. */
  readonly isTransient: boolean
  /** Whether the token was refused: open again with `refreshToken`. */
  readonly refreshToken: boolean
}

export interface Connection {
  /**
   * Opens a watch stream to an endpoint that is connected, within the current deadline, with metadata `hasleader` and
   * the token. Closing the scope ends it (`end()`, then `cancel()`).
   */
  readonly openWatchStream: (options?: StreamOptions) => Effect.Effect<WatchStream, KvError.KvError, Scope.Scope>
  /** Tells that a stream to the endpoint broke, so that what comes next prefers another. */
  readonly reportStreamFailure: (endpoint: string, error: unknown) => void
  /** What an error that a stream emitted means. */
  readonly streamFailure: (error: unknown, endpoint?: string) => StreamFailure
  /** What the `cancel_reason` of a watch response means (`Compacted` is told apart by `compact_revision` before). */
  readonly cancelFailure: (reason: string, endpoint?: string) => StreamFailure
  /** What keeps the watch stream that is being opened, as far as is known: endpoints and causes. */
  readonly openingTroubles: tokens.Troubles
  /** Completes when the layer's scope closes, before anything else of the connection is torn down. */
  readonly closed: Effect.Effect<void>
  /** Carries out a request on some endpoint. */
  readonly run: <A>(call: requests.Call<A>) => Effect.Effect<A, KvError.KvError>
  /** The tokens to send, for the client beneath. */
  readonly tokens: tokens.Tokens
  /** The store that the endpoints lead to. */
  readonly store: Store
  /** Ends what is under way. To be the first thing that happens when the layer's scope closes. */
  readonly shutdown: Effect.Effect<void>
}

/** A request of one message to the KV service, encoded already, answered by one that is decoded as told. */
export const kv = <A>(
  method: (service: KvService) => Unary<never, unknown>,
  decode: (message: Buffer) => A,
  request: Buffer
): requests.Call<A>["send"] =>
(line, options, attempt) => call.unary(line.kv, inBytes(method(line.kv), decode), request, options, attempt)

/** The method without etcd3's encoder, and with another decoder than its. */
const inBytes = <A>(method: Unary<never, unknown>, decode: (message: Buffer) => A): Unary<Buffer, A> => {
  const { path } = method as unknown as grpc.MethodDefinition<never, unknown>
  return function(this: grpc.Client, request, metadata, options, callback) {
    return this.makeUnaryRequest(path, asItIs, decode, request, metadata, options, callback)
  }
}

const asItIs = (message: Buffer): Buffer => message

/** A request of one message, answered by one, to the Lease service. */
export const lease = <Request, Response>(
  method: (service: LeaseService) => Unary<Request, Response>,
  request: Request
): requests.Call<Response>["send"] =>
(line, options, attempt) => call.unary(line.lease, method(line.lease), request, options, attempt)

/** Opens the connection. Nothing is connected before it is used. */
export const make = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<Connection, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock
  const now = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const active = new call.Active()
  const all = endpoints.open(settings, {
    now,
    active,
    onSilent: (endpoint) => Effect.sync(() => carrier.endpoints.failed(endpoint, now(), errors.unanswered)),
    onReplaced: (endpoint) => Effect.sync(() => carrier.endpoints.succeeded(endpoint, now()))
  })
  // Anywhere to begin with, so that many clients do not all take the first.
  const first = yield* Random.nextIntBetween(0, all.length - 1)
  const carrier: Omit<requests.Carrier, "tokens"> = {
    endpoints: endpoints.make(
      all,
      first,
      (endpoint, reason) => Effect.runForkWith(context)(logChange(endpoint, reason))
    ),
    deadline: settings.deadline,
    active,
    closed: Latch.makeUnsafe()
  }
  const source = makeTokens(carrier, settings, scope)
  const full: requests.Carrier = { ...carrier, tokens: source }
  const shutdown = Effect.suspend(() => {
    carrier.closed.openUnsafe()
    carrier.active.close()
    return afterAborts
  })
  yield* Scope.addFinalizer(
    scope,
    Effect.andThen(shutdown, Effect.sync(() => all.forEach((endpoint) => endpoint.close())))
  )
  const opening = { troubles: tokens.noTroubles }
  for (const { calls, watches } of all) {
    yield* Effect.forkScoped(calls.guard)
    yield* Effect.forkScoped(watches.guard)
  }
  return {
    closed: carrier.closed.await,
    shutdown,
    tokens: source,
    store: { identity: new StoreIdentity(), suspicions: new Suspicions() },
    run: (call) => requests.run(full, call),
    openWatchStream: (options) => openWatchStream(full, options, opening),
    reportStreamFailure: (address, error) => {
      const { blame, reason } = errors.judge(errors.fromError(error), "read", address)
      if (blame) full.endpoints.failed(full.endpoints.at(address), now(), reason.message)
    },
    streamFailure: (error, endpoint) => streamFailure(errors.fromError(error), source, endpoint),
    cancelFailure: (reason, endpoint) => streamFailure(errors.fromError({ message: reason }), source, endpoint),
    openingTroubles: () => opening.troubles()
  }
})

const logChange = ({ address }: endpoints.Endpoint, reason: string | undefined): Effect.Effect<void> =>
  reason === undefined
    ? Effect.annotateLogs(Effect.logWarning("effect-kv: an endpoint answers again"), { endpoint: address })
    : Effect.annotateLogs(Effect.logWarning("effect-kv: an endpoint is down"), { endpoint: address, reason })

/** What was aborted has ended in the turn of the event loop after. */
const afterAborts = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

const makeTokens = (
  carrier: Omit<requests.Carrier, "tokens">,
  settings: Settings,
  scope: Scope.Scope
): tokens.Tokens => {
  const { auth } = settings
  if (auth === undefined) return tokens.none
  let troubles = tokens.noTroubles
  const authenticate = requests.run<tokens.Token>({ ...carrier, tokens: tokens.none }, {
    name: "authenticate",
    kind: "read",
    hasLeader: true,
    onBegin: (its) => troubles = its,
    send: ({ auth: service }, options, attempt) => {
      const request = { name: auth.username, password: Redacted.value(auth.password) }
      return call.unary(service, service.authenticate, request, options, attempt).pipe(
        Effect.map((response) => response.token),
        Effect.catchIf(errors.isAuthDisabled, () => Effect.succeed(undefined))
      )
    }
  })
  // It serves all who wait, so it must not end by the deadline of the one who was first.
  return tokens.make(Effect.provideService(authenticate, Deadline.Deadline, undefined), scope, () => troubles())
}

/** On the connection of calls: on that of watches, a catch-up would hold up the response. */
const statusOf = (carrier: requests.Carrier, address: string, options: call.SendOptions): WatchStream["status"] =>
  Effect.suspend(() => {
    const { maintenance, traffic } = carrier.endpoints.at(address).calls.current
    const sent = { ...options, traffic, isRepeatable: true, timeout: 5000 }
    return call.unary(maintenance, maintenance.status, {}, sent, call.newAttempt())
  })

const openWatchStream = Effect.fnUntraced(
  function*(
    carrier: requests.Carrier,
    options: StreamOptions | undefined,
    current: { troubles: tokens.Troubles }
  ): Effect.fn.Return<WatchStream, KvError.KvError, Scope.Scope> {
    const scope = yield* Effect.scope
    if (options?.refreshToken === true) carrier.tokens.refused(carrier.tokens.current()?.token)
    // No call waits for it to the end, and the next attempt may be at another endpoint: a layer's long deadline is none for it.
    const deadline = Duration.min(carrier.deadline, Deadline.defaultDeadline)
    const opening = requests.run<WatchStream>(carrier, {
      name: "watch",
      onBegin: (troubles) => current.troubles = troubles,
      kind: "read",
      hasLeader: true,
      avoid: options?.avoid,
      link: options?.whole === true ? "wholeWatches" : "watches",
      send: ({ address, watch }, options) =>
        Effect.map(
          call.open(watch, watchMethod.opener(watch), options, (stream) => Scope.addFinalizer(scope, end(stream))),
          (stream) => ({ stream, endpoint: address, status: statusOf(carrier, address, options) })
        )
    })
    return yield* Effect.ensuring(
      Effect.provideService(opening, Deadline.Deadline, deadline),
      Effect.sync(() => current.troubles = tokens.noTroubles)
    )
  }
)

/** Ended before it is cancelled: the server then does not count it as a failure of its own. */
const end = (stream: WatchStream["stream"]): Effect.Effect<void> =>
  Effect.sync(() => {
    stream.end()
    stream.cancel()
  })

const streamFailure = (failure: errors.Failure, source: tokens.Tokens, endpoint = "watch"): StreamFailure => {
  const verdict = errors.judge(failure, "read", endpoint)
  const refreshToken = verdict.action === "token" && source.hasCredentials
  return {
    error: KvError.make(verdict.reason),
    isTransient: verdict.action === "retry" || refreshToken,
    refreshToken
  }
}
