/**
 * The configuration under a prefix as the store has it, followed for as long as the scope is open.
 *
 * A view of the range does the work: it survives outages, compactions and restored stores. What ends a view, such as a
 * revoked permission, does not end this: the last snapshot stays in use, and the view is opened again.
 */
import * as ConfigProvider from "effect/ConfigProvider"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { KvBackend } from "../../backend/KvBackend.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as KvError from "../../values/KvError.ts"
import * as spans from "../tracing/spans.ts"
import type { Snapshot } from "../view/model.ts"
import * as rangeView from "../view/rangeView.ts"
import * as configTree from "./configTree.ts"
import type { Options } from "./model.ts"

/** The configuration at one revision. */
export interface Configuration {
  readonly revision: bigint
  readonly provider: ConfigProvider.ConfigProvider
}

/** The newest configuration known, and whether it is kept current. */
export interface Following {
  readonly newest: Configuration
  readonly staleSince: Option.Option<DateTime.Utc>
  /** True once nothing will change any more. */
  readonly isEnded: boolean
}

/** The range of a configuration. */
export const rangeOf = (prefix: string): Effect.Effect<KeyRange.KeyRange, KvError.KvError> => {
  const range = KeyRange.prefix(prefix)
  const problem = KeyRange.invalid(range) ??
    (prefix === "" || prefix.endsWith("/")
      ? undefined
      : `the prefix of a configuration must end with a slash, as in ${JSON.stringify(`${prefix}/`)}: ` +
        `without it, keys of other programs could begin with the same characters`)
  return problem === undefined
    ? Effect.succeed(range)
    : KvError.fail(new KvError.InvalidRequest({ message: problem }))
}

/** Parses nothing yet. The provider stays at the snapshot's revision. */
export const configurationOf = (
  prefix: string,
  { entries, revision }: Snapshot,
  options: Options | undefined
): Configuration => {
  const store = configTree.provider(prefix, entries, options?.preserveEmptyStrings === true)
  return { revision, provider: options?.transform === undefined ? store : options.transform(store) }
}

/** Current when this returns. Fails only if the range cannot be read at first. */
export const open = Effect.fnUntraced(function*(
  backend: KvBackend,
  prefix: string,
  options: Options | undefined
): Effect.fn.Return<SubscriptionRef.SubscriptionRef<Following>, KvError.KvError, Scope.Scope> {
  const range = yield* rangeOf(prefix)
  const outer = yield* Effect.scope
  const openView = Effect.fnUntraced(function*(openIn: typeof rangeView.open) {
    const scope = yield* Scope.fork(outer)
    const view = yield* Scope.provide(openIn(backend, range), scope).pipe(
      Effect.onExit((exit) => Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void)
    )
    return { scope, view }
  })

  const first = yield* openView(rangeView.open)
  let snapshot = yield* first.view.snapshot
  const following = yield* SubscriptionRef.make<Following>({
    newest: configurationOf(prefix, snapshot, options),
    staleSince: Option.none(),
    isEnded: false
  })

  /** If `transform` throws, every parse of that revision does, so live values keep their last good ones. */
  const configurationNow = Effect.suspend(() => {
    const { revision } = snapshot
    return Effect.catchDefect(
      Effect.sync(() => configurationOf(prefix, snapshot, options)),
      (defect): Effect.Effect<Configuration> =>
        Effect.succeed({ revision, provider: ConfigProvider.make(() => Effect.die(defect)) })
    )
  })

  const apply = Effect.fnUntraced(function*(state: rangeView.State) {
    const { newest } = yield* SubscriptionRef.get(following)
    const isNew = state.snapshot !== snapshot
    snapshot = state.snapshot
    yield* SubscriptionRef.set(following, {
      newest: isNew ? yield* configurationNow : newest,
      staleSince: state.staleSince,
      isEnded: false
    })
  })

  const staleFromNow = (isEnded: boolean) =>
    Effect.flatMap(DateTime.now, (now) =>
      SubscriptionRef.update(following, ({ newest, staleSince }): Following => ({
        newest,
        staleSince: Option.orElseSome(staleSince, () => now),
        isEnded
      })))

  const follow = Effect.gen(function*() {
    let opened = first
    while (true) {
      const error = yield* Effect.flip(Stream.runForEach(opened.view.states, apply)).pipe(
        Effect.ensuring(Scope.close(opened.scope, Exit.void))
      )
      if (isClosed(error)) return
      yield* staleFromNow(false)
      yield* Effect.sleep(firstPause)
      // In the background, long after the span in which the configuration was first read has ended.
      opened = yield* Effect.retry(spans.without(openView(rangeView.openPatiently)), {
        schedule: reopenSchedule,
        while: (error) => !isClosed(error)
      })
      yield* Effect.annotateLogs(Effect.logInfo("effect-kv: the configuration is followed again"), { prefix })
    }
  })

  yield* Effect.forkScoped(Effect.ensuring(Effect.ignore(follow), staleFromNow(true)), { startImmediately: true })
  return following
})

const isClosed = (error: KvError.KvError): boolean => error.reason._tag === "Closed"

const firstPause = "500 millis"

const reopenSchedule = Schedule.min([Schedule.exponential(firstPause), Schedule.spaced("30 seconds")])
