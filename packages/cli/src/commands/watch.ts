/** `effect-kv watch`: each change of a key or of the keys under a prefix, one line each. */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { Kv } from "@effect-kv/core/Kv"
import type * as Watch from "@effect-kv/core/Watch"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as connection from "../connection.ts"
import { printable } from "../inspect/cells.ts"
import * as output from "../output.ts"
import * as values from "../values.ts"
import * as flags from "./flags.ts"

export const watch = Command.make(
  "watch",
  {
    key: Argument.String("key").pipe(
      Argument.withDescription("The key, or with --under the prefix of the keys; default: all"),
      Argument.optional
    ),
    under: flags.prefix("Watches all keys that begin with it"),
    from: flags.revision("from", "Begins with the changes of this revision; default: from now on"),
    count: Flag.Int("count").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("Ends after this many changes"),
      Flag.filter((count) => count > 0, (count) => `--count must be a positive number, not ${count}`),
      Flag.optional
    )
  },
  Effect.fnUntraced(
    function*({ count, from, key, under }) {
      const kv = yield* Kv
      const range = Option.match(key, {
        onNone: () => KeyRange.all,
        onSome: (key) => under ? KeyRange.prefix(key) : KeyRange.key(key)
      })
      const subscription = yield* kv.subscribe(range, {
        startRevision: Option.getOrUndefined(from),
        resume: Schedule.spaced("1 second")
      })
      yield* output.progress(`watching from revision ${Option.getOrElse(from, () => subscription.revision + 1n)}`)
      yield* Effect.forkScoped(Stream.runForEach(Stream.drop(subscription.status, 1), tell))
      const events = Option.match(count, {
        onNone: () => subscription.events,
        onSome: (count) => Stream.take(subscription.events, count)
      })
      yield* Stream.runForEach(events, (event) => output.result(line(event), json(event)))
    },
    Effect.scoped,
    connection.onExistingStore
  )
).pipe(
  Command.withShortDescription("Prints each change"),
  Command.withDescription(
    "Prints each change, one line each: the revision, put or delete, the key and the value. It continues through outages " +
      "of the store without missing a change. If history that it needs was compacted, it ends with exit code 64."
  )
)

const tell = (status: Watch.Status): Effect.Effect<void> =>
  output.progress(
    status._tag === "Interrupted"
      ? "cut off from the store; the watch continues where it was as soon as the store is back"
      : "the watch is connected again"
  )

const line = (event: Watch.Event): string =>
  event._tag === "Delete"
    ? `${event.revision} delete ${printable(event.key)}`
    : `${event.revision} put ${printable(event.key)} ${valueOf(event.entry.value)}`

const valueOf = (bytes: Uint8Array): string => {
  const text = values.textOf(bytes)
  return text === undefined ? `(${bytes.length} bytes)` : printable(text)
}

const json = (event: Watch.Event): object =>
  event._tag === "Delete"
    ? { type: "delete", revision: event.revision, key: event.key }
    : { type: "put", revision: event.revision, isCreate: event.isCreate, ...values.entryToJson(event.entry) }
