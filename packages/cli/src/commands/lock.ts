/** `effect-kv lock`: runs a command while it holds a lock. */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { printable } from "../inspect/cells.ts"
import * as listing from "../inspect/listing.ts"
import * as args from "../run/arguments.ts"
import * as underHold from "../run/underHold.ts"

export const lock = Command.make(
  "lock",
  {
    name: Argument.String("name").pipe(Argument.withDescription("The lock, as for DistLock and etcdctl lock")),
    acquireTimeout: args.acquireTimeout,
    description: args.description,
    ...args.common
  },
  (options) =>
    underHold.run(
      {
        title: `the lock ${JSON.stringify(options.name)}`,
        holders: Effect.map(DistLock.holder(options.name), (holder) => Option.toArray(Option.map(holder, described)))
      },
      options,
      (body) =>
        DistLock.use(options.name, body, {
          ...args.timesOf(options),
          description: args.descriptionOf(options.description, options)
        })
    )
).pipe(
  Command.withShortDescription("Runs a command while it holds a lock"),
  Command.withDescription(
    "Waits for the lock, then runs the command and exits with its code. If the lock is lost, the command is ended with " +
      "SIGTERM, then SIGKILL. It finds EFFECT_KV_NAME, EFFECT_KV_KEY and EFFECT_KV_TOKEN, the fencing token, in its " +
      "environment."
  ),
  Command.withExamples([
    { command: "effect-kv lock nightly --acquire-timeout 5m -- ./backup.sh --full" }
  ])
)

const described = (contender: DistLock.Contender): string =>
  `${listing.describe(contender) || printable(contender.key)} (token ${contender.token})`
