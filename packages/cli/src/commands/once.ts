/** `effect-kv once`: runs a command once for a key. */
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { printable } from "../inspect/cells.ts"
import * as output from "../output.ts"
import * as args from "../run/arguments.ts"
import * as underHold from "../run/underHold.ts"

export const once = Command.make(
  "once",
  {
    key: Argument.String("key").pipe(Argument.withDescription("The key of the work, as for RunOnce.forKey")),
    description: args.description,
    ...args.common
  },
  (options) =>
    underHold.run(
      {
        title: `the run of ${JSON.stringify(options.key)}`,
        holders: Effect.map(RunOnce.status(options.key), (status) =>
          Option.toArray(Option.map(status, ({ description }) => printable(description))))
      },
      options,
      (body) =>
        Effect.flatMap(
          RunOnce.forKey(
            options.key,
            ({ name, token }) =>
              body({ name, key: `${name}/once/run`, token, lost: Effect.void }),
            {
              ttl: Option.getOrUndefined(options.ttl),
              maxHold: Option.getOrUndefined(options.maxHold),
              description: args.descriptionOf(options.description, options)
            }
          ),
          (result) =>
            Option.isSome(result) || options.quiet
              ? Effect.void
              : output.progress(`${JSON.stringify(options.key)} was done before; nothing to do`)
        )
    )
).pipe(
  Command.withShortDescription("Runs a command once for a key; done stays done"),
  Command.withDescription(
    "Runs the command and exits with its code, unless it has succeeded for this key before. If another process runs it, " +
      "waits for the outcome. If the command fails, the next call runs it again. The rest is as for the command lock."
  ),
  Command.withExamples([{ command: "effect-kv once migrate/42 -- ./migrate.sh 42" }])
)
