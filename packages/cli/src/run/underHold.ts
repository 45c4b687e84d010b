/**
 * Runs a command while something is held: shows a person what it waits for, gives the command what it needs to know, and
 * makes its exit code this program's.
 */
import type { Kv } from "@effect-kv/core/Kv"
import { LockLost, LockTimeout } from "@effect-kv/core/LockError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as connection from "../connection.ts"
import * as exitCodes from "../exitCodes.ts"
import * as output from "../output.ts"
import type { Signals } from "../signals.ts"
import * as args from "./arguments.ts"
import * as child from "./child.ts"

/** What is held while the command runs. */
export interface Held {
  readonly name: string
  readonly key: string
  readonly token: bigint
  /** Completes when it is lost. */
  readonly lost: Effect.Effect<unknown, unknown>
}

/** What is held, and what it waits for. */
export interface Subject<E> {
  /** For people, such as `the lock "nightly"`. */
  readonly title: string
  /** Who holds it now, for people. */
  readonly holders: Effect.Effect<ReadonlyArray<string>, E, Kv>
}

const defaultTtl = Duration.seconds(10)

/** How long a command may take to end after `--max-hold`, while it is still held. */
const graceAfterMaxHold = Duration.seconds(10)

/**
 * Acquires, and runs the command meanwhile. `use` gets the function that runs it. Fails with `Exit` if the command does
 * not succeed.
 */
export const run = Effect.fnUntraced(function*<E, E2>(
  subject: Subject<E>,
  options: args.Common,
  use: (body: (held: Held) => Effect.Effect<void, exitCodes.Exit, Signals>) => Effect.Effect<unknown, E2, Kv | Signals>
) {
  if (process.platform === "win32") {
    const message = "effect-kv cannot end a command and all it has started on Windows: run it in WSL"
    return yield* new exitCodes.UsageError({ message })
  }
  // Before anything is connected.
  const command = yield* args.commandOf(options)
  const { prefix } = yield* connection.settings
  const say = options.quiet ? () => Effect.void : output.progress
  yield* Effect.gen(function*() {
    const began = yield* Clock.currentTimeMillis
    const announcing = yield* Effect.forkScoped(announce(subject, say))
    let hasBegun = false
    const body = (held: Held) =>
      Effect.gen(function*() {
        hasBegun = true
        if (Exit.isSuccess(yield* cancelled(announcing))) {
          const waited = Duration.millis((yield* Clock.currentTimeMillis) - began)
          yield* say(`acquired ${subject.title} after ${Duration.format(waited)}`)
        }
        const code = yield* child.run(command, { env: environment(held, prefix), grace: graceOf(held, options) })
        if (code !== 0) return yield* new exitCodes.Exit({ code })
      })
    yield* use(body).pipe(
      Effect.tapError((error) =>
        error instanceof LockTimeout && Option.isNone(error.storeFailure)
          ? Effect.flatMap(heldBy(subject), (holders) => output.progress(`gave up ${subject.title}${holders}`))
          : Effect.void
      ),
      Effect.mapError((error) =>
        error instanceof LockLost && !hasBegun ? new exitCodes.PlaceLost({ message: placeLost(error) }) : error
      )
    )
  }).pipe(Effect.scoped, connection.onStore)
})

const placeLost = ({ message }: LockLost): string =>
  `the place in the queue was lost, and the command did not run: ${message}`

/** Interrupts a fiber, and returns how it ended: it may have done its work before. */
const cancelled = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<Exit.Exit<A, E>> =>
  Effect.andThen(Fiber.interrupt(fiber), Fiber.await(fiber))

/** How long to wait before a person is notified. */
const patience = Duration.millis(500)

const announce = <E>(subject: Subject<E>, say: (message: string) => Effect.Effect<void>) =>
  Effect.gen(function*() {
    yield* Effect.sleep(patience)
    yield* say(`waiting for ${subject.title}${yield* heldBy(subject)}`)
  })

/** Who holds it, as the end of a sentence. What cannot be read now is reported by the attempt to acquire it. */
const heldBy = <E>({ holders }: Subject<E>): Effect.Effect<string, never, Kv> =>
  Effect.map(
    Effect.orElseSucceed(holders, () => []),
    (names) => names.length === 0 ? "" : `, held by ${names.join("; ")}`
  )

/** The variables of the command. Those of `etcdctl lock` are set, too: scripts written for it run unchanged. */
const environment = ({ key, name, token }: Held, prefix: string): Readonly<Record<string, string>> => ({
  EFFECT_KV_NAME: name,
  EFFECT_KV_KEY: `${prefix}${key}`,
  EFFECT_KV_TOKEN: `${token}`,
  ETCD_LOCK_KEY: `${prefix}${key}`,
  ETCD_LOCK_REV: `${token}`
})

const graceOf = ({ lost }: Held, { grace, ttl }: args.Common): Effect.Effect<void> => {
  if (Option.isSome(grace)) return Effect.sleep(grace.value)
  const tenth = Duration.divideUnsafe(Option.getOrElse(ttl, () => defaultTtl), 10)
  return Effect.raceFirst(
    Effect.andThen(Effect.exit(lost), Effect.sleep(Duration.min(tenth, Duration.seconds(1)))),
    Effect.sleep(graceAfterMaxHold)
  )
}
