/**
 * A client's connection to the members of one etcd cluster: the endpoints, tokens and identity of the store that its
 * operations, leases and watches share.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Settings } from "../settings.ts"
import { StoreIdentity } from "../store/storeIdentity.ts"
import { Suspicions } from "../store/storeProbe.ts"
import { decodeToken, encodeAuthenticate } from "../wire/authCodec.ts"
import type { Store } from "../wire/decoded.ts"
import * as Cluster from "./cluster.ts"
import * as errors from "./errors.ts"
import * as members from "./members.ts"
import { now } from "./now.ts"
import { RequestMetrics } from "./requestMetrics.ts"
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
  /** Whether a rejected password may be replaced by a valid one. */
  readonly passwordMayChange: boolean
  /** The addresses of the current endpoints. */
  readonly addresses: () => ReadonlyArray<string>
  /** Calls the listener after endpoints were removed. Returns a function that removes the listener. */
  readonly onEndpointRemoved: (listener: () => void) => () => void
  /** Ends all calls in flight and all connections. Must run first when the layer's scope closes. */
  readonly shutdown: Effect.Effect<void>
}

/** Opens the connection. Its channels connect on first use. */
export const make = Effect.fnUntraced(function*(settings: Settings): Effect.fn.Return<Connection, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const closed = Latch.makeUnsafe()
  const channelScope = yield* Scope.make()
  const latches = { due: Latch.makeUnsafe(), used: Latch.makeUnsafe() }
  const shutdown = Effect.suspend(() => {
    closed.openUnsafe()
    // Listeners of `closed` run first, so that watches end as closed rather than as broken.
    return Effect.andThen(nextTurn, Scope.close(channelScope, Exit.void))
  })
  yield* Scope.addFinalizer(scope, shutdown)
  const metrics = settings.meter === undefined ? undefined : new RequestMetrics(settings.meter)
  const cluster = yield* Scope.provide(Cluster.make(settings, () => latches.due.openUnsafe(), metrics), channelScope)
  const base = { endpoints: cluster.endpoints, deadline: settings.deadline, closed, now, metrics }
  const context: retry.RetryContext = { ...base, tokens: yield* makeTokens(base, settings, scope) }
  const store = { identity: new StoreIdentity(), suspicions: new Suspicions() }
  yield* Scope.provide(keepEndpoints(settings, cluster, context, store, latches), channelScope)
  const opener = watchStreams.make(context)
  const isUsed = (): void => void latches.used.openUnsafe()
  return {
    closed: closed.await,
    shutdown,
    tokens: context.tokens,
    store,
    passwordMayChange: settings.auth?.mayChange === true,
    addresses: cluster.addresses,
    onEndpointRemoved: cluster.onRemoved,
    run: (call) => {
      isUsed()
      return retry.run(context, call)
    },
    openWatchStream: (options) => {
      isUsed()
      return opener.open(options)
    },
    openingErrors: opener.lastErrors,
    reportStreamFailure: (address, failure) => {
      const { reason, reconnect, suspendEndpoint } = errors.classify(failure, address)
      const endpoint = cluster.endpoints.at(address)
      if (suspendEndpoint && endpoint !== undefined) {
        cluster.endpoints.failed(endpoint, now(), reason.message, reconnect)
      }
    },
    streamFailure: (failure, endpoint) => watchStreams.streamFailure(failure, context.tokens, endpoint),
    cancelFailure: (reason, endpoint) =>
      watchStreams.streamFailure(errors.fromCancelReason(reason), context.tokens, endpoint)
  }
})

const nextTurn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** Keeps the endpoints up to date: those of the options, and those of the member list. */
const keepEndpoints = Effect.fnUntraced(
  function*(
    settings: Settings,
    cluster: Cluster.Cluster,
    context: retry.RetryContext,
    store: Store,
    { due, used }: { readonly due: Latch.Latch; readonly used: Latch.Latch }
  ): Effect.fn.Return<void, never, Scope.Scope> {
    let given = settings.endpoints
    let discovered: ReadonlyArray<string> = []
    const changing = Semaphore.makeUnsafe(1)
    const change = changing.withPermit(
      Effect.suspend(() => cluster.replace([...new Set([...given, ...discovered])]))
    )
    const setDiscovered = (addresses: ReadonlyArray<string>): Effect.Effect<void> =>
      Effect.suspend(() => {
        discovered = addresses
        return change
      })
    yield* Effect.forkScoped(settings.followEndpoints((addresses) =>
      Effect.suspend(() => {
        given = addresses
        return change
      })
    ))
    if (settings.membersInterval === undefined) return
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    // Members of the old cluster must not lead back to it.
    const stop = store.identity.onReplaced(() => {
      runFork(setDiscovered([]))
      due.openUnsafe()
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    yield* Effect.forkScoped(members.follow({
      settings,
      context,
      store,
      used,
      due,
      given: () => given,
      discovered: () => discovered,
      setDiscovered
    }, settings.membersInterval))
  }
)

const makeTokens = Effect.fnUntraced(
  function*(
    context: Omit<retry.RetryContext, "tokens">,
    { auth, deadline }: Settings,
    scope: Scope.Scope
  ): Effect.fn.Return<tokens.Tokens> {
    if (auth === undefined) return tokens.none
    context.metrics?.usesTokens()
    let lastErrors = tokens.noErrors
    const authenticateWith = (password: Redacted.Redacted): Effect.Effect<tokens.Token, KvError.KvError> =>
      retry.run<tokens.Token, tokens.Token>({ ...context, tokens: tokens.none }, {
        name: "authenticate",
        policy: "read",
        hasLeader: true,
        onBegin: (current) => lastErrors = current,
        finish: Effect.succeed,
        send: (attempt) =>
          rpc.send<tokens.Token>(attempt, {
            path: "/etcdserverpb.Auth/Authenticate",
            request: encodeAuthenticate(auth.username, Redacted.value(password)),
            decode: decodeToken
          }).pipe(Effect.catchIf(errors.isAuthDisabled, () => Effect.succeed(undefined)))
      })
    const password = Effect.suspend(() => {
      lastErrors = () => ["the effect of auth.password has not returned"]
      return auth.password
    }).pipe(
      Effect.timeoutOrElse({
        duration: deadline,
        orElse: () => KvError.fail(new KvError.Unavailable({ message: "the effect of auth.password took too long" }))
      })
    )
    const authenticate = Effect.flatMap(password, (first) =>
      Effect.catchReason(
        authenticateWith(first),
        "KvError",
        "Unauthenticated",
        // The password may have changed since it was read.
        (_, error) =>
          Effect.flatMap(password, (second) =>
            Redacted.value(second) === Redacted.value(first) ? Effect.fail(error) : authenticateWith(second))
      ))
    // The request serves all callers, so it must inherit neither deadline nor cancellation of the first one.
    const layerContext = Context.add(yield* Effect.context<never>(), Deadline.Deadline, undefined)
    const counted = Effect.onExit(
      authenticate,
      (exit) => Effect.sync(() => context.metrics?.tokenRequested(Exit.isSuccess(exit) ? "renewed" : "failed"))
    )
    return tokens.make(Effect.setContext(counted, layerContext), scope, () => lastErrors())
  }
)
