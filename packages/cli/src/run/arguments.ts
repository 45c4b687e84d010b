/**
 * The arguments of the commands that run another one: `NAME [flags] -- command arguments`.
 */
import * as Array from "effect/Array"
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stdio from "effect/Stdio"
import { hostname } from "node:os"
import { basename } from "node:path"
import * as durationFlag from "../durationFlag.ts"
import { UsageError } from "../exitCodes.ts"

/** The flags that all of them have. */
export const common = {
  command: Argument.String("command").pipe(
    Argument.withDescription("The command to run, and its arguments"),
    Argument.variadic()
  ),
  ttl: durationFlag.make("ttl").pipe(
    Flag.withDescription("How soon others notice that this process crashed; default: 10s"),
    Flag.optional
  ),
  maxHold: durationFlag.make("max-hold").pipe(
    Flag.withDescription("How long the command may run; default: no limit"),
    Flag.optional
  ),
  grace: durationFlag.make("grace").pipe(
    Flag.withDescription(
      "Time from SIGTERM to SIGKILL; default: while the lease lasts (a tenth of the TTL, at most 1s), 10s after --max-hold"
    ),
    Flag.optional
  ),
  quiet: Flag.Boolean("quiet").pipe(
    Flag.withAlias("q"),
    Flag.withDescription("Writes errors only"),
    Flag.withoutNegation,
    Flag.withDefault(false)
  )
}

/** How long to wait. */
export const acquireTimeout = durationFlag.make("acquire-timeout").pipe(
  Flag.withDescription("How long to wait for it; default: no limit"),
  Flag.optional
)

/** What others see of this process. */
export const description = Flag.String("description").pipe(
  Flag.withMetavar("TEXT"),
  Flag.withDescription("What others see of this process; default: its command, host, pid and the time"),
  Flag.optional
)

/** The values of {@link common}. */
export interface Common {
  readonly command: ReadonlyArray<string>
  readonly ttl: Option.Option<Duration.Duration>
  readonly maxHold: Option.Option<Duration.Duration>
  readonly grace: Option.Option<Duration.Duration>
  readonly quiet: boolean
}

/** The times that were given, as options of a recipe that waits for its turn. */
export const timesOf = (
  { acquireTimeout, maxHold, ttl }: Common & { readonly acquireTimeout: Option.Option<Duration.Duration> }
) => ({
  ttl: Option.getOrUndefined(ttl),
  acquireTimeout: Option.getOrUndefined(acquireTimeout),
  maxHold: Option.getOrUndefined(maxHold)
})

/**
 * The command. Fails with `UsageError` if it is not clear what the command is: a wrong guess would run it under a wrong
 * name.
 */
export const commandOf = Effect.fnUntraced(function*({ command }: Common) {
  const args = yield* Stdio.Stdio.use(({ args }) => args)
  const end = args.indexOf("--")
  const given = end < 0 ? [] : args.slice(end + 1)
  if (!Array.isReadonlyArrayNonEmpty(given)) {
    return yield* new UsageError({ message: "the command to run must follow --, as in: NAME -- command arguments" })
  }
  if (command.length < given.length) {
    return yield* new UsageError({ message: "the name is missing before --, as in: NAME -- command arguments" })
  }
  if (command.length > given.length) {
    return yield* new UsageError({
      message: `unexpected argument ${JSON.stringify(command[0])}: only the name is given before --`
    })
  }
  return given
})

/**
 * The description that was given or that identifies this process, with the time: the store has none, and `locks` shows
 * it. Arguments of the command may be secret, so they are left out.
 */
export const descriptionOf = (given: Option.Option<string>, { command }: Common): string =>
  Option.getOrElse(
    given,
    () =>
      `${basename(command[0] ?? "")} on ${hostname()}, pid ${process.pid}, since ${
        DateTime.formatIso(DateTime.nowUnsafe()).replace(/\.\d+/, "")
      }`
  )
