/**
 * A client's connection to the members of one etcd cluster: the endpoints, tokens and identity of the store that its
 * operations, leases and watches share.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type * as KvError from "@effect-kv/core/KvError"
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
  /** Reports that a stream to the endpoint broke, so that later calls prefer another endpoint. */
  readonly reportStreamFailure: (endpoint: string, failure: errors.Failure) => void
  /** Classifies the failure of a stream. */
  readonly streamFailure: (failure: errors.Failure, endpoint?: string) => watchStreams.StreamFailure
  /** Classifies the `cancel_reason` of a watch response. `Compacted` is recognised earlier, by `compact_revision`. */
  readonly cancelFailure: (reason: string, endpoint?: string) => watchStreams.StreamFailure
  /** The last errors of the watch stream that is being opened, with their endpoints. */
  readonly openingErrors: tokens.LastErrors
  /** Completes when the layer's scope closes, before anything else of the connection is torn down. */
  readonly closed: Effect.Effect<void>
  /** Executes a call on some endpoint. */
  readonly run: <A, B>(call: retry.Call<A, B>) => Effect.Effect<B, KvError.KvError>
  /** The tokens, for the `etcd3` client. */
  readonly tokens: tokens.Tokens
  /** The store that the endpoints lead to. */
  readonly store: Store
  /** Ends all calls in flight and all connections. Must run first when the layer's scope closes. */
  readonly shutdown: Effect.Effect<void>
}

/** Opens the connection. Its channels connect on first use. */
export const make = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<Connection, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const closed = Latch.makeUnsafe()
  const channelScope = yield* Scope.make()
  const shutdown = Effect.suspend(() => {
    closed.openUnsafe()
    // Listeners of `closed` run first, so that watches end as closed rather than as broken.
    return Effect.andThen(nextTurn, Scope.close(channelScope, Exit.void))
  })
  yield* Scope.addFinalizer(scope, shutdown)
  const cluster = yield* Scope.provide(openCluster(settings), channelScope)
  const base = { endpoints: cluster, deadline: settings.deadline, closed, now }
  const context: retry.RetryContext = { ...base, tokens: makeTokens(base, settings, scope) }
  const opener = watchStreams.make(context)
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

/** Not Effect's clock: each of its readings makes a bigint. The layer runs on the machine's clock anyway. */
const now = (): number => performance.now()

const nextTurn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** Opens the channels to all endpoints, and records when they go down and recover. */
const openCluster = Effect.fnUntraced(
  function*(settings: Settings): Effect.fn.Return<endpoints.Endpoints, never, Scope.Scope> {
    const context = yield* Effect.context<never>()
    const all: Array<endpoints.Endpoint> = []
    for (const [index, address] of settings.endpoints.entries()) {
      const opened = yield* channels.open(address, settings, {
        onSilent: () => cluster.failed(all[index]!, now(), errors.unanswered),
        onReplaced: () => cluster.succeeded(all[index]!, now())
      })
      all.push(endpoints.endpoint(address, opened))
    }
    // The first endpoint is random, so that clients spread over all endpoints.
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
    ? Effect.annotateLogs(Effect.logWarning("effect-kv: an endpoint responds again"), { endpoint: address })
    : Effect.annotateLogs(Effect.logWarning("effect-kv: an endpoint is down"), { endpoint: address, reason })

const makeTokens = (
  context: Omit<retry.RetryContext, "tokens">,
  settings: Settings,
  scope: Scope.Scope
): tokens.Tokens => {
  const { auth } = settings
  if (auth === undefined) return tokens.none
  let lastErrors = tokens.noErrors
  const authenticate = retry.run<tokens.Token, tokens.Token>({ ...context, tokens: tokens.none }, {
    name: "authenticate",
    policy: "read",
    hasLeader: true,
    onBegin: (current) => lastErrors = current,
    finish: Effect.succeed,
    send: (attempt) =>
      rpc.send<tokens.Token>(attempt, {
        path: "/etcdserverpb.Auth/Authenticate",
        request: encodeAuthenticate(auth.username, Redacted.value(auth.password)),
        decode: decodeToken
      }).pipe(Effect.catchIf(errors.isAuthDisabled, () => Effect.succeed(undefined)))
  })
  // The request serves all waiters, so it must not inherit the deadline of the first one.
  return tokens.make(Effect.provideService(authenticate, Deadline.Deadline, undefined), scope, () => lastErrors())
}
