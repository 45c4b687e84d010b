/** `effect-kv elect`: runs a command while it leads an election. */
import * as Election from "@effect-kv/core/Election"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { printable } from "../inspect/cells.ts"
import * as args from "../run/arguments.ts"
import * as underHold from "../run/underHold.ts"

export const elect = Command.make(
  "elect",
  {
    name: Argument.String("name").pipe(Argument.withDescription("The election, as for Election and etcdctl elect")),
    value: Flag.String("value").pipe(
      Flag.withMetavar("TEXT"),
      Flag.withDescription("What observers see of this candidate; default: its command, host and pid"),
      Flag.optional
    ),
    acquireTimeout: args.acquireTimeout,
    ...args.common
  },
  (options) =>
    underHold.run(
      {
        title: `the leadership of ${JSON.stringify(options.name)}`,
        holders: Effect.map(Election.leader(options.name), (leader) => Option.toArray(Option.map(leader, described)))
      },
      options,
      (body) =>
        Election.use(options.name, body, {
          ...args.timesOf(options),
          value: args.descriptionOf(options.value, options)
        })
    )
).pipe(
  Command.withShortDescription("Runs a command while it leads an election"),
  Command.withDescription(
    "Campaigns, runs the command while it leads, and exits with its code. Everything else is as for the command lock."
  ),
  Command.withExamples([{ command: "effect-kv elect billing --value 10.0.0.7:8080 -- ./worker" }])
)

const described = ({ key, token, value }: Election.Candidate): string =>
  `${printable(value === "" ? key : value)} (token ${token})`
