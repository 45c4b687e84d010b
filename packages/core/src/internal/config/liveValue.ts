/**
 * The value of a config, kept current: the last good one, and why a newer one is not in use.
 */
import type * as Cause from "effect/Cause"
import type * as Config from "effect/Config"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as describeRejection from "./describeRejection.ts"
import type { Configuration, Following } from "./followedConfig.ts"
import type { Live, Rejected, State } from "./model.ts"
import { RejectedOf, StateOf } from "./printedState.ts"
import * as recordedParse from "./recordedParse.ts"

/** A state, and whether it is the last. */
interface Known<A> {
  readonly state: State<A>
  readonly isEnded: boolean
}

/** Fails if the config does not parse now: there is no good value yet. */
export const make = Effect.fnUntraced(function*<A>(
  prefix: string,
  following: SubscriptionRef.SubscriptionRef<Following>,
  config: Config.Config<A>
): Effect.fn.Return<Live<A>, Config.ConfigError, Scope.Scope> {
  const { newest: first, staleSince } = yield* SubscriptionRef.get(following)
  const firstParse = yield* recordedParse.parse(config, first.provider)
  const known = yield* SubscriptionRef.make<Known<A>>({
    state: new StateOf({
      value: yield* firstParse.exit,
      revision: first.revision,
      rejected: Option.none(),
      staleSince
    }),
    isEnded: false
  })
  let parsed = first
  let goodLoads = firstParse.loads

  const parse = Effect.fnUntraced(function*(newest: Configuration, state: State<A>) {
    const { exit, loads } = yield* recordedParse.parse(config, newest.provider)
    parsed = newest
    if (Exit.isFailure(exit)) {
      return { ...state, rejected: Option.some(yield* reject(prefix, newest, exit.cause, state.rejected)) }
    }
    if (Option.isSome(state.rejected)) yield* logAccepted(prefix, newest.revision)
    const value = recordedParse.areSame(loads, goodLoads) ? state.value : exit.value
    goodLoads = loads
    return { ...state, value, revision: newest.revision, rejected: Option.none() }
  })

  const apply = Effect.fnUntraced(function*({ newest, staleSince }: Following) {
    const { state } = yield* SubscriptionRef.get(known)
    const next = newest === parsed ? state : yield* parse(newest, state)
    yield* SubscriptionRef.set(known, { state: new StateOf({ ...next, staleSince }), isEnded: false })
  })

  const end = Effect.flatMap(DateTime.now, (now) =>
    SubscriptionRef.update(known, ({ state }): Known<A> => ({
      state: new StateOf({ ...state, staleSince: Option.orElseSome(state.staleSince, () => now) }),
      isEnded: true
    })))

  yield* SubscriptionRef.changes(following).pipe(
    Stream.buffer({ capacity: 1, strategy: "sliding" }),
    Stream.takeUntil(({ isEnded }) => isEnded),
    Stream.runForEach(apply),
    Effect.ensuring(end),
    Effect.forkScoped({ startImmediately: true })
  )

  const states = SubscriptionRef.changes(known).pipe(
    Stream.buffer({ capacity: 1, strategy: "sliding" }),
    Stream.takeUntil(({ isEnded }) => isEnded),
    Stream.map(({ state }) => state)
  )
  const state = Effect.map(SubscriptionRef.get(known), ({ state }) => state)
  return {
    get: Effect.map(state, ({ value }) => value),
    state,
    states,
    changes: Stream.changesWith(Stream.map(states, ({ value }) => value), Object.is)
  }
})

/** Logs a warning, unless the configuration before was rejected for the same reason. */
const reject = Effect.fnUntraced(function*(
  prefix: string,
  { provider, revision }: Configuration,
  cause: Cause.Cause<Config.ConfigError>,
  before: Option.Option<Rejected>
) {
  const message = yield* describeRejection.describe(cause, provider)
  const since = Option.isSome(before) ? before.value.since : yield* DateTime.now
  if (!Option.exists(before, (rejected) => rejected.message === message)) {
    yield* Effect.annotateLogs(
      Effect.logWarning("effect-kv: a configuration was rejected; the last good value stays in use", message),
      { prefix, revision: `${revision}` }
    )
  }
  return new RejectedOf({ revision, message, since })
})

const logAccepted = (prefix: string, revision: bigint): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logInfo("effect-kv: the configuration is good again"),
    { prefix, revision: `${revision}` }
  )
