/** `effect-kv semaphore`: runs a command while it holds permits of a semaphore. */
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import { printable } from "../inspect/cells.ts"
import * as args from "../run/arguments.ts"
import * as underHold from "../run/underHold.ts"

export const semaphore = Command.make(
  "semaphore",
  {
    name: Argument.String("name").pipe(Argument.withDescription("The semaphore, as for DistSemaphore")),
    permits: Flag.Int("permits").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many permits the semaphore has: the same for every process")
    ),
    weight: Flag.Int("weight").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("How many of them the command needs; default: 1"),
      Flag.withDefault(1)
    ),
    acquireTimeout: args.acquireTimeout,
    description: args.description,
    ...args.common
  },
  (options) => {
    const { name, permits, weight } = options
    const semaphore = DistSemaphore.make(name, { permits })
    return underHold.run(
      {
        title: `${weight === 1 ? "a permit" : `${weight} permits`} of ${JSON.stringify(name)}`,
        holders: Effect.flatMap(semaphore, ({ holders }) => Effect.map(holders, (holders) => holders.map(described)))
      },
      options,
      (body) =>
        Effect.flatMap(semaphore, (semaphore) =>
          semaphore.use(weight, body, {
            ...args.timesOf(options),
            description: args.descriptionOf(options.description, options)
          }))
    )
  }
).pipe(
  Command.withShortDescription("Runs a command while it holds permits of a semaphore"),
  Command.withDescription(
    "Waits for the permits, runs the command, and exits with its code. Everything else is as for the command lock."
  ),
  Command.withExamples([{ command: "effect-kv semaphore imports --permits 4 -- ./import.sh" }])
)

const described = ({ description, key, token }: DistSemaphore.Contender): string =>
  `${printable(description === "" ? key : description)} (token ${token})`
