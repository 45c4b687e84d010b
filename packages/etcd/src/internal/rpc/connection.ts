/**
 * A client's connection to the members of one etcd cluster: the endpoints, tokens and identity of the store that its
 * operations, leases and watches share.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type * as KvError from "@effect-kv/core/KvError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { Settings } from "../settings.ts"
import { StoreIdentity } from "../store/storeIdentity.ts"
import { Suspicions } from "../store/storeProbe.ts"
import { decodeToken, encodeAuthenticate } from "../wire/authCodec.ts"
import type { Store } from "../wire/decoded.ts"
import * as channels from "./channels.ts"
import * as endpoints from "./endpoints.ts"
import * as errors from "./errors.ts"
import * as retry from "./retry.ts"
import * as rpc from "./rpc.ts"
import * as tokens from "./tokens.ts"
import * as watchStreams from "./watchStreams.ts"

export interface Connection {
  /** Opens a watch stream: see `watchStreams.ts`. */
  readonly openWatchStream: watchStreams.Opener["open"]
  /** Notes that a stream to the endpoint broke, so that what comes next prefers another. */
  readonly reportStreamFailure: (endpoint: string, failure: errors.Failure) => void
  /** What the failure of a stream means. */
  readonly streamFailure: (failure: errors.Failure, endpoint?: string) => watchStreams.StreamFailure
  /** What the `cancel_reason` of a watch response means (`compact_revision` has told `Compacted` apart before). */
  readonly cancelFailure: (reason: string, endpoint?: string) => watchStreams.StreamFailure
  /** What keeps the watch stream that is being opened, as far as is known: endpoints and causes. */
  readonly openingErrors: tokens.LastErrors
  /** Completes when the layer's scope closes, before anything else of the connection is torn down. */
  readonly closed: Effect.Effect<void>
  /** Executes a call on some endpoint. */
  readonly run: <A>(call: retry.Call<A>) => Effect.Effect<A, KvError.KvError>
  /** The tokens to send, for the client beneath. */
  readonly tokens: tokens.Tokens
  /** The store that the endpoints lead to. */
  readonly store: Store
  /** Ends all calls in flight and all connections. Must be the first thing that happens when the layer's scope closes. */
  readonly shutdown: Effect.Effect<void>
}

/** Opens the connection. Nothing is connected before it is used. */
export const make = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<Connection, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const closed = Latch.makeUnsafe()
  const channelScope = yield* Scope.make()
  const shutdown = Effect.suspend(() => {
    closed.openUnsafe()
    // What listens to `closed` goes first, so that watches end as closed rather than as broken.
    return Effect.andThen(nextTurn, Scope.close(channelScope, Exit.void))
  })
  yield* Scope.addFinalizer(scope, shutdown)
  const cluster = yield* Scope.provide(openCluster(settings), channelScope)
  const base = { endpoints: cluster, deadline: settings.deadline, closed }
  const context: retry.RetryContext = { ...base, tokens: makeTokens(base, settings, scope) }
  const opener = watchStreams.make(context)
  const now = yield* monotonicMillis
  return {
    closed: closed.await,
    shutdown,
    tokens: context.tokens,
    store: { identity: new StoreIdentity(), suspicions: new Suspicions() },
    run: (call) => retry.run(context, call),
    openWatchStream: opener.open,
    openingErrors: opener.lastErrors,
    reportStreamFailure: (address, failure) => {
      const { reason, reconnect, suspendEndpoint } = errors.classify(failure, address)
      if (suspendEndpoint) cluster.failed(cluster.at(address), now(), reason.message, reconnect)
    },
    streamFailure: (failure, endpoint) => watchStreams.streamFailure(failure, context.tokens, endpoint),
    cancelFailure: (reason, endpoint) =>
      watchStreams.streamFailure(errors.fromCancelReason(reason), context.tokens, endpoint)
  }
})

const monotonicMillis = Effect.map(Clock.Clock, (clock) => () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6)

const nextTurn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** Opens the channels to all endpoints, and follows what happens to them. */
const openCluster = Effect.fnUntraced(
  function*(settings: Settings): Effect.fn.Return<endpoints.Endpoints, never, Scope.Scope> {
    const context = yield* Effect.context<never>()
    const now = yield* monotonicMillis
    const all: Array<endpoints.Endpoint> = []
    for (const [index, address] of settings.endpoints.entries()) {
      const opened = yield* channels.open(address, settings, {
        onSilent: () => cluster.failed(all[index]!, now(), errors.unanswered),
        onReplaced: () => cluster.succeeded(all[index]!, now())
      })
      all.push(endpoints.endpoint(address, opened))
    }
    // A random one, so that many clients do not all use the first.
    const first = yield* Random.nextIntBetween(0, all.length - 1)
    const cluster = endpoints.make(
      all,
      first,
      (endpoint, reason) => void Effect.runForkWith(context)(logChange(endpoint, reason))
    )
    return cluster
  }
)

const logChange = ({ address }: endpoints.Endpoint, reason: string | undefined): Effect.Effect<void> =>
  reason === undefined
    ? Effect.annotateLogs(Effect.logWarning("effect-kv: an endpoint answers again"), { endpoint: address })
    : Effect.annotateLogs(Effect.logWarning("effect-kv: an endpoint is down"), { endpoint: address, reason })

const makeTokens = (
  context: Omit<retry.RetryContext, "tokens">,
  settings: Settings,
  scope: Scope.Scope
): tokens.Tokens => {
  const { auth } = settings
  if (auth === undefined) return tokens.none
  let lastErrors = tokens.noErrors
  const authenticate = retry.run<tokens.Token>({ ...context, tokens: tokens.none }, {
    name: "authenticate",
    policy: "read",
    hasLeader: true,
    onBegin: (current) => lastErrors = current,
    send: (attempt) =>
      rpc.send<tokens.Token>(attempt, {
        path: "/etcdserverpb.Auth/Authenticate",
        request: encodeAuthenticate(auth.username, Redacted.value(auth.password)),
        decode: decodeToken
      }).pipe(Effect.catchIf(errors.isAuthDisabled, () => Effect.succeed(undefined)))
  })
  // It serves all waiters, so it must not end by the deadline of the one that was first.
  return tokens.make(Effect.provideService(authenticate, Deadline.Deadline, undefined), scope, () => lastErrors())
}
