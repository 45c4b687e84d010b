/** `effect-kv ls`: the keys of the store in their order. */
import type { Entry } from "@effect-kv/core/Entry"
import * as KeyRange from "@effect-kv/core/KeyRange"
import { Kv } from "@effect-kv/core/Kv"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as connection from "../connection.ts"
import { printable } from "../inspect/cells.ts"
import * as output from "../output.ts"
import * as values from "../values.ts"
import * as flags from "./flags.ts"

export const ls = Command.make(
  "ls",
  {
    prefix: Argument.String("prefix").pipe(
      Argument.withDescription("Only keys that begin with this; default: all"),
      Argument.withDefault("")
    ),
    long: flags.on("long", "With revision, number of writes, lease and size").pipe(Flag.withAlias("l")),
    limit: Flag.Int("limit").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("At most this many keys"),
      Flag.filter((limit) => limit > 0, (limit) => `--limit must be a positive number, not ${limit}`),
      Flag.optional
    )
  },
  Effect.fnUntraced(function*({ limit, long, prefix }) {
    const kv = yield* Kv
    // etcd 3.7 does not report leases without values.
    const entries = kv.rangeStream(KeyRange.prefix(prefix), long ? {} : { keysOnly: true }).pipe(
      (all) => Option.match(limit, { onNone: () => all, onSome: (limit) => Stream.take(all, limit) })
    )
    yield* Stream.runForEach(
      entries,
      (entry) => output.result(long ? longLine(entry) : printable(entry.key), json(entry, long))
    )
  }, connection.onExistingStore)
).pipe(
  Command.withShortDescription("Lists keys"),
  Command.withDescription(
    "Lists the keys that begin with a prefix, all at one revision. Control characters in keys are escaped. With --json, " +
      "each key is one line of JSON."
  )
)

const longLine = (entry: Entry): string =>
  [
    `${entry.modRevision}`.padStart(10),
    `${entry.version}`.padStart(6),
    (values.leaseToJson(entry) ?? "-").padStart(16),
    `${entry.size}`.padStart(8),
    printable(entry.key)
  ].join(" ")

const json = (entry: Entry, long: boolean): object => ({
  key: entry.key,
  createRevision: entry.createRevision,
  modRevision: entry.modRevision,
  version: entry.version,
  ...long ? { lease: values.leaseToJson(entry), size: entry.size } : {}
})
