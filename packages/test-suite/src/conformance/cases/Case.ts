/** Cases of the suite: what a case is, what it runs on, and the helpers that cases share. */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * The largest requests that the store accepts.
 *
 * @since 0.1.0
 */
export interface Limits {
  /** Operations in a transaction; etcd's default is 128. */
  readonly maxTxnOps: number
  /** Bytes of a request; etcd's default is 1.5 MiB. */
  readonly maxRequestBytes: number
}

/**
 * The limits of an etcd with default flags, and of the memory backend: 128 operations and 1.5 MiB.
 *
 * @since 0.1.0
 */
export const defaultLimits: Limits = { maxTxnOps: 128, maxRequestBytes: 1.5 * 1024 * 1024 }

/**
 * The store under test. No other client writes to it while the suite runs, and everything in it may be deleted.
 *
 * @since 0.1.0
 */
export class Store extends Context.Service<Store, {
  /** Opens a new client of the store, as if it were in another process. */
  readonly client: Effect.Effect<Kv.Kv, unknown, Scope.Scope>
  /** Compacts the store at the revision, and returns when older revisions can no longer be read. */
  readonly compact: (revision: bigint) => Effect.Effect<void, unknown>
  /**
   * Lets time pass for the leases of the store: `TestClock.adjust` if they follow Effect's clock, `Effect.sleep` if
   * they follow a server's.
   */
  readonly passTime: (duration: Duration.Input) => Effect.Effect<void>
  /** What the store accepts at most. */
  readonly limits: Limits
  /**
   * A client that cannot reach its store, and the cause that its errors must name, such as a refused connection.
   * `undefined` for a store without a network.
   */
  readonly unreachable?:
    | { readonly client: Effect.Effect<Kv.Kv, unknown, Scope.Scope>; readonly cause: RegExp }
    | undefined
}>()("@effect-kv/test-suite/Store") {}

/**
 * The services that cases need.
 *
 * @since 0.1.0
 */
export type Environment = Store | Scope.Scope

/**
 * One line of the contract, as a program that fails if the line does not hold.
 *
 * @since 0.1.0
 */
export interface Case {
  /** The part of the contract that it belongs to. */
  readonly chapter: string
  /** The line, in the words of the contract. */
  readonly title: string
  /** True if the case spends its time waiting, writes under its own keys, and can run beside other such cases. */
  readonly waits: boolean
  /** The test. It needs an empty store unless the case `waits`. */
  readonly run: Effect.Effect<void, unknown, Environment>
}

type Body = (kv: Kv.Kv) => Effect.fn.Return<void, unknown, Environment>

/** A case. Its body gets a new client. */
export const test = (title: string, body: Body): Omit<Case, "chapter"> => ({
  title,
  waits: false,
  run: Effect.flatMap(newClient, Effect.fnUntraced(body))
})

/** A case that mostly waits. Its keys must begin with a prefix that no other case uses. */
export const waitingTest = (title: string, body: Body): Omit<Case, "chapter"> => ({ ...test(title, body), waits: true })

/** The cases of one chapter of the contract. */
export const chapter = (
  chapter: string,
  cases: ReadonlyArray<Omit<Case, "chapter">>
): ReadonlyArray<Case> => cases.map((each) => ({ chapter, ...each }))

/** A new client of the store under test. */
export const newClient: Effect.Effect<Kv.Kv, unknown, Environment> = Effect.flatMap(Store, (store) => store.client)

/** The store's revision. */
export const revisionOf = (kv: Kv.Kv): Effect.Effect<bigint, KvError.KvError> =>
  Effect.map(kv.range(KeyRange.key("?"), { countOnly: true }), (response) => response.revision)

/** The reason for which the effect fails. It is a defect if the effect succeeds. */
export const reasonOf = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<KvError.Reason, unknown, R> =>
  Effect.matchEffect(effect, {
    onFailure: (error) =>
      KvError.isKvError(error)
        ? Effect.succeed(error.reason)
        : Effect.die(new Error(`not a KvError: ${String(error)}`)),
    onSuccess: () => Effect.die(new Error("expected a failure, but the effect succeeded"))
  })

type ReasonTag = KvError.Reason["_tag"]

/** Asserts that the call fails for this reason with a message, and leaves the store and the client as they were. */
export const rejects = Effect.fnUntraced(function*<A, E, R>(
  kv: Kv.Kv,
  tag: ReasonTag,
  call: Effect.Effect<A, E, R>
) {
  const before = yield* revisionOf(kv)
  const reason = yield* reasonOf(call)
  assert.strictEqual(reason._tag, tag, reason.message)
  assert.strictEqual(reason.outcome, "NotApplied")
  assert.isAbove(reason.message.length, 10, "the message says what was wrong")
  assert.strictEqual(
    yield* revisionOf(kv),
    before,
    "a rejected call changes nothing, and the client stays usable"
  )
  return reason
})

/** The real clock, whichever clock the case uses. */
const realClock = Clock.Clock.defaultValue()

/** Fails if the effect takes longer than 20 seconds of real time. */
export const promptly = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.clockWith((clock) =>
    Effect.raceFirst(
      Effect.provideService(effect, Clock.Clock, clock),
      Effect.provideService(
        Effect.flatMap(Effect.sleep("20 seconds"), () => Effect.die(new Error(`timed out waiting for: ${what}`))),
        Clock.Clock,
        realClock
      )
    )
  )

/** Lets time pass until the condition holds, for at most `atMost` steps of 250 ms. */
export const waitUntil = Effect.fnUntraced(function*<E, R>(
  what: string,
  condition: Effect.Effect<boolean, E, R>,
  atMost = 80
) {
  const store = yield* Store
  for (let i = 0; i < atMost; i++) {
    if (yield* condition) return
    yield* store.passTime("250 millis")
  }
  return yield* Effect.die(new Error(`timed out waiting for: ${what}`))
})
